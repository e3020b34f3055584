"""An export holds the whole configuration, and an import of it changes nothing."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.db.models import Model
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from apps.access.limit_models import Limit
from apps.access.models import AccessSettings, ApiKey, Grant, Team, ToolRule
from apps.audits.alerts import webhook
from apps.audits.models import AlertChannel
from apps.catalog.models import (
    AgentSettings,
    ApprovedVersion,
    DeclaredAgent,
    DropIn,
    ModulePolicy,
    ModuleRule,
    Namespace,
)
from apps.config_files import applying, reading, sheets, values, writing
from apps.core.models import ConfigModel, ConfigVersion
from apps.execution.models import Recording
from apps.tools.models import Kind, McpServer, Tool, Transport
from apps.upstreams.models import ModelPrice, ModelRoute, RouteTarget, Upstream
from tests.factories import ApiKeyFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

# Configuration that is no part of files, and why.
LEFT_OUT = {
    "UpstreamModel": "what a server was found to list",
    "Override": "ends by itself",
    "PinnedVersion": "a copy of the folder lies in the database",
}

INSTRUCTIONS = "You are a help desk.\nIt is {{date}}.\n\n- Be short: “yes” or no.\n"


@pytest.fixture
def everything() -> None:
    """A row of every kind, with values that are no defaults."""
    local = UpstreamFactory(slug="local", base_url="http://127.0.0.1:11434/v1", takes_strict=False)
    cloud = UpstreamFactory(slug="cloud", base_url="https://api.example.com/v1", max_concurrency=4, is_default=True)
    cloud.secret = "sk-cloud"
    cloud.save()
    route = ModelRoute.objects.create(pattern="gpt-4o*", note="Cheaper at home.")
    RouteTarget.objects.create(route=route, upstream=local, model="qwen3:8b", weight=3)
    RouteTarget.objects.create(route=route, upstream=cloud, order=2)
    ModelPrice.objects.create(upstream=cloud, model="gpt-4o", prompt_usd=Decimal("2.5"), completion_usd=Decimal(10))
    ModelPrice.objects.create(model="*", prompt_usd=0, cached_usd=Decimal("0.000001"), completion_usd=0)
    server = McpServer.objects.create(slug="everything", transport=Transport.STDIO, command=["npx", "everything"])
    server.secret_headers = {"Authorization": "Bearer hidden"}
    server.save()
    Tool.objects.create(name="everything_echo", kind=Kind.MCP, server=server, remote_name="echo", needs_approval=True)
    search = Tool(
        name="search",
        url="https://search.example.com/?q={q}",
        parameters={"type": "object", "properties": {"q": {"type": "string"}}},
        cache_seconds=60,
    )
    search.secret_headers = {"X-Key": "hidden"}
    search.save()
    Namespace.objects.create(name="labs", upstream=local, model="qwen3:8b")
    DeclaredAgent.objects.create(
        namespace="labs",
        name="helpdesk",
        title="Help desk",
        instructions=INSTRUCTIONS,
        tools=["search", "everything_*"],
        upstream=cloud,
        model="gpt-4o",
        parameters={"temperature": 0.2},
        tags=["it"],
        stage=DeclaredAgent.Stage.LIVE,
    )
    planner = DropIn.objects.create(agent_id="default/planner", folder="agents/Planner")
    AgentSettings.objects.create(drop_in=planner, aliases=["plan"], upstream=local, max_turns=3)
    ModuleRule.objects.create(pattern="labs/*", reason="Not yet.")
    ModulePolicy.objects.create(pk=ModulePolicy.ROW, locked=True, denied_imports=["subprocess"])
    ApprovedVersion.objects.create(folder_id="default/planner", digest="a" * 64, note="Read it.")
    team = Team.objects.create(name="Support")
    webui = ApiKeyFactory(name="Open WebUI", team=team, ip_ranges=["10.0.0.0/8"], agents=["default/*"])
    webui.set_identity_secret("signs")
    webui.save()
    ApiKeyFactory(name="twin", agents=[])
    ApiKeyFactory(name="twin", agents=["labs/*"])
    Grant.objects.create(team=team, effect="deny", agents="labs/*", note="Not for support.")
    ToolRule.objects.create(effect="deny", by="module", pattern="os.*")
    Limit.objects.create(key=webui, per="user", requests_per_minute=20, usd_per_month=Decimal("12.50"))
    AccessSettings.objects.create(pk=AccessSettings.ROW, inner_agents_obey_grants=True)
    Recording.objects.create(pk=Recording.ROW, keep_runs_days=0, record_contents=True)
    unusual()


def unusual() -> None:
    """What is easily lost: odd texts, ends, what is switched off, what refers to much."""
    Upstream.objects.create(
        slug="0123", kind="vllm", base_url="http://[::1]:8000/v1", enabled=False, cooldown=0, queue_timeout=0.125
    )
    route = ModelRoute.objects.create(pattern="yes", enabled=False)
    for weight in (1, 1_000_000):
        RouteTarget.objects.create(
            route=route, upstream=Upstream.objects.get(slug="0123"), model=f"1.10:{weight}", weight=weight
        )
    oauth = McpServer(slug="no", url="https://mcp.example.com/x?y={z}#", allowed_tools=["*", "größe_*"], enabled=False)
    oauth.oauth = {"client_id": "1", "client_secret": "hidden", "issuer": "https://login.example.com", "scope": "a b"}
    oauth.save()
    McpServer.objects.create(slug="ms", transport=Transport.GATEWAY, url="https://gw.example.com", headers={"X-A": "ü"})
    Tool.objects.create(
        name="post",
        method="POST",
        url="https://x.example.com",
        body={"on": ["{a}", None, 1.5, True, {"~": "1e3"}]},
        parameters={"type": "object", "properties": {"a": {"enum": ["yes", "1_000", "2026-11-25", "", "\u2028"]}}},
        enabled=False,
        max_calls_per_run=1,
    )
    for number, text in enumerate(
        ["  begins and ends with space \n", "\ttab\n\n\n", "# no comment", "a\r\nb", "'\"${HOME} {{user}}"]
    ):
        DeclaredAgent.objects.create(
            namespace="odd",
            name=str(number),
            title="Größe 日本 \u202e🖨️",
            instructions=text,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"properties": {"no": {}}}}},
            parameters={"stop": ["\n", "null"], "logit_bias": {"50256": -100}},
            parallel_tool_calls=False,
            tool_choice="none",
            icon="👩🏽‍💻",
            tags=["true", "1"],
            aliases=[f"0{number}", f"1e{number}"],
            run_timeout=1.5,
            on_disconnect="drain",
            listed=False,
            stage="disabled" if number else "draft",
        )
    team = Team.objects.create(name="Ärzte: “Nacht” #1", suspended=True)
    key = ApiKeyFactory(name="null", team=team, agents=[], expires_at=datetime(2031, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
    ToolRule.objects.create(effect="allow", pattern="größe_*", agents="odd/*", key=key)
    Limit.objects.create(team=team, per="key", agents="odd/*", usd_per_month=Decimal("9999999999.99"))
    mail = AlertChannel.objects.create(name="On call", kind="email", recipients=["a@example.com"], enabled=False)
    mail.secret = webhook.new_secret()
    mail.save()
    night = CrontabSchedule.objects.create(minute="*/5", hour="1,2", day_of_week="mon-fri", timezone="Europe/Berlin")
    PeriodicTask.objects.create(name="Weekdays", task="gateway.audit", crontab=night, enabled=False)
    PeriodicTask.objects.filter(name="Model lists").update(
        interval=IntervalSchedule.objects.create(every=7, period="days"), description=""
    )


def rows() -> dict[str, list[dict[str, Any]]]:
    """All that files hold, and what rows refer to by its name."""
    return {
        sheet.section: sorted((written(sheet, row) for row in sheet.queryset()), key=repr) for sheet in sheets.SHEETS
    }


def written(sheet: sheets.Sheet, row: Model) -> dict[str, Any]:
    columns = {column.name: values.written(column, row) for column in sheet.columns()}
    return {"": sheets.name_of(row) if sheet.key else "", **columns}


def exported(folder: Path, *options: str) -> dict[str, Any]:
    call_command("export_config", str(folder), *options)
    return {name: yaml.safe_load((folder / name).read_text()) for name in sheets.FILES}


def test_every_configuration_model_stands_in_a_file_or_says_why_not() -> None:
    def concrete(model: type[ConfigModel]) -> list[type[ConfigModel]]:
        below = [one for child in model.__subclasses__() for one in concrete(child)]
        return below if model._meta.abstract else [model, *below]

    inner = [sheet.inner.model for sheet in sheets.SHEETS if sheet.inner]
    written = {sheet.model.__name__ for sheet in sheets.SHEETS} | {model.__name__ for model in inner}
    known = {model.__name__ for model in concrete(ConfigModel) if model.__module__.startswith("apps.")}
    assert known | {"PeriodicTask"} == written | LEFT_OUT.keys()


@pytest.mark.usefixtures("everything")
def test_import_of_an_export_changes_nothing(tmp_path: Path) -> None:
    exported(tmp_path)
    version = ConfigVersion.current()

    applied = applying.apply(reading.documents([tmp_path]), prune=True)

    assert applied == applying.Applied()
    assert ConfigVersion.current() == version


@pytest.mark.usefixtures("everything")
def test_export_makes_the_same_configuration_elsewhere(tmp_path: Path) -> None:
    before, rows_before = exported(tmp_path / "before", "--with-digests"), rows()
    forget_all()

    call_command("import_config", str(tmp_path / "before"))

    assert exported(tmp_path / "after", "--with-digests") == before
    assert rows() == rows_before
    assert Upstream.objects.get(slug="cloud").is_default
    assert DeclaredAgent.objects.get(name="helpdesk").instructions == INSTRUCTIONS


@pytest.mark.usefixtures("everything")
def test_export_without_digests_makes_all_but_the_keys_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = exported(tmp_path / "before")
    forget_all()

    call_command("import_config", str(tmp_path / "before"))

    after, told = exported(tmp_path / "after"), capsys.readouterr().err
    of_keys = [
        one
        for section in ("grants", "tool_rules", "limits")
        for one in before["security.yaml"][section]
        if "key" in one
    ]
    assert told.count("none can be made without its digest") == len(before["security.yaml"].pop("keys"))
    assert told.count("is left out like that") == len(of_keys) > 0
    for section in ("grants", "tool_rules", "limits"):
        kept = [one for one in before["security.yaml"].pop(section) if "key" not in one]
        assert after["security.yaml"].pop(section, []) == kept
    assert after == before


def forget_all() -> None:
    for sheet in reversed(sheets.SHEETS):
        sheet.model._default_manager.all().delete()
    for model in (DropIn, CrontabSchedule, IntervalSchedule):
        model.objects.all().delete()


@pytest.mark.usefixtures("everything")
def test_export_holds_no_secret(tmp_path: Path) -> None:
    exported(tmp_path)

    text = "".join(path.read_text() for path in tmp_path.iterdir())
    hidden = ["sk-cloud", "Bearer hidden", "signs", *ApiKey.objects.values_list("digest", flat=True)]
    assert [one for one in hidden if one in text] == []
    assert "#   upstreams: cloud: api_key\n" in (tmp_path / "upstreams.yaml").read_text()


@pytest.mark.usefixtures("everything")
def test_export_says_what_is_no_default_and_no_more(tmp_path: Path) -> None:
    upstreams = exported(tmp_path)["upstreams.yaml"]
    del upstreams["upstreams"]["0123"], upstreams["routes"]["yes"]

    assert upstreams == {
        "upstreams": {
            "cloud": {
                "base_url": "https://api.example.com/v1",
                "default_model": "demo",
                "default": True,
                "max_concurrency": 4,
            },
            "local": {"base_url": "http://127.0.0.1:11434/v1", "default_model": "demo", "takes_strict": False},
        },
        "routes": {
            "gpt-4o*": {
                "note": "Cheaper at home.",
                "targets": [
                    {"upstream": "local", "model": "qwen3:8b", "weight": 3},
                    {"upstream": "cloud", "order": 2},
                ],
            }
        },
        "prices": [
            {"model": "*", "prompt_usd": 0, "cached_usd": 0.000001, "completion_usd": 0},
            {"upstream": "cloud", "model": "gpt-4o", "prompt_usd": 2.5, "completion_usd": 10},
        ],
    }


def test_export_of_nothing_is_importable(tmp_path: Path) -> None:
    PeriodicTask.objects.all().delete()  # those that an installation begins with

    assert exported(tmp_path) == {name: {} for name in sheets.FILES}

    assert applying.apply(reading.documents([tmp_path])) == applying.Applied()


def test_texts_are_written_as_a_person_would(tmp_path: Path) -> None:
    DeclaredAgent.objects.create(name="helpdesk", instructions=INSTRUCTIONS)

    assert "    instructions: |\n      You are a help desk.\n      It is {{date}}.\n" in writing.texts()["agents.yaml"]
