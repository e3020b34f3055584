"""Each rule of the audit against rows: what it finds, and what it leaves alone."""

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.urls import resolve

from apps.access.limit_models import Limit
from apps.access.models import ApiKey, Effects, Grant, Override, Team
from apps.audits import sizes
from apps.audits.models import AuditRun
from apps.audits.rule import Found, NotChecked, Severity
from apps.audits.rules import all_rules, table_growth
from apps.catalog.models import ApprovedVersion, ModulePolicy, State
from apps.core import clock
from apps.execution.models import Recording
from apps.tools.models import Kind, McpServer, Tool
from apps.upstreams.models import UpstreamHealth
from tests.factories import ApiKeyFactory, DropInFactory, GrantFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def found(rule: str) -> list[Found]:
    return list(all_rules()[rule].check())


def subjects(rule: str) -> list[str]:
    return sorted(one.subject for one in found(rule))


def test_rules_have_the_name_of_their_file_and_say_what_to_do() -> None:
    rules = all_rules()
    files = {path.stem for path in Path(table_growth.__file__).parent.glob("[!_]*.py")}
    assert {id.replace("-", "_") for id in rules} == files
    for rule in rules.values():
        assert rule.severity in Severity
        assert rule.title[0].isupper()
        assert rule.remedy.endswith(".")


def test_links_lead_to_pages() -> None:
    key = ApiKeyFactory.create(may_administer=True)
    DropInFactory.create(folder_id="default/a", disk_digest="a" * 64)
    ApprovedVersion.objects.create(folder_id="default/a", digest="b" * 64)
    Recording(pk=1, keep_runs_days=0).save()
    links = [
        one.link
        for rule in ("keys-without-expiry", "keys-over-broad", "agents-not-approved", "limits-absent", "table-growth")
        for one in found(rule)
    ]
    assert len(links) >= 6
    assert f"/admin/access/apikey/{key.pk}/change/" in links
    for link in links:
        resolve(link)


# --- keys and access -------------------------------------------------------------------------------------------------


def test_keys_without_expiry() -> None:
    now = clock.now()
    lasting = ApiKeyFactory.create(name="lasting")
    ApiKeyFactory.create(expires_at=now + DAY)
    ApiKeyFactory.create(revoked_at=now)
    assert subjects("keys-without-expiry") == [f"key {lasting}"]


def test_unused_keys() -> None:
    now = clock.now()
    old, quiet, busy = ApiKeyFactory.create_batch(3)
    ApiKeyFactory.create()  # issued just now
    ApiKey.objects.filter(pk__in=[old.pk, quiet.pk, busy.pk]).update(created_at=now - 200 * DAY)
    ApiKey.objects.filter(pk=quiet.pk).update(last_used_at=now - 91 * DAY)
    ApiKey.objects.filter(pk=busy.pk).update(last_used_at=now - DAY)
    assert subjects("keys-unused") == sorted([f"key {old}", f"key {quiet}"])


def test_keys_over_broad() -> None:
    narrow = ApiKeyFactory.create(agents=["default/*"])
    wide = ApiKeyFactory.create(agents=["*"])
    both = ApiKeyFactory.create(agents=["labs/*"], may_administer=True, ip_ranges=["10.0.0.0/8"])
    anywhere = ApiKeyFactory.create(agents=[], may_chat=False, may_administer=True)
    assert subjects("keys-over-broad") == sorted(
        [f"grants of key {wide}", f"scopes of key {both}", f"addresses of key {anywhere}"]
    )
    assert not any(str(narrow) in one for one in subjects("keys-over-broad"))


def test_keys_over_broad_by_the_grants_of_their_team() -> None:
    broad, empty, narrow, suspended = (Team.objects.create(name=name) for name in ("Broad", "Empty", "Narrow", "Off"))
    Team.objects.filter(pk=suspended.pk).update(suspended=True)
    for team, agents in ((broad, "*"), (empty, "*"), (narrow, "default/*"), (suspended, "*")):
        GrantFactory.create(key=None, team=team, agents=agents)
        if team != empty:
            ApiKeyFactory.create(team=team, agents=[])
    ApiKeyFactory.create(team=empty, agents=[], revoked_at=clock.now())
    ApiKeyFactory.create(team=broad, agents=["default/*"])
    denied = ApiKeyFactory.create(team=broad, agents=[])
    GrantFactory.create(key=denied, agents="*", effect=Effects.DENY)

    assert [(one.subject, one.message) for one in found("keys-over-broad")] == [
        (
            "grants of team Broad",
            "Keys may use every agent by it, those that are still to come included: 2 of the team.",
        )
    ]


def test_keys_over_broad_by_the_grants_of_everyone() -> None:
    closed, suspended = Team.objects.create(name="Closed"), Team.objects.create(name="Off", suspended=True)
    GrantFactory.create(key=None, team=closed, agents="*", effect=Effects.DENY)
    GrantFactory.create(key=None, agents="default/*")
    GrantFactory.create(key=None, namespace="labs", agents="*")
    ApiKeyFactory.create(agents=["default/*"])
    assert found("keys-over-broad") == []

    broad = GrantFactory.create(key=None, agents="*")
    ApiKeyFactory.create(agents=[])
    ApiKeyFactory.create(agents=[], team=closed)
    ApiKeyFactory.create(agents=[], team=suspended)
    ApiKeyFactory.create(agents=[], revoked_at=clock.now())
    ApiKeyFactory.create(agents=[], may_chat=False)
    denied = ApiKeyFactory.create(agents=[])
    GrantFactory.create(key=denied, agents="*", effect=Effects.DENY)
    (told,) = found("keys-over-broad")
    assert (told.subject, told.link) == ("grants of everyone", f"/admin/access/grant/{broad.pk}/change/")
    assert told.message == (
        "Keys may use every agent by it, those that are still to come included, whatever they are granted "
        "themselves: 2 now."
    )
    assert told.remedy == (
        "Grant everyone what every key may have: namespaces such as default/* in place of *. Where every key is meant "
        "to use everything, as on a machine for development, accept this finding with that reason."
    )

    ApiKey.objects.exclude(pk=denied.pk).delete()
    assert found("keys-over-broad") == [], "nobody has anything by it"


@pytest.mark.parametrize("whose", ["key", "team", "everyone"])
def test_keys_are_not_over_broad_where_the_same_subject_is_denied_all(whose: str) -> None:
    team = Team.objects.create(name="Red")
    key = ApiKeyFactory.create(team=team, agents=[])
    subject = {"key": {"key": key}, "team": {"key": None, "team": team}, "everyone": {"key": None}}[whose]
    GrantFactory.create(**subject, agents="*")
    assert len(found("keys-over-broad")) == 1
    GrantFactory.create(**subject, agents="*", effect=Effects.DENY)
    assert found("keys-over-broad") == []


def test_rules_of_access_that_do_nothing() -> None:
    DropInFactory.create(agent_id="default/weather")
    ended = ApiKeyFactory.create(agents=["default/*"], revoked_at=clock.now())
    GrantFactory.create(agents="default/wether")
    GrantFactory.create(agents="default/weather")
    told = {one.subject: one.message for one in found("rules-of-access-idle")}
    assert sum("matches nothing now" in one for one in told) == 1
    grant = Grant.objects.get(key=ended)
    assert told[f"{grant} (key ended)"] == "Its key is revoked."


def test_overrides_that_do_nothing() -> None:
    DropInFactory.create(agent_id="default/weather")
    now = clock.now()
    values = {"effect": Effects.ALLOW, "reason": "A test", "author": "me"}
    Override.objects.create(pattern="default/weather", expires_at=now + DAY, **values)
    misspelt = Override.objects.create(pattern="default/wether", expires_at=now + DAY, **values)
    Override.objects.create(pattern="default/weather", expires_at=now - 40 * DAY, **values)
    assert subjects("overrides-idle") == [str(misspelt), "overrides that ended long ago"]


def test_keys_without_any_limit() -> None:
    team = Team.objects.create(name="Blue")
    own, of_team, free = ApiKeyFactory.create(), ApiKeyFactory.create(team=team), ApiKeyFactory.create()
    Limit.objects.create(key=own, requests_per_minute=5)
    Limit.objects.create(team=team, usd_per_month=10)
    Limit.objects.create(key=free)  # without a number it limits nothing
    assert subjects("limits-absent") == [f"key {free}"]
    assert str(of_team) not in subjects("limits-absent")
    Limit.objects.create(requests_per_day=1000)
    assert subjects("limits-absent") == []


# --- drop-ins --------------------------------------------------------------------------------------------------------


def test_agents_that_changed_since_they_were_approved() -> None:
    DropInFactory.create(agent_id="default/same", folder_id="default/same", disk_digest="a" * 64)
    DropInFactory.create(agent_id="default/edited", folder_id="default/edited", disk_digest="b" * 64)
    DropInFactory.create(agent_id="default/never", folder_id="default/never", disk_digest="c" * 64)
    DropInFactory.create(agent_id="default/x", folder_id="default/x", disk_digest="d" * 64, state=State.GONE)
    for folder in ("default/same", "default/edited"):
        ApprovedVersion.objects.create(folder_id=folder, digest="a" * 64)
    assert subjects("agents-not-approved") == ["folder default/edited"]
    ModulePolicy(pk=ModulePolicy.ROW, locked=True).save()
    assert subjects("agents-not-approved") == ["folder default/edited", "folder default/never"]


def test_denied_imports(tmp_path: Path) -> None:
    with pytest.raises(NotChecked, match="No imports are denied"):
        found("denied-imports")
    ModulePolicy(pk=ModulePolicy.ROW, denied_imports=["subprocess"]).save()
    (tmp_path / "agent.py").write_text("import json\n\nimport subprocess\n")
    DropInFactory.create(agent_id="default/runs", folder=str(tmp_path))
    DropInFactory.create(agent_id="default/nowhere", folder=str(tmp_path / "missing"))
    (one,) = found("denied-imports")
    assert one.subject == "default/runs: agent.py"
    assert "agent.py:3 imports subprocess" in one.message


def test_unpinned_requirements(tmp_path: Path) -> None:
    for name, text in (("one", "a==1.0\nb>=2\nc\nd==1.*\n"), ("two", "!!\n"), ("three", "a===1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text(text)
        DropInFactory.create(folder=str(tmp_path / name), folder_id=f"default/{name}")
    DropInFactory.create(folder=str(tmp_path / "without"), folder_id="default/without")
    assert subjects("unpinned-requirements") == [
        "default/one: b", "default/one: c", "default/one: d", "default/two: requirements.txt unreadable",
    ]  # fmt: skip


@pytest.fixture
def vulnerability_service() -> Iterator[str]:
    """One that speaks as OSV does, and knows of a vulnerability of Django's alone."""

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name, version = asked["package"]["name"], asked["version"]
            fixed = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
            affected = [{"package": {"name": "django", "ecosystem": "PyPI"}, "ranges": fixed, "versions": [version]}]
            known = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "x", "affected": affected}
            answer = json.dumps({"vulns": [known]} if name == "django" else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def test_vulnerable_packages(vulnerability_service: str, settings: LazySettings) -> None:
    settings.GATEWAY_VULNERABILITY_URL = vulnerability_service
    (one,) = found("vulnerable-packages")
    assert one.subject == "django PYSEC-2026-1"
    assert "(CVE-2026-1)" in one.message
    assert one.remedy.startswith("Install django 99.1")


def test_vulnerable_packages_without_an_index_are_not_checked(settings: LazySettings) -> None:
    settings.GATEWAY_VULNERABILITY_URL = "http://127.0.0.1:9/v1/query"
    with pytest.raises(NotChecked, match="No index told what is known of the installed packages"):
        found("vulnerable-packages")


# --- servers and tools -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "in_the_clear"),
    [
        ("http://api.example.com/v1", True),
        ("http://10.0.0.5:8000/v1", True),
        ("http://[2001:db8::1]/v1", True),
        ("https://api.example.com/v1", False),
        ("http://127.0.0.1:11434/v1", False),
        ("http://[::1]:8000/v1", False),
        ("http://ollama:11434/v1", False),
        ("http://localhost:1234/v1", False),
        ("http://host.docker.internal:11434/v1", False),
    ],
)
def test_upstreams_without_tls(url: str, *, in_the_clear: bool) -> None:
    UpstreamFactory.create(slug="one", base_url=url)
    UpstreamFactory.create(slug="off", base_url="http://api.example.com/v1", enabled=False)
    McpServer.objects.create(slug="tools", url=url)
    assert subjects("upstreams-without-tls") == (["MCP server tools", "upstream one"] if in_the_clear else [])


def test_upstreams_that_are_down_for_long() -> None:
    now = clock.now()
    for slug, since, seen in (("long", DAY, DAY * 0), ("short", timedelta(hours=1), DAY * 0), ("silent", DAY, DAY)):
        UpstreamHealth.objects.create(
            worker="w", upstream=UpstreamFactory.create(slug=slug), state="down", reason="refused",
            since=now - since, seen_at=now - seen,
        )  # fmt: skip
    McpServer.objects.create(slug="box", url="https://x.example", state="down", state_since=now - DAY)
    assert subjects("upstreams-down") == ["MCP server box", "upstream long"]


def test_tools_without_allow_list(settings: LazySettings) -> None:
    McpServer.objects.create(slug="open", url="https://x.example")
    McpServer.objects.create(slug="narrow", url="https://x.example", allowed_tools=["read_*"])
    Tool.objects.create(name="inner", kind=Kind.HTTP, url="http://x/", allow_private_hosts=True)
    Tool.objects.create(name="now", kind=Kind.LOCAL, function="time.time")
    settings.GATEWAY_TOOL_MODULES = ["*"]
    assert subjects("tools-without-allow-list") == ["GATEWAY_TOOL_MODULES", "MCP server open", "tool inner"]
    settings.GATEWAY_TOOL_HOSTS, settings.GATEWAY_TOOL_MODULES = ["10.0.0.1"], ["my_tools"]
    assert subjects("tools-without-allow-list") == ["MCP server open"]


# --- the installation ------------------------------------------------------------------------------------------------


def test_settings_that_are_not_fit_for_a_network(settings: LazySettings) -> None:
    settings.BEHIND_TLS = False
    settings.DEBUG = True
    told = subjects("deployment-settings")
    assert "GATEWAY_PUBLIC_URL" in told
    assert "security.W018" in told  # DEBUG
    assert "security.W008" not in told  # said by the first
    settings.BEHIND_TLS, settings.DEBUG = True, False
    assert "security.W008" in subjects("deployment-settings")


def test_audits_that_failed_or_were_not_made() -> None:
    now = clock.now()
    assert subjects("audits-missing") == []
    values = {"by": "schedule", "is_whole": True}
    AuditRun.objects.create(started_at=now, outcome=AuditRun.Outcome.RUNNING, **values)  # this one
    last = AuditRun.objects.create(
        started_at=now - DAY, ended_at=now - DAY, outcome=AuditRun.Outcome.COMPLETED, **values
    )
    assert subjects("audits-missing") == []
    AuditRun.objects.filter(pk=last.pk).update(outcome=AuditRun.Outcome.FAILED, started_at=now - 2 * DAY)
    assert subjects("audits-missing") == ["nights without an audit", "the audit before"]


def test_tables_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subjects("table-growth") == []
    Recording(pk=1, keep_runs_days=0, keep_steps_days=0).save()
    ApiKeyFactory.create()
    monkeypatch.setattr(table_growth, "_MANY_ROWS", 0)
    told = subjects("table-growth")
    assert {"runs are kept for ever", "steps are kept for ever"} <= set(told)


def test_growth_since_an_audit_a_week_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    ApiKeyFactory.create_batch(5)
    monkeypatch.setattr(table_growth, "_SOME_ROWS", 4)
    rows = sizes.measured()["tables"]["access_apikey"]
    week = AuditRun.objects.create(by="schedule", started_at=clock.now() - timedelta(days=8), outcome="completed")
    assert "growth of table access_apikey" not in subjects("table-growth"), "nothing to compare with"

    week.sizes = {"bytes": 0, "tables": {"access_apikey": rows // 2 - 1}}
    week.save()
    (told,) = [one for one in found("table-growth") if one.subject == "growth of table access_apikey"]
    assert told.message == f"It grew from about {rows // 2 - 1:,} to {rows:,} rows in 8 days."

    week.sizes["tables"]["access_apikey"] = rows
    week.save()
    assert "growth of table access_apikey" not in subjects("table-growth")


def test_disk_that_is_full_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    AuditRun.objects.create(
        by="schedule", started_at=clock.now() - timedelta(days=10), sizes={"bytes": 0, "tables": {}}
    )
    monkeypatch.setattr(sizes, "measured", lambda: {"bytes": 10 * 1024**3, "tables": {}})
    monkeypatch.setattr(sizes, "room", lambda: 2 * 1024**3)
    (told,) = found("table-growth")
    assert told.message == "2.0 GB are free; at the pace of the last 10 days they last 2."

    monkeypatch.setattr(sizes, "room", lambda: 200 * 1024**3)
    assert found("table-growth") == []


def test_guide_lists_every_rule() -> None:
    guide = (Path(__file__).parents[2] / "docs/audits.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+) \|$", guide, re.MULTILINE)
    assert listed == [(rule.id, str(rule.severity), rule.title) for rule in all_rules().values()]
