"""A gateway that offers an upstream's own models, for the tests of what is passed through."""

from collections.abc import Iterator

import openai
import pytest

from tests.conftest import write_agent
from tests.harness import GatewayServer, RawServer, Template, eventually


@pytest.fixture(scope="session")
def raw() -> Iterator[RawServer]:
    with RawServer() as server:
        yield server


@pytest.fixture(scope="session")
def passing(tmp_path_factory: pytest.TempPathFactory, template: Template, raw: RawServer) -> Iterator[GatewayServer]:
    """Its models are `raw/<fault>` and `off/any`; the agent in the folder raw/length is called as one."""
    folder = tmp_path_factory.mktemp("passing")
    write_agent(folder / "agents" / "raw" / "length", model="llm/demo")
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        patience = {"first_event_timeout": 4, "silence_timeout": 3, "retries": 0}
        server.operator.put_upstream("raw", kind="other", base_url=raw.base_url, exposes_models=True, **patience)
        server.operator.put_upstream(
            "off", kind="other", base_url="http://127.0.0.1:9/v1", models=["any"], exposes_models=True
        )
        eventually(lambda: {"raw/ok", "off/any"} <= {one.id for one in server.openai().models.list()}, True)
        yield server


@pytest.fixture(scope="session")
def models(passing: GatewayServer) -> openai.OpenAI:
    return passing.openai()
