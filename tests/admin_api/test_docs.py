"""docs/operators-api.md: its commands, run in their order as they stand there, and its table of permissions; and the
examples of /openapi.json."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from apps.admin_api.routes import SUBJECTS
from gateway_site.urls import api
from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.processes import ROOT

TEXT = (ROOT / "docs" / "operators-api.md").read_text()
BLOCKS = [block for _, block in re.findall(r"^( *)```bash\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)]
HI: Any = [{"role": "user", "content": "Hi"}]
PLAIN = 'from agents import Agent\n\nagent = Agent(name="Concierge", instructions="Answer.")\n'


@pytest.fixture
def server(tmp_path: Path, template: Template) -> Iterator[GatewayServer]:
    write_source(tmp_path / "agents" / "Concierge", PLAIN)
    with GatewayServer(tmp_path / "data", agents=tmp_path / "agents", template=template) as server:
        yield server


def run(block: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace(".venv/bin/python", sys.executable)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, bool(done.stdout)) == (0, True), f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def test_every_command_works_as_pasted(server: GatewayServer) -> None:
    issuing, *blocks = BLOCKS
    key = run(f"{issuing}echo $GATEWAY_ADMIN_KEY", **server.environment)
    eventually(lambda: server.request("GET", "/security/overrides", headers={"x-api-key": key}).status, 200)
    for _ in range(2):  # runs to look at, page by page
        run_id = server.openai().chat.completions.create(model="default/concierge", messages=HI).id
        server.wait_for_run(id=run_id)

    for block in blocks:
        run(block, **server.environment, GATEWAY_URL=server.url, GATEWAY_ADMIN_KEY=key)

    assert len(blocks) == 17


def documented() -> dict[str, str]:
    """The permission of each operation in the table."""
    return dict(re.findall(r"^\| `(\w+ /\S+)` \| `(\S+)` \|", TEXT, re.MULTILINE))


def test_table_names_every_operation_with_its_permission() -> None:
    operations = {
        f"{operation.methods[0]} {path}".replace("override_id", "id"): operation.auth_callbacks[0]._permission
        for subject in SUBJECTS
        for path, view in subject.router.path_operations.items()
        for operation in view.operations
    }
    assert documented() == operations


# --- /openapi.json ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema()))
    return told


def has_example(described: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Its own, or one of what it is a list of: /docs puts that together."""
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), schema.get("items", {})]
    return "examples" in schema or any(has_example(described, part) for part in parts if part)


def operations(described: dict[str, Any], tag: str) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": one
        for path, methods in described["paths"].items()
        for method, one in methods.items()
        if one.get("tags", [""])[0].startswith(tag)
    }


def test_clients_operations_have_examples_of_what_they_take_and_give(described: dict[str, Any]) -> None:
    found = operations(described, "OpenAI-compatible API")
    bodies = [one["requestBody"] for one in found.values() if "requestBody" in one]
    answers = [one["responses"]["200"] for one in found.values()]
    schemas = [body["content"]["application/json"]["schema"] for body in [*bodies, *answers]]
    assert (len(bodies), len(answers)) == (3, 5)
    assert [schema for schema in schemas if not has_example(described, schema)] == []


def test_answer_of_every_operation_has_an_example(described: dict[str, Any]) -> None:
    answers = {
        operation: next(answer for status, answer in one["responses"].items() if status < "300")
        for operation, one in operations(described, "Operators' API").items()
    }
    without = [
        operation
        for operation, answer in answers.items()
        if not all("example" in body or has_example(described, body["schema"]) for body in answer["content"].values())
    ]
    assert (without, len(answers)) == ([], len(documented()))


def test_examples_are_what_the_description_says(described: dict[str, Any]) -> None:
    known = {"components": described["components"]}
    for schema in described["components"]["schemas"].values():
        for example in schema.get("examples", []):
            jsonschema.validate(example, schema | known, format_checker=jsonschema.FormatChecker())
