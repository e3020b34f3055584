"""What an import does with files that people write: right ones, and wrong ones."""

from pathlib import Path

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command

from apps.access.models import ApiKey, Grant
from apps.catalog.models import AgentSettings, DeclaredAgent, State
from apps.tools.models import McpServer
from apps.upstreams.models import ModelRoute, RouteTarget, Upstream
from tests.factories import ApiKeyFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

LOCAL = """
upstreams:
  local:
    kind: ollama
    base_url: http://127.0.0.1:11434/v1
    default_model: qwen3:8b
    default: true
"""


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path)


class Writer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, name: str = "config.yaml") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    call_command("import_config", *arguments)
    return capsys.readouterr().out.splitlines()


def refusal(*arguments: str) -> list[str]:
    with pytest.raises(CommandError) as caught:
        call_command("import_config", *arguments)
    *remarks, last = str(caught.value).splitlines()
    assert last == "Nothing was changed. Mend this and try again."
    return remarks


def test_a_new_row_is_made_and_the_second_time_nothing_is(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, write(LOCAL)) == ["+ upstreams: local", "Done: 1 added."]
    assert told(capsys, write(LOCAL)) == ["Nothing to change: the configuration is as the files say."]

    row = Upstream.objects.get()
    assert (row.slug, row.kind, row.default_model, row.is_default) == ("local", "ollama", "qwen3:8b", True)


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    write: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    UpstreamFactory(slug="local", kind="ollama", base_url="http://old.invalid/v1", default_model="", takes_strict=False)

    assert told(capsys, write(LOCAL), "--dry-run") == [
        "~ upstreams: local",
        "    base_url: http://old.invalid/v1 → http://127.0.0.1:11434/v1",
        "    default_model: (empty) → qwen3:8b",
        "    default: False → True",
        "    takes_strict: False → True",
        "Would change, without --dry-run: 1 changed.",
    ]
    assert Upstream.objects.get().base_url == "http://old.invalid/v1"


def test_each_change_stands_in_the_history(write: Writer) -> None:
    UpstreamFactory(slug="local", kind="ollama", base_url="http://old.invalid/v1")

    call_command("import_config", write(LOCAL))

    entry = LogEntry.objects.get_for_model(Upstream).first()
    assert entry is not None
    assert entry.changes_dict["base_url"] == ["http://old.invalid/v1", "http://127.0.0.1:11434/v1"]
    assert entry.additional_data == {"author": "command"}


def test_the_default_moves(write: Writer) -> None:
    UpstreamFactory(slug="former", is_default=True)

    call_command("import_config", write(LOCAL))

    assert list(Upstream.objects.filter(is_default=True).values_list("slug", flat=True)) == ["local"]


def test_a_secret_comes_from_the_environment_and_is_never_shown(
    write: Writer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", "sk-1")
    file = write(LOCAL + "    api_key: ${LOCAL_KEY}\n")
    call_command("import_config", file)
    assert Upstream.objects.get().secret == "sk-1"

    assert told(capsys, file) == ["Nothing to change: the configuration is as the files say."]
    monkeypatch.setenv("LOCAL_KEY", "sk-2")
    assert told(capsys, file) == ["~ upstreams: local", "    api_key: ••• → •••", "Done: 1 changed."]
    assert Upstream.objects.get().secret == "sk-2"


def test_a_secret_that_the_file_does_not_name_stays(write: Writer) -> None:
    row = UpstreamFactory(slug="local")
    row.secret = "sk-1"
    row.save()

    call_command("import_config", write(LOCAL))

    assert Upstream.objects.get().secret == "sk-1"


def test_part_of_a_secret_header_may_be_a_variable(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t-1")
    file = write(
        "mcp_servers:\n  docs:\n    url: https://docs.example.com/mcp\n"
        "    secret_headers: {Authorization: 'Bearer ${TOKEN}'}\n"
    )

    call_command("import_config", file)

    assert McpServer.objects.get().secret_headers == {"Authorization": "Bearer t-1"}


def test_rows_without_an_entry_stay_unless_they_are_pruned(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    UpstreamFactory(slug="other")
    key = ApiKeyFactory(agents=["*"])

    assert told(capsys, write(LOCAL)) == ["+ upstreams: local", "Done: 1 added."]
    assert told(capsys, write(LOCAL), "--prune") == ["- upstreams: other", "Done: 1 removed."]
    assert ApiKey.objects.get() == key  # a section that is not in the files is left alone


def test_choices_of_a_route_are_what_the_file_says(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    local = UpstreamFactory(slug="local", kind="ollama")
    route = ModelRoute.objects.create(pattern="gpt-4o")
    RouteTarget.objects.create(route=route, upstream=local, model="gone")
    RouteTarget.objects.create(route=route, upstream=local, model="qwen3:8b")
    file = write(
        "routes:\n  gpt-4o:\n    targets:\n      - {upstream: local, model: qwen3:8b, weight: 2}\n"
        "      - {upstream: local, order: 2}\n"
    )

    assert told(capsys, file) == [
        "~ targets: gpt-4o [0]",
        "    weight: 1 → 2",
        "+ targets: gpt-4o [1]",
        "- targets: local/gone",
        "Done: 1 added, 1 changed, 1 removed.",
    ]


def test_settings_of_an_agent_that_was_not_discovered_yet_wait_for_it(write: Writer) -> None:
    call_command("import_config", write("agent_settings:\n  labs/planner:\n    enabled: false\n"))

    row = AgentSettings.objects.get()
    assert (row.drop_in.agent_id, row.drop_in.state, row.enabled) == ("labs/planner", State.GONE, False)


def test_a_key_without_its_digest_is_not_made_and_is_told(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_config", write("keys:\n  Open WebUI:\n    owner: ops@example.com\n"))

    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        (
            "keys: Open WebUI: there is no such key here, and none can be made without its digest. Issue one: "
            'manage.py issue_key "Open WebUI"'
        )
    ]
    assert not ApiKey.objects.exists()


def test_equal_entries_of_a_list_are_as_many_rows(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    Grant.objects.create(agents="labs/*")
    file = write("grants:\n  - {agents: labs/*}\n  - {agents: labs/*, note: Twice.}\n")

    assert told(capsys, file) == ["+ grants: [1]", "Done: 1 added."]
    assert told(capsys, file) == ["Nothing to change: the configuration is as the files say."]


def test_nothing_is_changed_when_one_entry_is_wrong(write: Writer) -> None:
    file = write(
        LOCAL + "  Bad Name:\n    base_url: nowhere\n  third:\n    base_url: http://third.invalid/v1\n    sped: 1\n"
    )

    assert refusal(file) == [
        (
            "upstreams: Bad Name: slug: Lower-case letters, digits, dots, dashes; no spaces. base_url: A base URL "
            "looks like http://127.0.0.1:11434/v1."
        ),
        (
            "upstreams: third: there is no member 'sped'. There are kind, base_url, default_model, default, enabled, "
            "connect_timeout, first_event_timeout, silence_timeout, speaks_responses, takes_reasoning_effort, "
            "takes_verbosity, takes_strict, takes_parallel_tool_calls, takes_developer_role, "
            "takes_several_system_messages, lists_models, exposes_models, max_concurrency, queue_size, queue_timeout, "
            "retries, cooldown, api_key."
        ),
    ]
    assert not Upstream.objects.exists()


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("upstreams: [", ":1:13 is no YAML: expected the node content, but found '<stream end>'."),
        ("- a", " is a mapping of sections, such as `upstreams:`; this is a list."),
        ("upstrems: {}", ": there is no section 'upstrems'. Did you mean 'upstreams'?"),
        ("a: &x 1\nb: *x", ":2:4 is no YAML: aliases (*name) are not taken."),
        ("teams: {}\nteams: {}", ":1:1 is no YAML: 'teams' stands there twice."),
        (
            "upstreams: {a: {api_key: '${NOT_SET_ANYWHERE}'}}",
            (": upstreams: a: api_key: the environment variable NOT_SET_ANYWHERE is not set."),
        ),
        (
            "upstreams: !!python/object:os.system {}",
            (
                ":1:12 is no YAML: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/object:os.system'."
            ),
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(write: Writer, text: str, remark: str) -> None:
    file = write(text)

    assert refusal(file) == [file + remark]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("upstreams: [a]", "upstreams is a mapping of names to their entries."),
        ("grants: {a: 1}", "grants is a list of entries."),
        ("upstreams: {a: 5}", "upstreams: a: is a mapping of members to values, not 5."),
        ("upstreams: {a: {enabled: 'yes'}}", "upstreams: a: enabled is true or false, not 'yes'."),
        ("upstreams: {a: {retries: x}}", "upstreams: a: retries does not take 'x': “x” value must be an integer."),
        ("upstreams: {a: {retries: [1]}}", "upstreams: a: retries is one value, not a list or a mapping."),
        ("upstreams: {a: {kind: null}}", "upstreams: a: kind is empty; leave it out for its default."),
        ("upstreams: {a: {api_key: 7}}", "upstreams: a: api_key is a text; put it in quotes."),
        ("agents: {helpdesk: {}}", "agents: helpdesk: name: This field cannot be blank."),
        ("agents: {a/b: {upstream: nowhere}}", "agents: a/b: upstream cannot be set: there is no upstream 'nowhere'."),
        ("grants: [{agents: '*', key: nobody}]", "grants[0]: key cannot be set: there is no API key 'nobody'."),
        ("grants: [{agents: '*', effect: maybe}]", "grants[0]: effect: Value 'maybe' is not a valid choice."),
        (
            "keys: {a: {digest: abc, expires_at: soon}}",
            ("keys: a: expires_at is no instant; write it as 2026-12-31T00:00:00Z."),
        ),
        ("routes: {a: {targets: {b: 1}}}", "routes: a: targets is a list of entries."),
        (
            "prices: [{model: '*', prompt_usd: 1000000, completion_usd: 1}]",
            "prices[0]: prompt_usd: Ensure that there are no more than 6 digits before the decimal point.",
        ),
        ("mcp_servers: {a: {secret_headers: [1]}}", "mcp_servers: a: secret_headers is a mapping of names to texts."),
    ],
)
def test_an_entry_that_is_wrong_is_refused_with_its_place(write: Writer, text: str, remark: str) -> None:
    assert refusal(write(text)) == [remark]


def test_a_folder_without_files_and_a_file_that_is_not_there_are_told(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == [
        (
            f"{tmp_path} has none of agents.yaml, upstreams.yaml, tools.yaml, security.yaml. Name the files, or "
            "another folder."
        )
    ]
    assert refusal(str(tmp_path / "x.yaml")) == [
        (
            f"{tmp_path}/x.yaml cannot be read ([Errno 2] No such file or directory: '{tmp_path}/x.yaml'). It has to "
            "be a text in UTF-8."
        )
    ]


def test_one_section_in_two_files_is_refused(write: Writer) -> None:
    first, second = write("teams: {}", "a.yaml"), write("teams: {}", "b.yaml")

    assert refusal(first, second) == [f"{second}: 'teams' stands in another of the files too. Keep it in one."]


def test_text_of_instructions_is_not_expanded(write: Writer) -> None:
    call_command("import_config", write("agents:\n  default/shell:\n    instructions: Say ${HOME} as it is.\n"))

    assert DeclaredAgent.objects.get().instructions == "Say ${HOME} as it is."
