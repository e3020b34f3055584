"""`make smoke`: a fresh installation, tried end to end through the public door.

Starts `manage.py serve --bootstrap` on a free port with an empty data folder, as `make run` does, and prints what
worked. Exits with 1 at the first thing that does not.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Gateway:
    url: str
    key: str
    password: str
    process: "subprocess.Popen[str]"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="agent-gateway-smoke-") as folder:
        log = Path(folder) / "log"
        try:
            with serving(folder, log) as gateway:
                for check in CHECKS:
                    tick(check, gateway)
            print("All well.")
            return 0
        except Exception as error:  # noqa: BLE001  # whatever it is, the smoke test is there to say it
            print(f"  ✗ {type(error).__name__}: {error}")
            print("\nThe server's last lines:\n" + "\n".join(log.read_text().splitlines()[-20:]))
            return 1


@contextmanager
def serving(folder: str, log: Path) -> Iterator[Gateway]:
    kept = {name: value for name, value in os.environ.items() if not re.match(r"GATEWAY_|OPENAI_|DATABASE_URL", name)}
    environ = kept | {"GATEWAY_DATA_DIR": f"{folder}/data", "GATEWAY_DEFAULT_UPSTREAM": "demo"}
    started = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--bootstrap", "--port", "0"],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        text = read_until_listening(process)
        print(f"  ✓ set up and listening after {time.perf_counter() - started:.1f} s")
        url, key, password = (
            found(pattern, text) for pattern in (r"listens on (\S+)", r"API key +(agw_\S+)", r"password +(\S+)")
        )
        yield Gateway(url, key, password, process)
    finally:
        process.terminate()
        process.wait(30)


def read_until_listening(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "Ctrl-C" in line:
            return text
    raise RuntimeError(f"The server ended before it listened. It said:\n{text}")


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"No {pattern!r} in what the server printed:\n{text}")
    return match[1]


def tick(check: Callable[[Gateway], str], gateway: Gateway) -> None:
    started = time.perf_counter()
    said = check(gateway)
    print(f"  ✓ {said} ({(time.perf_counter() - started) * 1000:.0f} ms)")


def client(gateway: Gateway, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0, timeout=30)


def health(gateway: Gateway) -> str:
    for path in ("/health", "/ready", "/docs", "/openapi.json", "/admin/login/"):
        with urllib.request.urlopen(gateway.url + path, timeout=10) as response:
            assert response.status == 200, f"{path} answered {response.status}"
    return "health, readiness, docs and the admin's login answer"


def models(gateway: Gateway) -> str:
    names = [model.id for model in client(gateway).models.list()]
    assert "default/sampleagent" in names, f"default/sampleagent is not among {names}"
    return f"{len(names)} agents are listed: {', '.join(names)}"


def whole_chat(gateway: Gateway) -> str:
    answer = client(gateway).chat.completions.create(
        model="default/sampleagent", messages=[{"role": "user", "content": "Hello!"}]
    )
    assert answer.choices[0].message.content, "the answer is empty"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0, "no usage was counted"
    return f"a whole answer of {answer.usage.total_tokens} tokens"


def streamed_chat(gateway: Gateway) -> str:
    chunks = client(gateway).chat.completions.create(
        model="default/sampleagent", messages=[{"role": "user", "content": "Hello again!"}], stream=True
    )
    pieces: list[Any] = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(piece.delta.content or "" for piece in pieces)
    assert text, "the stream is empty"
    assert pieces[-1].finish_reason == "stop", f"it finished with {pieces[-1].finish_reason}"
    return f"a streamed answer in {len(pieces)} chunks"


def wrong_key(gateway: Gateway) -> str:
    try:
        client(gateway, "agw_wrong").models.list()
    except openai.AuthenticationError:
        return "a wrong key is refused"
    raise AssertionError("a wrong key was served")


def unknown_model(gateway: Gateway) -> str:
    try:
        client(gateway).chat.completions.create(model="default/nobody", messages=[{"role": "user", "content": "x"}])
    except openai.NotFoundError:
        return "an unknown model is not found"
    raise AssertionError("an unknown model was served")


def clean_stop(gateway: Gateway) -> str:
    gateway.process.send_signal(signal.SIGINT)
    code = gateway.process.wait(30)
    assert code == 0, f"it ended with {code}"
    return "it stops when asked"


CHECKS = (health, models, whole_chat, streamed_chat, wrong_key, unknown_model, clean_stop)

if __name__ == "__main__":
    print("Agent Gateway, a fresh installation:")
    sys.exit(main())
