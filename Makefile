# Weir. `make help` lists the targets. Objects live in build/$(MODE); nothing else is written but ./weir.
MODE    ?= release
DEPS    ?= 1
CC      := gcc
NVCC    := $(shell command -v nvcc 2>/dev/null)
B       := build/$(MODE)
Q       := $(if $(V),,@)
GEN     := build/gen

WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
           -Wvla -Wundef -Werror
CFLAGS  := -std=c11 -D_GNU_SOURCE $(WARN) -O2 -g -fno-math-errno -ffp-contract=off -fno-omit-frame-pointer \
           -I. -I$(GEN) -MMD -MP
LIBS    := -lzmq -lrocksdb -lprotobuf-c -lpcre2-8 -lyaml -lxxhash -lutf8proc -ldl -lpthread -lm
LDFLAGS := -Wl,--as-needed $(foreach s,err_set log_write kern_elements kern_dtype_bytes clock_us clock_sleep_us 'rendezvous_*',-Wl,--export-dynamic-symbol=$(s))
ifeq ($(MODE),asan)
CFLAGS  += -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif
ifeq ($(MODE),tsan)
CFLAGS  += -O1 -fsanitize=thread
LDFLAGS += -fsanitize=thread
endif
ifeq ($(MODE),debug)
CFLAGS  += -O0
endif
# The other compiler, under sanitizers and with what the fuzzers need: one build for all three.
ifeq ($(MODE),clang)
CC      := clang
CXX     := clang++
CFLAGS  += -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif

LIBDIRS := base proto proto/metrics proto/recipe kernels kernels/ref kernels/cpu actor/text actor relay \
           reward/math reward/verify reward rollout/engine rollout/setup rollout/log rollout/manager rollout \
           trainer/ranks trainer/optim trainer/batch trainer/checkpoint trainer/learn trainer \
           deploy/supervise deploy/evaluate deploy/preflight deploy/replay deploy/progress deploy/cli
SRC     := $(filter-out deploy/cli/main.c,$(wildcard $(addsuffix /*.c,$(LIBDIRS))))
PROTO   := $(wildcard proto/*.proto)
GENC    := $(PROTO:%.proto=$(GEN)/%.pb-c.c)
OBJ     := $(SRC:%.c=$(B)/%.o) $(PROTO:%.proto=$(B)/gen/%.pb-c.o)
TESTSRC := $(wildcard tests/*.c tests/unit/*.c tests/op/*.c tests/golden/*.c tests/sim/*.c)
BENCHSRC := $(wildcard bench/*.c)
FUZZERS := $(patsubst tests/fuzz/%_fuzz.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
TESTBIN := $(B)/weir-test
WEIR    := $(if $(filter release,$(MODE)),weir,$(B)/weir)

CUDASRC := $(wildcard kernels/cuda/*.cu)
PLUGIN  := $(dir $(WEIR))weir-cuda.so
CUDASIM := $(B)/weir-cudasim.so $(B)/nccl-double.so
TESTSO  := $(CUDASIM) $(if $(NVCC),$(B)/weir-cuda.so)
NVFLAGS := -std=c++20 -O3 -I. -MMD -MP -cudart static -Werror all-warnings \
           -Xcompiler -fPIC,-Wall,-Wextra,-Wno-missing-field-initializers,-Werror \
           -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
           -gencode arch=compute_100,code=[sm_100,compute_100]
SIMFLAGS := -x c++ -std=c++20 -Itests/cudasim -fPIC -Wall -Wextra -Werror -Wno-missing-field-initializers \
           $(filter -O% -g -f% -I. -M%,$(CFLAGS))

all: $(WEIR) $(if $(NVCC),$(PLUGIN),cuda-notice) ## build ./weir, and weir-cuda.so beside it where nvcc is

# An archive, so that a test or tool pulls in only what it names.
$(B)/libweir.a: $(OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(WEIR): $(B)/deploy/cli/main.o $(B)/libweir.a
	@echo "link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(TESTBIN): $(TESTSRC:%.c=$(B)/%.o) $(B)/libweir.a
	@echo "link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/weir-bench: $(BENCHSRC:%.c=$(B)/%.o) $(B)/libweir.a
	@echo "link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# The CUDA plugin: for GPUs by nvcc, and for the op suite by the C++ compiler (tests/cudasim).
$(PLUGIN): $(CUDASRC:%.cu=build/cuda/%.o)
	@echo "link $@"
	$(Q)$(NVCC) -shared -cudart static -o $@ $^

# The tests look for it beside their own executable too.
ifneq ($(PLUGIN),$(B)/weir-cuda.so)
$(B)/weir-cuda.so: $(PLUGIN)
	$(Q)ln -sf ../../weir-cuda.so $@
endif

build/cuda/%.o: %.cu
	@mkdir -p $(@D)
	@echo "nvcc $<"
	$(Q)$(NVCC) $(NVFLAGS) -c -o $@ $<

$(B)/weir-cudasim.so: $(CUDASRC:%.cu=$(B)/sim/%.o) $(addprefix $(B)/sim/tests/cudasim/,sim.o runtime.o arena.o)
	@echo "link $@"
	$(Q)$(CXX) -shared $(filter -fsanitize%,$(LDFLAGS)) -o $@ $^

# Stands in for NCCL in tests: the loader takes a library that is there under the name asked for.
$(B)/nccl-double.so: $(B)/sim/tests/cudasim/nccl/double.o
	@echo "link $@"
	$(Q)$(CXX) -shared -Wl,-soname,libnccl.so.2 $(filter -fsanitize%,$(LDFLAGS)) -o $@ $^

$(B)/sim/%.o: %.cu
	@mkdir -p $(@D)
	@echo "cc $<"
	$(Q)$(CXX) $(SIMFLAGS) -c -o $@ $<

$(B)/sim/%.o: %.cc
	@mkdir -p $(@D)
	$(Q)$(CXX) $(SIMFLAGS) -c -o $@ $<

cuda-notice:
	@echo "nvcc is not here: weir is built for the CPU only"

# The staleness study: one run with staleness injected. bench/study_alignment runs the grid.
$(B)/study_alignment: $(B)/bench/study/study.o $(B)/libweir.a
	@echo "link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# One kernel source per instruction set: the suffix names it, kernels/cpu chooses at run time.
$(B)/%_avx2.o: CFLAGS += -O3 -mavx2 -mfma
$(B)/%_avx512.o: CFLAGS += -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512

$(B)/%.o: %.c $(GENC) | build/.deps
	@mkdir -p $(@D)
	@echo "cc $<"
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

$(B)/gen/%.o: $(GEN)/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(filter-out $(WARN),$(CFLAGS)) -c -o $@ $<

$(GEN)/%.pb-c.c: %.proto | build/.deps
	@mkdir -p $(GEN)
	protoc-c --c_out=$(GEN) $<

# Order-only everywhere: whether packages were looked at says nothing about the age of an object. DEPS=0 leaves no mark,
# so that a later plain `make` still looks.
build/.deps build/.tools: deploy/deps.sh
	@mkdir -p build
	@if [ "$(DEPS)" = 1 ]; then deploy/deps.sh $(patsubst build/.%,%,$@) && touch $@; fi

test: all $(TESTBIN) $(B)/weir-bench $(TESTSO) ## build and run all tests; ends with "N passed, N failed, N skipped"
	tests/run.sh $(TESTBIN) ./$(WEIR)

check: $(TESTBIN) $(TESTSO) ## only the unit, op and golden tests
	$(TESTBIN)

asan: ## all tests under address and undefined sanitizers
	$(MAKE) MODE=asan test

tsan: ## queues, loop and services under the thread sanitizer
	$(MAKE) MODE=tsan all build/tsan/weir-test
	tests/tsan.sh build/tsan/weir-test build/tsan/weir

$(B)/fuzz/%: $(B)/tests/fuzz/%_fuzz.o $(B)/libweir.a
	@mkdir -p $(@D)
	@echo "link $@"
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

fuzz: | build/.deps build/.tools ## every fuzzer, FUZZ_SECONDS (60) each
	$(MAKE) MODE=clang fuzzers
	tests/fuzz/run.sh build/clang/fuzz -max_total_time=$(or $(FUZZ_SECONDS),60)

fuzzers: $(FUZZERS)

clang: | build/.tools ## clang's warnings, its sanitizers on the unit tests, each fuzzer FUZZ_RUNS (20000) times
	$(MAKE) MODE=clang check fuzzers
	tests/fuzz/run.sh build/clang/fuzz -seed=1 -runs=$(or $(FUZZ_RUNS),20000)

nightly: ## what takes hours or depends on luck: sanitizers on whole runs, long fuzzing, other seeds
	$(MAKE) asan
	$(MAKE) tsan
	$(MAKE) fuzz FUZZ_SECONDS=$(or $(FUZZ_SECONDS),900)
	tests/seeds.sh
	tests/soak.sh

# What tests/gpu.sh carries to a machine with a GPU; the simulated device too, for its dry run.
gpu-bundle: all $(TESTBIN) $(B)/weir-bench $(CUDASIM) ## build/gpu: all that tests/gpu.sh needs on a machine with a GPU
	scripts/gpu_bundle.sh build/gpu $(WEIR) $(TESTBIN) $(B)/weir-bench $(PLUGIN) $(B)/weir-cudasim.so

bench: all $(B)/weir-bench ## benchmarks, JSON on stdout
	bench/run.sh $(B)/weir-bench ./$(WEIR)

lint: $(OBJ) | build/.tools ## formatting, layers, lengths, banned calls, symbol prefixes, shell scripts
	scripts/lint.sh $(B)

fmt: | build/.tools ## clang-format every source
	clang-format -i $(shell git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh')

# The executable looks for its plugin beside itself, so bin/ has a link to where both are.
PREFIX  ?= /usr/local
TO      := $(DESTDIR)$(PREFIX)
install: all ## into PREFIX (/usr/local), below DESTDIR: weir, its plugin, manual pages, completion, recipes
	install -d $(TO)/bin $(TO)/lib/weir $(TO)/share/weir/recipes $(TO)/share/doc/weir $(TO)/share/man/man1 \
	    $(TO)/share/bash-completion/completions $(TO)/share/zsh/site-functions
	install -m 755 $(WEIR) $(TO)/lib/weir/weir
	$(if $(NVCC),install -m 755 $(PLUGIN) $(TO)/lib/weir/weir-cuda.so)
	ln -sf ../lib/weir/weir $(TO)/bin/weir
	cp -R recipes/. $(TO)/share/weir/recipes/
	install -m 644 README.md LICENSE docs/*.md $(TO)/share/doc/weir/
	./$(WEIR) manual >$(TO)/share/man/man1/weir.1
	for v in $$(./$(WEIR) manual --list); do ./$(WEIR) manual $$v >$(TO)/share/man/man1/weir-$$v.1; done
	./$(WEIR) manual --completion bash >$(TO)/share/bash-completion/completions/weir
	./$(WEIR) manual --completion zsh >$(TO)/share/zsh/site-functions/_weir

uninstall: ## removes what install put there
	rm -rf $(TO)/lib/weir $(TO)/share/weir $(TO)/share/doc/weir
	rm -f $(TO)/bin/weir $(TO)/share/man/man1/weir.1 $(TO)/share/man/man1/weir-*.1 \
	    $(TO)/share/bash-completion/completions/weir $(TO)/share/zsh/site-functions/_weir

# For clangd and the like: how each C file is compiled.
compile_commands.json: Makefile $(GENC)
	@sep='['; for f in $(SRC) deploy/cli/main.c $(TESTSRC) $(BENCHSRC); do \
	    case $$f in *_avx2.c) more='-mavx2 -mfma' ;; *_avx512.c) more='-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma' ;; *) more= ;; esac; \
	    printf '%s\n{"directory": "%s", "file": "%s", "command": "%s %s %s -c %s"}' \
	        "$$sep" '$(CURDIR)' "$$f" '$(CC)' '$(filter-out -MMD -MP,$(CFLAGS))' "$$more" "$$f"; sep=','; \
	done >$@; printf '\n]\n' >>$@

quickstart: $(WEIR) ## the main job: a tiny policy gets measurably better, about a minute
	@scripts/quickstart.sh

clean: ## remove everything that was built
	rm -rf build weir weir-cuda.so compile_commands.json

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: all cuda-notice gpu-bundle test check asan tsan fuzz fuzzers clang nightly bench lint fmt install uninstall \
        quickstart clean help
.SECONDARY:
-include $(shell find build -name '*.d' 2>/dev/null)
