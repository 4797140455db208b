/* record.cu - recording what is issued on a stream, and replaying it: CUDA graphs.
 *
 * A decode step is some hundred launches of a few microseconds each, so issuing them one by one
 * costs more than they do. The stream is captured in thread-local mode: other threads of the
 * process may go on allocating and waiting. What cannot be recorded (waiting, pageable memory) is
 * refused where it is called, by its name; the driver refuses the rest, and its message comes with
 * the end of the recording. */
#include "kernels/cuda/cuda.h"

struct kern_graph {
    cudaGraphExec_t exec;
};

int cuda_not_recording(struct kern_stream *s, const char *what) {
    if (!s->recording) return 0;
    s->broken = what;
    return FAIL(ERR_CONFIG, "cuda: %s cannot be recorded", what);
}

int cuda_record_begin(struct kern_stream *s) {
    TRY(cuda_not_recording(s, "record_begin"));
    CUDA_TRY(cudaStreamBeginCapture(s->on, cudaStreamCaptureModeThreadLocal));
    s->recording = true;
    s->broken = nullptr;
    return 0;
}

int cuda_record_end(struct kern_stream *s, struct kern_graph **out) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    if (!s->recording) return FAIL(ERR_CONFIG, "cuda: record_end without record_begin");
    s->recording = false;
    cudaError_t e = cudaStreamEndCapture(s->on, &graph);
    if (e == cudaSuccess && !s->broken) e = cudaGraphInstantiateWithFlags(&exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (s->broken) {
        cudaGetLastError(); /* the driver's, if it has one, follows from the call that is named */
        return FAIL(ERR_CONFIG, "cuda: %s broke the recording", s->broken);
    }
    if (e != cudaSuccess) return cuda_fail(e, "recording", __FILE__, __LINE__);
    *out = new kern_graph{exec};
    return 0;
}

int cuda_replay(struct kern_stream *s, struct kern_graph *g) {
    TRY(cuda_not_recording(s, "replay"));
    CUDA_TRY(cudaGraphLaunch(g->exec, s->on));
    return 0;
}

void cuda_graph_close(struct kern_graph *g) {
    if (!g) return;
    cudaGraphExecDestroy(g->exec);
    delete g;
}
