"""LiteLLM's proxy in front of the same upstream: one model, one key, no database.

Run as a file by the interpreter that BENCH_LITELLM names, which has `litellm[proxy]` and none of our packages.
"""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path


def main(upstream: str, key: str, model: str) -> None:
    settings = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": "openai/demo", "api_base": upstream, "api_key": "bench"},
            }
        ],
        "general_settings": {"master_key": key},
    }
    config = Path(tempfile.mkdtemp()) / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    os.environ["CONFIG_FILE_PATH"] = os.environ["WORKER_CONFIG"] = str(config)
    os.environ["LITELLM_LOG"] = "ERROR"
    os.environ.pop("DATABASE_URL", None)  # the gateway's, which it would take for its own
    import uvicorn
    from litellm.proxy.proxy_server import app

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run([listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
