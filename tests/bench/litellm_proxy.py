"""LiteLLM's proxy in front of the same upstream, started by its own command: one model, one key, no database, and as
with the gateway all else as it is by default. With `equipped` it does more of what the gateway does: the key has a
limit that is never reached, and there are metrics.

Run as a file by the interpreter that BENCH_LITELLM names, which has `litellm[proxy]` and none of our packages.
"""

import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, TextIO

# Its keys with limits lie in a database; without one, they are given like this.
# https://docs.litellm.ai/docs/proxy/custom_auth
_CHECK = """
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key: str) -> UserAPIKeyAuth:
    if api_key != {key!r}:
        raise Exception("That is not the key.")
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=10_000_000)
"""


def main(upstream: str, key: str, model: str, *equipped: str) -> None:
    settings: dict[str, Any] = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": "openai/demo", "api_base": upstream, "api_key": "bench"},
            }
        ],
        "general_settings": {"master_key": key},
    }
    folder = Path(tempfile.mkdtemp())
    if equipped:
        (folder / "bench_key.py").write_text(_CHECK.format(key=key))
        settings["general_settings"]["custom_auth"] = "bench_key.check"
        settings["litellm_settings"] = {"callbacks": ["prometheus"]}
    config = folder / "config.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    os.environ.pop("DATABASE_URL", None)  # the gateway's, which it would take for its own
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ready, sys.stdout = sys.stdout, sys.stderr  # it prints a banner
    threading.Thread(target=_tell, args=(port, ready), daemon=True).start()
    from litellm.proxy.proxy_cli import run_server

    run_server(["--config", str(config), "--host", "127.0.0.1", "--port", str(port)])


def _tell(port: int, ready: TextIO) -> None:
    """When it listens."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            print(f"http://127.0.0.1:{port}", file=ready, flush=True)
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
