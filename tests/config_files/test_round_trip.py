"""An export holds the whole configuration, and an import of it changes nothing."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command

from apps.access.limit_models import Limit
from apps.access.models import AccessSettings, ApiKey, Grant, Team, ToolRule
from apps.catalog.models import (
    AgentSettings,
    ApprovedVersion,
    DeclaredAgent,
    DropIn,
    ModulePolicy,
    ModuleRule,
    Namespace,
)
from apps.config_files import applying, reading, sheets, writing
from apps.core.models import ConfigModel, ConfigVersion
from apps.tools.models import Kind, McpServer, Tool, Transport
from apps.upstreams.models import ModelPrice, ModelRoute, RouteTarget, Upstream
from tests.factories import ApiKeyFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

# Configuration that is no part of files, and why.
LEFT_OUT = {
    "UpstreamModel": "what a server was found to list",
    "Override": "ends by itself",
    "PinnedVersion": "a copy of the folder lies in the database",
    "AlertChannel": "audits lie beside the files in the stack: neither knows the other",
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


def exported(folder: Path, *options: str) -> dict[str, Any]:
    call_command("export_config", str(folder), *options)
    return {name: yaml.safe_load((folder / name).read_text()) for name in sheets.FILES}


def test_every_configuration_model_stands_in_a_file_or_says_why_not() -> None:
    def concrete(model: type[ConfigModel]) -> list[type[ConfigModel]]:
        below = [one for child in model.__subclasses__() for one in concrete(child)]
        return below if model._meta.abstract else [model, *below]

    inner = [sheet.inner.model for sheet in sheets.SHEETS if sheet.inner]
    written = {sheet.model.__name__ for sheet in sheets.SHEETS} | {model.__name__ for model in inner}
    assert {model.__name__ for model in concrete(ConfigModel) if model.__module__.startswith("apps.")} == (
        written | LEFT_OUT.keys()
    )


@pytest.mark.usefixtures("everything")
def test_import_of_an_export_changes_nothing(tmp_path: Path) -> None:
    exported(tmp_path)
    version = ConfigVersion.current()

    applied = applying.apply(reading.documents([tmp_path]), prune=True)

    assert applied == applying.Applied()
    assert ConfigVersion.current() == version


@pytest.mark.usefixtures("everything")
def test_export_makes_the_same_configuration_elsewhere(tmp_path: Path) -> None:
    before = exported(tmp_path / "before", "--with-digests")
    for sheet in reversed(sheets.SHEETS):
        sheet.model.objects.all().delete()
    DropIn.objects.all().delete()

    call_command("import_config", str(tmp_path / "before"))

    assert exported(tmp_path / "after", "--with-digests") == before
    assert Upstream.objects.get(slug="cloud").is_default
    assert DeclaredAgent.objects.get().instructions == INSTRUCTIONS


@pytest.mark.usefixtures("everything")
def test_export_holds_no_secret(tmp_path: Path) -> None:
    exported(tmp_path)

    text = "".join(path.read_text() for path in tmp_path.iterdir())
    hidden = ["sk-cloud", "Bearer hidden", "signs", *ApiKey.objects.values_list("digest", flat=True)]
    assert [one for one in hidden if one in text] == []
    assert "#   upstreams: cloud: api_key\n" in (tmp_path / "upstreams.yaml").read_text()


@pytest.mark.usefixtures("everything")
def test_export_says_what_is_no_default_and_no_more(tmp_path: Path) -> None:
    files = exported(tmp_path)

    assert files["upstreams.yaml"] == {
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
    assert exported(tmp_path) == {name: {} for name in sheets.FILES}

    assert applying.apply(reading.documents([tmp_path])) == applying.Applied()


def test_texts_are_written_as_a_person_would(tmp_path: Path) -> None:
    DeclaredAgent.objects.create(name="helpdesk", instructions=INSTRUCTIONS)

    assert "    instructions: |\n      You are a help desk.\n      It is {{date}}.\n" in writing.texts()["agents.yaml"]
