"""Rules, the lock and approved versions in one process; tests/v1/test_modules.py has two workers and real requests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from apps.catalog import approved_versions, archives, inspection, modules, recording, registry, versions
from apps.catalog.approved_versions import Change
from apps.catalog.models import AgentVersion, ApprovedVersion, DropIn, Effect, ModulePolicy, ModuleRule, PinnedVersion
from apps.catalog.modules import Policy, Rule
from apps.core import live_config
from apps.core.globs import specificity
from apps.upstreams.detect import add_demo
from tests.catalog.conftest import DiscoveryFolder

ID = "default/weather"
ALLOW, DENY = Effect.ALLOW, Effect.DENY


def policy(*rules: tuple[Effect, str]) -> Policy:
    return Policy(modules.in_order(Rule(pattern, effect) for effect, pattern in rules))


# --- rules -----------------------------------------------------------------------------------------------------------


def test_no_star_is_more_specific_than_any_star_and_then_more_letters_are() -> None:
    patterns = ["*", "labs/*", "labs/*planner*", "*planner-of-many-things*", "a/b"]
    assert sorted(patterns, key=specificity) == [
        "*", "labs/*", "labs/*planner*", "*planner-of-many-things*", "a/b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "decides"),
    [
        ([], None),
        ([(DENY, "other/*")], None),
        ([(DENY, "*")], "*"),
        ([(DENY, "*"), (ALLOW, "labs/*")], "labs/*"),
        ([(ALLOW, "labs/*"), (DENY, "labs/*planner*")], "labs/*planner*"),
        ([(DENY, "*planner-and-more*"), (ALLOW, "labs/planner")], "labs/planner"),
        ([(ALLOW, "labs/plan*"), (DENY, "*bs/planner")], "*bs/planner"),  # as long, and it denies
        ([(DENY, "*/planner"), (ALLOW, "labs/pl*")], "*/planner"),
        ([(DENY, "LABS/Planner")], "LABS/Planner"),
    ],
)
def test_most_specific_rule_decides_and_deny_beats_allow_at_a_tie(
    rules: list[tuple[Effect, str]], decides: str | None
) -> None:
    found = {policy(*order).ruling("labs/planner") for order in (rules, rules[::-1])}
    assert {one and one.pattern for one in found} == {decides}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([(DENY, "labs/*")], ""),
        ([(DENY, "nobody/*")], "It fits no folder that is known now."),
        (
            [(ALLOW, "lab*"), (DENY, "labs/*"), (ALLOW, "labs/planner")],
            "More specific rules decide: allow labs/planner, deny labs/*.",
        ),
        (
            [(ALLOW, "shut/*")],
            "It can never decide: the settings keep out all that it fits.",
        ),
    ],
)
def test_rule_that_decides_nothing_says_why(rules: list[tuple[Effect, str]], said: str, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_DISCOVERY_DENYLIST = ["shut/*"]
    first = Rule(rules[0][1], rules[0][0])
    assert modules.remark(first, policy(*rules), ["labs/planner", "labs/scraper", "shut/down", ID]) == said


# --- in one process --------------------------------------------------------------------------------------------------


@pytest.fixture
def catalog(
    catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: LazySettings
) -> Iterator[DiscoveryFolder]:
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setattr(recording, "_keeper", versions.Keeper())
    add_demo().make_default()
    yield catalog
    for model in (ModuleRule, ModulePolicy, ApprovedVersion, PinnedVersion):
        model.objects.all().delete()
    live_config.refresh()


def refresh() -> None:
    live_config.refresh()
    registry.refresh()


def save(catalog: DiscoveryFolder, name: str) -> None:
    catalog.write_agent("Weather", name)
    refresh()


def lock(*, locked: bool = True) -> None:
    row = ModulePolicy.row()
    row.locked = locked
    row.save()
    refresh()


def approve() -> str:
    row = DropIn.objects.get(agent_id=ID)
    digest = approved_versions.review(row).digest
    approved_versions.approve(ID, Path(row.folder), digest)
    refresh()
    return digest


def serving() -> tuple[str, str, list[str]]:
    """The name of the agent that serves, its state, and what is wrong."""
    entry = registry.entries()[ID]
    return entry.name if entry.generation else "", entry.state.value, [one.code for one in entry.problems]


def problems(agent_id: str = ID) -> list[str]:
    return [one.reason for id, one in registry.problems() if id == agent_id]


class TestRules:
    def test_settings_stay_the_outer_bound_and_say_so(self, catalog: DiscoveryFolder, settings: LazySettings) -> None:
        ModuleRule(effect=ALLOW, pattern=ID).save()
        settings.GATEWAY_AGENT_DISCOVERY_DENYLIST = ["other/*", "*weather"]
        save(catalog, "one")
        (said,) = problems()
        assert said == (
            "default/weather is not loaded: “*weather” of the denylist in the settings keeps it out. None of its code "
            "was executed."
        )
        settings.GATEWAY_AGENT_DISCOVERY_DENYLIST, settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST = [], ["labs/*"]
        refresh()
        (said,) = problems()
        assert said == (
            "default/weather is not loaded: nothing in the settings' allowlist lets it in. None of its code was "
            "executed."
        )
        assert ID not in registry.entries()

    def test_denied_agent_has_that_state_and_is_itself_again_without_the_rule(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        ModuleRule(effect=DENY, pattern="*").save()
        refresh()
        assert registry.entries() == {}
        assert DropIn.objects.get().state == "denied"
        ModuleRule.objects.all().delete()
        refresh()
        assert (serving(), DropIn.objects.get().state) == (("one", "live", []), "live")


class TestImports:
    def deny(self, *names: str) -> None:
        row = ModulePolicy.row()
        row.denied_imports = list(names)
        row.save()
        refresh()

    def test_longer_list_does_not_load_again_what_passes(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        before = registry.entries()[ID].generation
        self.deny("subprocess")
        assert registry.entries()[ID].generation is before

    def test_last_good_version_that_cannot_be_read_again_stops(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        catalog.write("Weather", "1 / 0")
        refresh()
        assert serving() == ("one", "stale", ["import_error"])
        self.deny("subprocess")
        assert serving() == ("", "broken", ["import_error"])

    def test_shorter_list_lets_the_last_good_version_go_on(self, catalog: DiscoveryFolder) -> None:
        self.deny("subprocess", "ctypes")
        save(catalog, "one")
        catalog.write("Weather", "import ctypes, subprocess")
        refresh()
        assert serving() == ("one", "stale", ["denied_import", "denied_import"])
        self.deny("subprocess")
        assert serving() == ("one", "stale", ["denied_import"])

    def test_environment_adds_to_the_admin(self, catalog: DiscoveryFolder, settings: LazySettings) -> None:
        settings.GATEWAY_AGENT_DENIED_IMPORTS = ["agents.mcp"]
        catalog.write("Weather", "from agents import Agent\nfrom agents.mcp import MCPServer\nagent = Agent(name='x')")
        self.deny("ctypes")
        assert serving() == ("", "broken", ["denied_import"])
        assert modules.POLICY.current().denied_imports == ("agents.mcp", "ctypes")


class TestLock:
    def test_turned_on_keeps_what_is_approved_and_stops_the_rest(self, catalog: DiscoveryFolder) -> None:
        catalog.write_agent("Other", "other")
        save(catalog, "one")
        approve()
        lock()
        assert serving() == ("one", "live", [])
        assert registry.entries()["default/other"].generation is None
        assert [one.rpartition(": ")[2] for one in problems("default/other")] == ["none of its code was executed."]
        lock(locked=False)
        assert registry.entries()["default/other"].generation is not None

    def test_approved_content_is_loaded_from_a_copy(self, catalog: DiscoveryFolder, tmp_path: Path) -> None:
        late = (
            "from agents import Agent\nagent = Agent(name='one')\ndef late():\n  import helper\n  return helper.word\n"
        )
        catalog.write("Weather", late, helper="word = 'approved'")
        refresh()
        digest = approve()
        lock()
        (catalog.path / "Weather/helper.py").write_text("word = 'changed'")
        generation = registry.entries()[ID].generation
        assert generation
        with generation.hold():
            module = next(one for name, one in generation._package.modules.items() if name.endswith(".agent"))
            assert module.late() == "approved"
        assert Path(module.__file__).parent == tmp_path / "data/versions/default/weather" / digest / "Weather"

    def test_unapproved_edit_leaves_what_served_and_is_not_kept(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        digest = approve()
        lock()
        save(catalog, "two")
        assert serving() == ("one", "stale", ["not_approved"])
        assert [one.digest for one in AgentVersion.objects.all()] == [digest]
        row = DropIn.objects.get()
        assert (row.digest, row.disk_digest != digest, row.state) == (digest, True, "stale")
        save(catalog, "one")
        assert serving() == ("one", "live", [])

    def test_of_several_approved_the_one_that_served_goes_on_after_a_restart_too(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            save(catalog, name)
            approve()
        lock()
        save(catalog, "one")
        save(catalog, "three")
        assert serving() == ("one", "stale", ["not_approved"])
        monkeypatch.setattr(registry.pinned_folders, "_pinned", {})  # what a new process knows
        save(catalog, "four")
        assert serving() == ("one", "stale", ["not_approved"])

    def test_withdrawn_approval_brings_the_one_before_and_the_last_one_stops_it(self, catalog: DiscoveryFolder) -> None:
        digests = []
        for name in ("one", "two"):
            save(catalog, name)
            digests.append(approve())
        lock()
        assert approved_versions.withdraw(ID, digests[1])
        refresh()
        assert serving() == ("one", "stale", ["not_approved"])
        assert approved_versions.withdraw(ID, digests[0])
        refresh()
        assert serving() == ("", "broken", ["not_approved"])
        assert not approved_versions.withdraw(ID, digests[0])

    def test_version_that_is_put_back_serves_when_it_is_approved(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        first = registry.entries()[ID].digest
        save(catalog, "two")
        approve()
        lock()
        versions.put_back(ID, first)
        refresh()
        assert serving() == ("two", "stale", ["not_approved"])
        approved_versions.approve(ID, catalog.path / "Weather", first)
        refresh()
        assert serving() == ("one", "live", ["pinned_version"])

    def test_approved_content_that_does_not_load_leaves_what_served(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        approve()
        lock()
        catalog.write("Weather", "1 / 0")
        refresh()
        digest = approve()
        assert serving() == ("one", "stale", ["import_error"])
        assert AgentVersion.objects.get(digest=digest).first_loaded_at is None

    def test_edit_between_looking_and_approving_is_not_approved(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        lock()
        digest = approved_versions.review(DropIn.objects.get()).digest
        catalog.write_agent("Weather", "two")
        AgentVersion.objects.all().delete()
        with pytest.raises(versions.CannotKeep, match="does not hold version"):
            approved_versions.approve(ID, catalog.path / "Weather", digest)
        assert not ApprovedVersion.objects.exists()

    def test_large_folder_cannot_be_approved(self, catalog: DiscoveryFolder) -> None:
        catalog.write_agent("Weather", "one")
        (catalog.path / "Weather/model.bin").write_bytes(b"0" * archives.LARGEST)
        refresh()
        count, failures = approved_versions.approve_serving()
        assert (count, [one.partition("is larger")[0] for one in failures]) == (0, [f"{ID}: {catalog.path}/Weather "])
        with pytest.raises(approved_versions.CannotReview, match="too large"):
            approved_versions.review(DropIn.objects.get())

    def test_what_an_agent_writes_beside_its_copy_is_no_other_version(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        digest = approve()
        lock()
        (registry._generations._slots[ID].folder.path / "notes.json").write_text("{}")
        registry._generations._slots.clear()  # what a new process knows
        registry.pinned_folders._pinned.clear()
        refresh()
        assert (registry.entries()[ID].digest, serving()) == (digest, ("one", "live", []))


# --- review ----------------------------------------------------------------------------------------------------------


def test_changes_are_named_and_shown_where_they_are_text() -> None:
    before = {"agent.py": b"a\nb\n", "gone.py": b"x\n", "same.py": b"", "data.bin": b"\xff", ".env": b"A=1"}
    after = {"agent.py": b"a\nc\n", "new.py": b"y\n", "same.py": b"", "data.bin": b"\xfe", ".env": b"A=2"}
    assert list(approved_versions.changes(before, after)) == [
        Change(".env", "changed"),
        Change("agent.py", "changed", ("@@ -1,2 +1,2 @@", " a", "-b", "+c")),
        Change("data.bin", "changed"),
        Change("gone.py", "removed", ("@@ -1 +0,0 @@", "-x")),
        Change("new.py", "added", ("@@ -0,0 +1 @@", "+y")),
    ]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("a\tb  c\n", ["+a\tb  c"]),
        ("a", ["+a", "+\\ No newline at end of file"]),
        ("a\r\nb\n", ["+a\\r", "+b"]),
        ("is_admin = '\u202e\u2066'\n", ["+is_admin = '\\u202e\\u2066'"]),  # they turn the direction of text
        ("a\u2028b\x0cc\n", ["+a\\u2028b\\x0cc"]),
        ("é\n".encode("latin-1"), ["+\\xe9"]),
    ],
)
def test_what_cannot_be_seen_is_written_out(content: str | bytes, shown: list[str]) -> None:
    after = content.encode() if isinstance(content, str) else content
    (change,) = approved_versions.changes({}, {"agent.py": after})
    assert list(change.lines[1:]) == shown


# --- check_agent -----------------------------------------------------------------------------------------------------


class TestCheck:
    def codes(self, path: Path) -> list[str]:
        report: dict[str, Any] = inspection.inspect_folder(path)
        return [one["code"] for one in report["problems"]]

    @pytest.mark.parametrize(
        ("prepare", "code"),
        [
            (lambda: ModuleRule(effect=DENY, pattern="*weather").save(), "denied"),
            (lambda: ModulePolicy(pk=1, denied_imports=["subprocess"]).save(), "denied_import"),
            (lambda: ModulePolicy(pk=1, locked=True).save(), "not_approved"),
        ],
    )
    def test_executes_nothing_that_the_gateway_may_not_load(
        self, catalog: DiscoveryFolder, tmp_path: Path, prepare: Callable[[], None], code: str
    ) -> None:
        executed = tmp_path / "executed"
        text = f"import subprocess\nfrom agents import Agent\nopen({str(executed)!r}, 'w')\nagent = Agent(name='x')\n"
        path = catalog.write("Weather", text)
        prepare()
        assert (self.codes(path), executed.exists()) == ([code], False)
        ModuleRule.objects.all().delete()
        ModulePolicy.objects.all().delete()
        assert (self.codes(path), executed.exists()) == ([], True)

    def test_without_a_database_the_environment_decides(
        self, folder: DiscoveryFolder, settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "NAME", tmp_path / "none.sqlite3")
        path = folder.write_agent("Weather", "x")
        settings.GATEWAY_AGENT_DENIED_IMPORTS = ["agents"]
        assert self.codes(path) == ["denied_import"]
        settings.GATEWAY_AGENT_LOCKED = True
        assert self.codes(path) == ["not_approved"]
        assert not (tmp_path / "none.sqlite3").exists()
