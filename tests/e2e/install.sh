# What `make install` puts below DESTDIR works from there: the program, a recipe of the examples, a manual page for each verb
# with all of its options, completion. `make uninstall` leaves nothing.
. tests/e2e/common.bash
case $WEIR in */build/*/weir | build/*/weir) mode=$(basename "$(dirname "$WEIR")") ;; *) mode=release ;; esac
root=$DIR/root prefix=/opt/weir
at=$root$prefix
install() { env -u MAKEFLAGS -u MAKELEVEL make -s DEPS=0 MODE="$mode" DESTDIR="$root" PREFIX="$prefix" "$1"; }
install install >"$DIR/log" 2>&1 || fail "make install: $(tail "$DIR/log")"

[ "$("$at/bin/weir" version)" = "$("$WEIR" version)" ] || fail "another version"
(cd "$at/share/weir" && "$at/bin/weir" sft --recipe recipes/quickstart-sft.yaml --set trainer.steps=2 --out "$DIR/sft") \
    >"$DIR/log" 2>&1 || fail "sft: $(tail "$DIR/log")"
[ -s "$DIR/sft/model.safetensors" ] || fail "no model"

verbs=$("$WEIR" --help | sed -nE 's/^  ([a-z]+) .*/\1/p')
[ "$(wc -w <<<"$verbs")" -ge 14 ] || fail "verbs: $verbs"
for verb in $verbs; do
    page=$at/share/man/man1/weir-$verb.1
    grep -q '^.SH NAME' "$page" || fail "no page of $verb"
    grep -q "weir.-$verb" "$at/share/man/man1/weir.1" || fail "$verb is not in weir.1"
    "$WEIR" "$verb" --help | sed -nE 's/^  --([a-z-]+) .*/\1/p' | while read -r option; do
        grep -q -- "^.fB.-.-${option//-/.-}.fR" <(sed 's/\\/./g' "$page") || fail "$verb: no --$option in its page"
        grep -qE "^        $verb\) words=.*--$option " "$at/share/bash-completion/completions/weir" || fail "$verb: --$option in bash"
        grep -qF -- "--${option}[" "$at/share/zsh/site-functions/_weir" || fail "$verb: --$option in zsh"
    done
done
complete_words() { # what bash offers behind these words
    bash -c '. "$1"; shift; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _weir; echo "${COMPREPLY[*]}"' \
        - "$at/share/bash-completion/completions/weir" "$@"
}
[ "$(complete_words weir ver)" = version ] || fail "completes ver as: $(complete_words weir ver)"
[ "$(complete_words weir run --res)" = --resume ] || fail "completes --res as: $(complete_words weir run --res)"
if command -v zsh >/dev/null; then zsh -n "$at/share/zsh/site-functions/_weir" || fail "zsh"; fi

install uninstall >"$DIR/log" 2>&1 || fail "make uninstall: $(tail "$DIR/log")"
[ -z "$(find "$root" ! -type d)" ] || fail "left behind: $(find "$root" ! -type d)"

[ -e compile_commands.json ] && kept=1
env -u MAKEFLAGS -u MAKELEVEL make -s DEPS=0 compile_commands.json >/dev/null || fail "compile_commands.json"
grep -q '"file": "base/err.c", "command": "gcc -std=c11 ' compile_commands.json || fail "compile_commands.json: $(head -n 3 compile_commands.json)"
[ -n "${kept:-}" ] || rm -f compile_commands.json
