import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.core import live_config
from apps.tools.models import Kind
from apps.tools.tool import HttpCall, LocalCall, Tool
from tests.fakes.tool_api import ToolApi, tool_api

OBJECT = {"type": "object", "properties": {}}


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    """No test sees the snapshot of another."""
    live_config.forget()
    yield
    live_config.forget()


@pytest.fixture
async def api() -> AsyncIterator[ToolApi]:
    async with tool_api() as running:
        yield running


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[[str, str], str]:
    """Writes a module that Python finds and whose functions may be tools; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    settings.GATEWAY_TOOL_MODULES = ["lent_*"]

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


async def until(condition: Callable[[], bool]) -> None:
    """Returns when it holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # of another task, which tells nobody
            await asyncio.sleep(0.005)


def http_tool(url: str, *, schema: Any = None, **fields: Any) -> Tool:
    """For a server on loopback; the fields are those of HttpCall and of Tool."""
    call = {
        name: fields.pop(name, default)
        for name, default in {
            "method": "GET", "body": None, "headers": {}, "secret_headers": {}, "extract": "",
            "allow_private_hosts": True,
        }.items()
    }  # fmt: skip
    fields.setdefault("name", "asked")
    return Tool(
        kind=Kind.HTTP,
        description="",
        parameters=OBJECT if schema is None else schema,
        source="gateway.http",
        call=HttpCall(url=url, **call),
        **fields,
    )


def local_tool(path: str, *, schema: Any = None, **fields: Any) -> Tool:
    fields.setdefault("name", "called")
    return Tool(
        kind=Kind.LOCAL,
        description="",
        parameters=OBJECT if schema is None else schema,
        source=f"gateway.local.{path.rpartition('.')[0]}",
        call=LocalCall(path),
        **fields,
    )
