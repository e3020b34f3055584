"""llama.cpp's own HTTP server over a model file. Run as a script: llama_process.py MODEL NAME PORT CONTEXT.

`CONTEXT` is in tokens, for each of two answers at once; port 0 takes a free one.
"""

import signal
import sys

import xllamacpp


def main(model: str, name: str, port: str, context: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = model, {name}
    params.port, params.n_parallel, params.n_ctx = int(port), 2, 2 * int(context)
    params.n_gpu_layers, params.cpuparams.n_threads = 0, 1
    params.use_jinja = params.endpoint_slots = True
    params.warmup = False
    server = xllamacpp.Server(params)
    print(f"llama.cpp listens at {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main(*sys.argv[1:])
