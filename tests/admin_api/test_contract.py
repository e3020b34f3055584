"""The whole OpenAPI description against a real server: with an admin key, with a chat key and with none.

schemathesis makes requests that fit the description, and such as do not.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests.adapters import HTTPAdapter
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually

pytestmark = pytest.mark.timeout(300)  # a thousand requests and more

EXAMPLES = 10  # of each operation, caller and kind
REFUSED = 3  # the same, where what is asked does not matter because of who asks
PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
OPEN_TO_ALL = {"/health", "/ready"}
# Left out: negative_data_rejection, because a case that is wrong by its key alone gets a right one here; and
# positive_data_acceptance, because the description cannot say which keys exist nor what makes a glob over agent ids.
CONFORMANCE = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_addresses = (f"127.3.{n // 250}.{n % 250 + 1}" for n in count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("contract")
    write_source(folder / "agents" / "Plain", PLAIN)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


def issued(server: GatewayServer, path: str, **fields: Any) -> tuple[int, str]:
    """The id and the credential of a key that `path` takes already."""
    key = server.operator.issue_key("Contract", **fields)
    eventually(lambda: server.request("GET", path, headers={"x-api-key": key["credential"]}).status, 200)
    return key["id"], key["credential"]


class _From(HTTPAdapter):
    """Asks from this loopback address: one that fails often would be kept waiting."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, source_address=(self._address, 0), **kwargs)


def ask(case: Case, key: str | None) -> Any:
    """Sends the case with this key and no other."""
    given = dict(case.headers or {})
    case.headers = {name: value for name, value in given.items() if name.lower() not in ("authorization", "x-api-key")}
    with requests.Session() as session:
        session.mount("http://", _From(next(_addresses)))
        return case.call(session=session, headers={"x-api-key": key} if key else {}, timeout=30)


def for_each_case(server: GatewayServer, check: Any, is_refused: Callable[[str], bool] = lambda _: False) -> int:
    """Calls `check(case)` with cases of every operation, fewer where the path is refused to who asks; returns how many
    operations there were."""
    operations = [one.ok() for one in schemathesis.openapi.from_url(f"{server.url}/openapi.json").get_all_operations()]
    for operation in operations:
        examples = REFUSED if is_refused(operation.path) else EXAMPLES
        _try(operation, GenerationMode.POSITIVE, check, examples)
        if operation.body or operation.query or operation.path_parameters:  # the others cannot be asked wrongly
            _try(operation, GenerationMode.NEGATIVE, check, examples)
    return len(operations)


def for_known_rows(server: GatewayServer, ids: dict[str, Any], check: Any) -> None:
    """Calls `check(case)` once for each operation on one of these rows: nobody guesses an id."""
    for found in schemathesis.openapi.from_url(f"{server.url}/openapi.json").get_all_operations():
        operation = found.ok()
        names = [one.name for one in operation.path_parameters]
        if len(names) == 1 and names[0] in ids:
            check(operation.Case(path_parameters={names[0]: ids[names[0]]}))


def _try(operation: Any, mode: GenerationMode, check: Any, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Case) -> None:
        check(case)

    each()


def operations_of(server: GatewayServer) -> set[tuple[str, str]]:
    paths = server.request("GET", "/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_admin_key_meets_no_failure_and_only_what_is_described(server: GatewayServer) -> None:
    key_id, key = issued(server, "/security/overrides", may_administer=True, may_chat=False)
    another = server.operator.issue_key("Another", may_administer=True, may_chat=False)["id"]
    run = server.openai().chat.completions.create(model="default/plain", messages=[{"role": "user", "content": "Hi"}])
    server.wait_for_run(id=run.id)
    succeeded = set()

    def check(case: Case) -> None:
        if str(case.path_parameters.get("key_id")) == str(key_id):  # it would be revoked, or replaced
            case.path_parameters["key_id"] = 999
        answer = ask(case, key)
        case.validate_response(answer, checks=CONFORMANCE)
        if answer.status_code < 300:
            succeeded.add((case.operation.method.upper(), case.operation.path))

    assert for_each_case(server, check) == len(operations_of(server))
    for_known_rows(server, {"run_id": run.id, "key_id": another}, check)
    for row in server.operator.rows("catalog.DeclaredAgent"):  # drafts of all names, whose 503 is right
        server.operator.remove("catalog.DeclaredAgent", row["id"])
    assert succeeded >= {
        ("GET", "/agents"),
        ("POST", "/agents/refresh"),
        ("GET", "/admin/agents"),
        ("GET", "/admin/runs"),
        ("GET", "/admin/runs/{run_id}"),
        ("GET", "/admin/keys"),
        ("GET", "/admin/keys/{key_id}"),
        ("POST", "/admin/keys/{key_id}/rotate"),
        ("POST", "/admin/keys/{key_id}/revoke"),
        ("GET", "/admin/agents/declared"),
        ("GET", "/admin/agents/errors"),
        ("POST", "/admin/agents/declared"),
        ("GET", "/admin/metrics"),
        ("GET", "/metrics"),
        ("GET", "/metrics/prometheus"),
        ("GET", "/security/changes"),
        ("GET", "/security/decisions"),
        ("GET", "/security/overrides"),
        ("GET", "/upstreams"),
        ("POST", "/security/override"),
        ("POST", "/security/refresh"),
        ("POST", "/upstreams/refresh"),
        ("GET", "/tools"),
        ("POST", "/tools/refresh"),
    }


def test_chat_key_meets_no_failure_and_sees_nothing_of_the_operators(server: GatewayServer) -> None:
    _, key = issued(server, "/v1/models")

    def is_refused(path: str) -> bool:
        return not path.startswith("/v1/") and path not in OPEN_TO_ALL

    def check(case: Case) -> None:
        answer = ask(case, key)
        case.validate_response(answer, checks=CONFORMANCE)
        if is_refused(case.operation.path):
            assert answer.status_code in (403, 404), answer.text
            assert list(answer.json()) == ["error"]

    for_each_case(server, check, is_refused)


def test_nobody_gets_any_data(server: GatewayServer) -> None:
    def is_refused(path: str) -> bool:
        return path not in OPEN_TO_ALL

    def check(case: Case) -> None:
        answer = ask(case, None)
        case.validate_response(answer, checks=CONFORMANCE)
        if is_refused(case.operation.path):
            assert answer.status_code in (401, 404), answer.text
            assert list(answer.json()) == ["error"]

    for_each_case(server, check, is_refused)
