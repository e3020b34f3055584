"""An MCP server over stdio without any library: it starts at once, for the tests that start many.

`--pages` lists its tools on pages of one, `--modern` knows no handshake, only the protocol of 2026.
Knows `pid`, `where`, `linger` and `crash` of mcp_server.py, and some tools that it does not list: `litter` writes
to stdout what is no message, `flood` gives notice of changes, `long` answers at length.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

NAMES = ["pid", "environment", "linger", "crash", "babble"]
MODERN = "--modern" in sys.argv
_writing = threading.Lock()


def send(**message: Any) -> None:
    with _writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def initialize(params: dict[str, Any]) -> dict[str, Any]:
    about = {"name": "bare", "version": "1"}
    return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}


def discover() -> dict[str, Any]:
    about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
    return {**about, "ttlMs": 0, "cacheScope": "private"}


def listed(params: dict[str, Any]) -> dict[str, Any]:
    start = int(params.get("cursor", 0))
    end = start + 1 if "--pages" in sys.argv else len(NAMES)
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES[start:end]]
    if MODERN:
        return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return {"tools": tools, **({"nextCursor": str(end)} if end < len(NAMES) else {})}


def called(name: str, given: dict[str, Any]) -> str:
    if name == "environment":
        return f"{os.environ.get(given['name'])} {Path.cwd()}"
    if name == "linger":
        Path(given["path"] + ".started").touch()
        while not Path(given["path"]).exists():
            time.sleep(0.02)
    if name == "crash":
        with Path(given["path"]).open("a") as file:
            file.write("called\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "litter":
        with _writing:
            sys.stdout.buffer.write(b"Loading ...\n{}\n[1, 2\n\xff\xfe\n\n")
    if name == "flood":
        for _ in range(given["times"]):
            send(method="notifications/tools/list_changed")
    if name == "long":
        return "a" * given["length"]
    if name == "babble":
        print("\n".join(f"line {number}" for number in range(given["lines"])), file=sys.stderr, flush=True)
    return str(os.getpid())


def answer(request: dict[str, Any]) -> None:
    params = request.get("params", {})
    match request["method"]:
        case "server/discover" if MODERN:
            result = discover()
        case "initialize" if not MODERN:
            result = initialize(params)
        case "ping" if not MODERN:
            result = {}
        case "tools/list":
            result = listed(params)
        case "tools/call":
            content = [{"type": "text", "text": called(params["name"], params.get("arguments") or {})}]
            result = {"content": content, **({"resultType": "complete"} if MODERN else {})}
        case method:
            send(id=request["id"], error={"code": -32601, "message": f"no {method}"})
            return
    send(id=request["id"], result=result)


for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked and "method" in asked:
        threading.Thread(target=answer, args=(asked,), daemon=True).start()
