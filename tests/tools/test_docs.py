"""docs/tools.md: its examples, as they stand there."""

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

from apps.tools import invoke
from apps.tools.local import find
from apps.tools.openapi import read
from tests.tools.conftest import local_tool

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "tools.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    return dedent(found)


async def test_function_is_a_tool(write_module: Callable[[str, str], str]) -> None:
    name = write_module("lent_by_the_docs", block("python"))
    tool = local_tool(f"{name}.forecast", schema=find(f"{name}.forecast").parameters)

    assert tool.parameters["description"] == "The weather to come."
    assert (await invoke.invoke(tool, '{"city": "Oslo", "days": 1}')).text == (
        '{"city":"Oslo","days":[{"day":1,"sky":"rain"}]}'
    )


def test_document_is_importable() -> None:
    (operation,) = read(block("yaml"), prefix="shop_")

    assert (operation.name, operation.url) == ("shop_getOrder", "https://shop.example.com/api/orders/{id}")


def test_every_outcome_is_listed() -> None:
    files = [path for path in (ROOT / "apps" / "tools").glob("*.py") if path.stem != "openapi_import"]  # has its own
    said = {word for path in files for word in re.findall(r'outcome(?:: str)?\s*=\s*"(\w+)"', path.read_text())}
    said |= {"ok", "cached", "http_3xx", "http_4xx", "http_5xx"}

    listed = TEXT[TEXT.index("Outcomes:") :]
    assert said - set(re.findall(r"`(\w+)`", listed)) == set()
