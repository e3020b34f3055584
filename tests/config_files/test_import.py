"""What an import does with files that people write: right ones, and wrong ones."""

import os
from pathlib import Path

import pytest
from auditlog.models import LogEntry
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.access.models import ApiKey, Grant, Team
from apps.catalog.models import AgentSettings, DeclaredAgent, State
from apps.core.models import ConfigVersion
from apps.tools.models import McpServer, Tool
from apps.upstreams.models import ModelRoute, RouteTarget, Upstream
from tests.factories import ApiKeyFactory, UpstreamFactory
from tests.harness import forked

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
        "    default: false → true",
        "    takes_strict: false → true",
        "Would change, without --dry-run: 1 changed.",
    ]
    assert Upstream.objects.get().base_url == "http://old.invalid/v1"


def test_long_texts_differ_line_by_line(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    DeclaredAgent.objects.create(name="a", instructions="You help.\nBe short.\n", tags=["x"], stage="live")
    file = write(
        "agents:\n  a:\n    stage: live\n    instructions: |\n      You help.\n      Be long.\n    tags: [x, y]\n"
    )

    assert told(capsys, file, "--dry-run") == [
        "~ agents: a",
        "    instructions:",
        "        @@ -1,2 +1,2 @@",
        "         You help.",
        "        -Be short.",
        "        +Be long.",
        '    tags: ["x"] → ["x", "y"]',
        "Would change, without --dry-run: 1 changed.",
    ]


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


def test_a_webhook_without_its_secret_is_told(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_config", write("alert_channels: {On call: {kind: webhook, url: 'https://x.org'}}\n"))

    assert capsys.readouterr().err.splitlines() == [
        (
            "alert_channels: On call: nothing is sent to it until it has a signing_secret. Give it one in the file, or "
            "save the channel in the admin, which makes one."
        )
    ]


def test_equal_entries_of_a_list_are_as_many_rows(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    Grant.objects.create(agents="labs/*")
    file = write("grants:\n  - {agents: labs/*}\n  - {agents: labs/*, note: Twice.}\n")

    assert told(capsys, file) == ["+ grants: [1]", "Done: 1 added."]
    assert told(capsys, file) == ["Nothing to change: the configuration is as the files say."]


def test_nothing_is_changed_when_one_entry_is_wrong(write: Writer) -> None:
    file = write(
        LOCAL + "  Bad Name:\n    base_url: nowhere\n  third:\n    base_url: http://third.invalid/v1\n    sped: 1\n"
    )

    bad, worse, member = refusal(file)
    assert [bad, worse] == [
        f"{file}:8: upstreams: Bad Name: slug: Lower-case letters, digits, dots, dashes; no spaces.",
        f"{file}:9: upstreams: Bad Name: base_url: A base URL looks like http://127.0.0.1:11434/v1.",
    ]
    assert member.startswith(f"{file}:12: upstreams: third: there is no member 'sped'. There are kind, base_url, ")
    assert not Upstream.objects.exists()


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("upstreams: [", ":1:13 cannot be read as YAML: expected the node content, but found '<stream end>'."),
        ("- a", " is a mapping of sections, such as `upstreams:`; this is a list."),
        ("teams: {}\nupstrems: {}", ":2: upstrems: there is no such section. Did you mean 'upstreams'?"),
        ("a: &x 1\nb: *x", ":2:4 cannot be read as YAML: aliases (*name) are not taken: write it out."),
        ("teams: {}\nteams: {}", ":2:1 cannot be read as YAML: 'teams' stands there twice: keep one."),
        (
            "teams:\n  yes: {}",
            ":2:3 cannot be read as YAML: 'yes' is no text, and cannot be a name: put it in quotes.",
        ),
        (
            "routes:\n  1.10: {}",
            ":2:3 cannot be read as YAML: '1.10' is no text, and cannot be a name: put it in quotes.",
        ),
        (
            "upstreams:\n\ta: 1",
            (
                ":2:1 cannot be read as YAML: found character '\\t' that cannot start any token; indent with spaces, "
                "not with tabs."
            ),
        ),
        (
            "agents:\n  a/b:\n    title: Note: this",
            (
                ":3:16 cannot be read as YAML: mapping values are not allowed here; put a text with a colon in "
                "quotes, or mend the indentation."
            ),
        ),
        (
            "upstreams: {a: {api_key: '${NOT_SET_ANYWHERE}'}}",
            (
                ":1: upstreams: a: api_key: the environment variable NOT_SET_ANYWHERE is not set. Set it, or write the "
                "value."
            ),
        ),
        (
            "upstreams: !!python/object:os.system {}",
            (
                ":1:12 cannot be read as YAML: could not determine a constructor for the tag "
                "'tag:yaml.org,2002:python/object:os.system'; leave the tag (!…) out."
            ),
        ),
        ("a: " + "[" * 3000, " cannot be read as YAML: it is nested too deeply. Is it the right file?"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(write: Writer, text: str, remark: str) -> None:
    file = write(text)

    assert refusal(file) == [file + remark]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("upstreams: [a]", "1: upstreams: is a mapping of names to their entries."),
        ("grants: {a: 1}", "1: grants: is a list of entries."),
        ("upstreams:\n  a: 5", "2: upstreams: a: is a mapping of members to values, not 5."),
        ("keys: {a: [digest]}", "1: keys: a: is a mapping of members to values, not ['digest']."),
        ("upstreams: {a: {enabled: 'yes'}}", "1: upstreams: a: enabled is true or false, not 'yes'."),
        ("upstreams: {a: {retries: x}}", "1: upstreams: a: retries does not take 'x': “x” value must be an integer."),
        ("upstreams: {a: {retries: 1.5}}", "1: upstreams: a: retries is a whole number, not 1.5."),
        ("upstreams: {a: {retries: [1]}}", "1: upstreams: a: retries is one value, not a list or a mapping."),
        (
            "upstreams: {a: {timeout: .inf}}",
            "1: upstreams: a: there is no member 'timeout'. Did you mean 'queue_timeout'?",
        ),
        ("upstreams: {a: {cooldown: .inf}}", "1: upstreams: a: cooldown is a number, not 'inf'."),
        ("upstreams: {a: {kind: null}}", "1: upstreams: a: kind is empty; leave it out for its default."),
        (
            "upstreams: {a: {kind: olama}}",
            "1: upstreams: a: kind is one of openai, ollama, lm_studio, vllm, llama_cpp, other, demo, not 'olama'.",
        ),
        ("upstreams: {a: {api_key: 7}}", "1: upstreams: a: api_key is a text; put it in quotes."),
        (
            "upstreams: {a: {base_url: 'http://x/v1/models'}}",
            "1: upstreams: a: base_url: Write it as http://x/v1: what calls begin with, without a slash at its end.",
        ),
        ("agents: {a/: {}}", "1: agents: a/: name: This field cannot be blank."),
        (
            "upstreams: {home: {base_url: 'http://x'}}\nagents:\n  a/b:\n    upstream: hme",
            "4: agents: a/b: upstream cannot be set: there is no upstream 'hme'. Did you mean 'home'?",
        ),
        (
            "agents:\n  a/b:\n    stage: live\n    parameters: {temprature: 1}",
            (
                "4: agents: a/b: parameters: 'temprature' is no parameter of OpenAI's. Did you mean 'temperature'? "
                "What only your server knows goes into extra_body."
            ),
        ),
        (
            "agents:\n  a/b:\n    tools: search",
            "3: agents: a/b: tools is a list of texts, such as [one, two], not 'search'.",
        ),
        (
            "agents:\n  a/b:\n    model: 4.10",
            "3: agents: a/b: model is a text; put it in quotes (it was read as 4.1).",
        ),
        (
            "agents:\n  a/b:\n    aliases: [Big]",
            (
                "3: agents: a/b: aliases: “Big” is no model name: lower-case letters, digits, dots, dashes, at most "
                "one slash."
            ),
        ),
        (
            "agents:\n  a/b:\n    run_timeout: 86401",
            "3: agents: a/b: run_timeout: A run has 86,400 seconds at most, a day.",
        ),
        ("agents:\n  default/b: {}\n  b: {}", "3: agents: b: is another name of an entry above. Keep one."),
        (
            "agents:\n  a/b: {parameters: {extra_body: {x: .nan}}}",
            "2: agents: a/b: parameters holds what JSON has not: NaN, infinity, or half a character.",
        ),
        ('agents: {a/b: {title: "a\\0"}}', "1: agents: a/b: title holds a NUL character, which cannot be stored."),
        (
            "agent_settings: {a/b: {aliases: [Bad One]}}",
            (
                "1: agent_settings: a/b: aliases: “Bad One” is no model name: lower-case letters, digits, dots, "
                "dashes, at most one slash."
            ),
        ),
        (
            "agent_settings: {a/b: {run_timeout: 1.0e+6}}",
            "1: agent_settings: a/b: run_timeout: A run has 86,400 seconds at most, a day.",
        ),
        (
            "routes: {x: {}}",
            "1: routes: x: targets: A route needs at least one: - {upstream: openai, model: gpt-5-mini}",
        ),
        (
            (
                "upstreams: {u: {base_url: 'http://x'}}\nroutes:\n  x:\n    targets:\n      - {upstream: u}\n"
                "      - {upstream: u, wait: 1}"
            ),
            "6: routes: x: targets[1]: there is no member 'wait'. Did you mean 'weight'?",
        ),
        (
            "teams: {T: {}}\ngrants:\n  - {agents: '*', team: T}\n  - {agents: a b}",
            "4: grants[1]: agents: “a b” is no glob over agent ids: letters, digits, dots, dashes, slashes and stars.",
        ),
        (
            "grants: [{agents: '*', key: nobody}]",
            "1: grants[0]: key cannot be set: there is no API key 'nobody'. There is none at all.",
        ),
        ("grants: [{agents: '*', effect: maybe}]", "1: grants[0]: effect is one of allow, deny, not 'maybe'."),
        (
            "tool_rules: [{pattern: 'a, b'}]",
            "1: tool_rules[0]: pattern: No glob over tool names or modules: it has no spaces, commas or semicolons.",
        ),
        (
            "module_rules: {Labs/x: {}}",
            (
                "1: module_rules: Labs/x: pattern: “Labs/x” is no glob over agent ids: letters, "
                "digits, dots, dashes, slashes and stars. Capitals are none of them."
            ),
        ),
        (
            f"keys: {{a: {{digest: {'a' * 64}, prefix: agw_1, expires_at: soon}}}}",
            "1: keys: a: expires_at is no instant; write it as 2026-12-31T00:00:00Z.",
        ),
        (
            f"keys: {{a: {{digest: {'a' * 64}, prefix: agw_1, ip_ranges: [here]}}}}",
            "1: keys: a: ip_ranges: “here” is no address and no range such as 10.0.0.0/8.",
        ),
        (
            "keys: {a: {digest: abc, prefix: agw_1}}",
            "1: keys: a: digest: It is the SHA-256 of the key, 64 hexadecimal digits in lower case.",
        ),
        ("routes: {a: {targets: {b: 1}}}", "1: routes: a: targets is a list of entries."),
        (
            "mcp_servers: {a: {secret_headers: [1]}}",
            "1: mcp_servers: a: secret_headers is a mapping of names to texts.",
        ),
        (
            "mcp_servers: {a: {url: 'http://x/mcp', oauth: {client_id: a}}}",
            (
                "1: mcp_servers: a: oauth: It needs client_id, client_secret, and token_url or issuer, which says who "
                "gets the secret."
            ),
        ),
        (
            "mcp_servers: {a: {url: 'http://x/mcp', oauth: {client_id: a, client_secret: b, scope: c}}}",
            (
                "1: mcp_servers: a: oauth: It needs client_id, client_secret, and token_url or issuer, which says who "
                "gets the secret."
            ),
        ),
        (
            "limits: [{usd_per_month: .nan}]",
            "1: limits[0]: usd_per_month does not take 'NaN': “NaN” value must be a decimal number.",
        ),
        (
            "limits: [{usd_per_month: .inf}]",
            "1: limits[0]: usd_per_month does not take 'Infinity': “Infinity” value must be a decimal number.",
        ),
        ("limits: [{usd_per_month: '1e400'}]", "1: limits[0]: usd_per_month is a number, not '1e400'."),
        (
            "limits: [{usd_per_month: 0.001}]",
            (
                "1: limits[0]: usd_per_month: Ensure this value is greater than or equal to 0.01. Ensure that there "
                "are no more than 2 decimal places."
            ),
        ),
        (
            "alert_channels: {a: {kind: email}}",
            "1: alert_channels: a: recipients: Say who gets the mail: [ops@example.com].",
        ),
        (
            "alert_channels: {a: {url: 'https://x.org', signing_secret: s}}",
            "1: alert_channels: a: signing_secret: It is whsec_ and at least 16 bytes in base64.",
        ),
        (
            "schedules: {a: {task: gateway.audit}}",
            "1: schedules: a: It needs either `at: 0 3 * * *` or `every: 15 minutes`.",
        ),
        (
            "schedules: {a: {task: gateway.audit, at: 99 3 * * *}}",
            "1: schedules: a: at cannot be set: “99 3 * * *” is no moment: '99', not in 0-59 for Minutes.",
        ),
        (
            "schedules: {a: {task: gateway.audit, every: 5 mins}}",
            "1: schedules: a: every cannot be set: “5 mins” is no span; write it as 15 minutes.",
        ),
        (
            "schedules: {a: {task: gateway.nap, every: 5 minutes}}",
            (
                "1: schedules: a: task: There is no work “gateway.nap”. There is gateway.audit, gateway.repeat, "
                "gateway.alerts, gateway.probes, gateway.models, gateway.purge."
            ),
        ),
        (
            "prices: [{model: '*', prompt_usd: 1000000, completion_usd: 1}]",
            "1: prices[0]: prompt_usd: Ensure that there are no more than 6 digits before the decimal point.",
        ),
    ],
)
def test_an_entry_that_is_wrong_is_refused_with_its_line(write: Writer, text: str, remark: str) -> None:
    version = ConfigVersion.current()
    file = write(text)

    assert refusal(file) == [f"{file}:{remark}"]
    assert ConfigVersion.current() == version


def test_all_that_is_wrong_is_told_at_once_and_what_waits_for_it_is_not(write: Writer) -> None:
    file = write(
        "upstreams:\n  home: {retries: many}\n"
        "routes:\n  x: {targets: [{upstream: home}]}\n"
        "agents:\n  a/b: {upstream: home}\n  a/c: {titel: C, max_turns: 0.5}\n"
    )

    assert [remark.removeprefix(f"{file}:") for remark in refusal(file)] == [
        "2: upstreams: home: retries does not take 'many': “many” value must be an integer.",
        "7: agents: a/c: there is no member 'titel'. Did you mean 'title'?",
        "7: agents: a/c: max_turns is a whole number, not 0.5.",
    ]


def test_a_folder_without_files_and_a_file_that_is_not_there_are_told(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == [
        (
            f"{tmp_path} has none of agents.yaml, upstreams.yaml, tools.yaml, security.yaml. Name the files, or "
            "another folder."
        )
    ]
    assert refusal(str(tmp_path / "x.yaml")) == [
        (
            f"{tmp_path}/x.yaml cannot be read: there is no such file. Name a file, or a folder with agents.yaml and "
            "the others."
        )
    ]


def test_one_section_in_two_files_is_refused(write: Writer) -> None:
    first, second = write("teams: {}", "a.yaml"), write("teams: {}", "b.yaml")

    assert refusal(first, second) == [f"{second}:1: teams: stands at {first}:1, too. Keep it in one file."]


def test_text_of_instructions_is_not_expanded(write: Writer) -> None:
    call_command("import_config", write("agents:\n  default/shell:\n    instructions: Say ${HOME} as it is.\n"))

    assert DeclaredAgent.objects.get().instructions == "Say ${HOME} as it is."


def test_text_that_is_no_utf8_is_refused_and_a_byte_order_mark_is_not(write: Writer) -> None:
    file = write("")
    Path(file).write_bytes(b"teams: {}\n# caf\xe9\n")
    assert refusal(file) == [f"{file}:2 is no text in UTF-8. Save it as UTF-8."]

    Path(file).write_bytes(b"\xef\xbb\xbfteams: {T: {}}\r\n")
    call_command("import_config", file)
    assert Team.objects.get().name == "T"


def test_an_alias_may_move_from_one_agent_to_another(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever comes first: what counts is how things are in the end."""
    for first, second in [("a", "b"), ("b", "a")]:
        file = write(f"agents:\n  x/{first}: {{aliases: [it]}}\n  x/{second}: {{}}\n")
        told(capsys, file)

        assert DeclaredAgent.objects.get(name=first).aliases == ["it"]


def test_agent_without_a_namespace_is_of_the_default_one(write: Writer) -> None:
    call_command("import_config", write("agents:\n  helpdesk: {}\n"))

    assert DeclaredAgent.objects.get().agent_id == "default/helpdesk"


def test_what_a_live_agent_lacks_is_told(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    UpstreamFactory(slug="local")
    call_command(
        "import_config",
        write(
            "agents:\n  a/b: {stage: live, tools: [serch], instructions: 'Hello {{usr}}'}\n  a/c: {tools: [serch]}\n"
        ),
    )

    assert capsys.readouterr().err.splitlines() == [
        "agents: a/c: a draft answers nobody yet. Add `stage: live`, or publish it in the admin.",
        "agents: a/b: {{usr}} in the instructions is no variable, and stays as it is: did you mean {{user}}?",
        (
            "agents: a/b: The gateway has no tool 'serch': the agent goes on without it. Add or enable what is "
            "missing in the admin under Tools, or take it off the agent's list."
        ),
    ]


def test_what_is_for_a_key_that_is_left_out_is_left_out_too(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("import_config", write("keys: {K: {}}\ngrants: [{key: K, agents: '*'}, {agents: 'labs/*'}]\n"))

    assert capsys.readouterr().err.splitlines()[1:] == ["grants[0]: is for the API key 'K', and is left out like that."]
    assert [grant.agents for grant in Grant.objects.all()] == ["labs/*"]


def test_members_of_other_systems_are_told_by_their_names_here(write: Writer) -> None:
    file = write(
        "agents:\n  a/b:\n    name: B\n    system_prompt: You help.\n    temperature: 1\n    enabled: true\n"
        "keys:\n  K: {key: sk-1, digest: x}\n"
    )

    assert [remark.removeprefix(f"{file}:") for remark in refusal(file)] == [
        "3: agents: a/b: there is no member 'name'. What people see is called 'title'; the name is that of the entry.",
        "4: agents: a/b: there is no member 'system_prompt'. It is called 'instructions'.",
        "5: agents: a/b: there is no member 'temperature'. It belongs into parameters: {temperature: …}.",
        "6: agents: a/b: there is no member 'enabled'. Say `stage: live`, or `stage: disabled`.",
        (
            "8: keys: K: there is no member 'key'. A key is known by its 'digest', which `printf %s \"$KEY\" | "
            "sha256sum` makes, and its beginning, the 'prefix'."
        ),
    ]


def test_database_without_tables_is_told(write: Writer, tmp_path: Path) -> None:
    asked = ["manage.py", "import_config", str(write(LOCAL))]
    environment = {
        **os.environ,
        "GATEWAY_DATA_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path}/none.sqlite3",
    }

    done = forked.run(asked, folder=settings.ROOT, environment=environment, timeout=60)

    assert done.returncode == 1
    assert done.stderr.startswith("CommandError: The database cannot be used: no such table: ")
    assert done.stderr.count("\n") == 1


def test_schema_that_the_url_implies_is_no_change(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("tools:\n  weather: {url: 'https://x.example.com/{city}'}\n")
    call_command("import_config", file)

    assert told(capsys, file) == ["Nothing to change: the configuration is as the files say."]
    assert Tool.objects.get().parameters["required"] == ["city"]
