"""Versions that are kept, put back and followed again, in one process; tests/console/test_agent_versions.py has two."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from apps.catalog import archives, pinned_folders, recording, registry, scan, serving_workers, versions
from apps.catalog.archives import Damaged
from apps.catalog.models import AgentVersion, Diagnostic, DropIn, PinnedVersion, ServingWorker, State
from apps.catalog.serving_workers import Agreement, ThisWorker
from apps.catalog.versions import CannotPutBack
from apps.core import clock, live_config
from apps.core.models import ConfigVersion
from apps.upstreams.detect import add_demo
from tests.catalog.conftest import DiscoveryFolder

ID = "default/weather"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, settings: LazySettings) -> Path:
    settings.DATA_DIR = tmp_path / "data"
    return tmp_path / "data"


@pytest.fixture
def catalog(catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiscoveryFolder]:
    """With an upstream, a memory of its own of what was kept, and no pin left behind."""
    monkeypatch.setattr(recording, "_keeper", versions.Keeper())
    add_demo().make_default()
    yield catalog
    PinnedVersion.objects.all().delete()
    live_config.forget()


def refresh() -> None:
    """As the discovery thread looks, once live configuration has followed."""
    live_config.refresh()
    registry.refresh()


def save(catalog: DiscoveryFolder, name: str, **files: str) -> str:
    """A new version of Weather whose agent has this name, looked at; returns its digest."""
    catalog.write_agent("Weather", name)
    for file, text in files.items():
        (catalog.path / "Weather" / file).write_text(text)
    refresh()
    return registry.entries()[ID].digest


def kept() -> list[str]:
    return list(AgentVersion.objects.order_by("last_loaded_at", "pk").values_list("digest", flat=True))


def codes() -> list[str]:
    return [one.code for one in registry.entries()[ID].problems]


class TestArchive:
    def folder(self, path: Path) -> scan.Folder:
        return scan.Folder(ID, path, scan.fingerprint(path))

    def written(self, path: Path, **files: bytes) -> scan.Folder:
        for name, content in {"agent.py": b"1", **files}.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return self.folder(path)

    def packed(self, folder: scan.Folder) -> bytes:
        archive = archives.pack(ID, folder.path, scan.digest(folder))
        assert archive is not None
        assert archive.content is not None
        return archive.content

    def test_files_come_back_as_they_were(self, tmp_path: Path) -> None:
        path = tmp_path / "Weather"
        files = {"data/prices.csv": b"1,2", ".env": b"A=1", "tools/__init__.py": b"", "run.sh": b"#!/bin/sh"}
        folder = self.written(path, **files, **{"__pycache__/x.pyc": b"x", "notes.log": b"x"})
        (path / "run.sh").chmod(0o755)
        os.utime(path / "agent.py", (1_700_000_001, 1_700_000_001))
        folder = self.folder(path)
        back = archives.unpack(ID, self.packed(folder), tmp_path / "back", scan.digest(folder))

        found = {str(one.relative_to(back.path)): one.read_bytes() for one in back.path.rglob("*") if one.is_file()}
        assert found == {"agent.py": b"1", **files}
        assert os.access(back.path / "run.sh", os.X_OK)
        assert back.created == 1_700_000_001

    def test_folder_that_changed_is_not_packed(self, tmp_path: Path) -> None:
        digest = scan.digest(self.written(tmp_path))
        (tmp_path / "agent.py").write_text("2")
        assert archives.pack(ID, tmp_path, digest) is None

    def test_large_folder_is_counted_and_not_packed(self, tmp_path: Path) -> None:
        folder = self.written(tmp_path, **{"model.bin": b"0" * archives.LARGEST})
        archive = archives.pack(ID, tmp_path, scan.digest(folder))
        assert archive == archives.Archive(archives.LARGEST + 1, 2, None)

    def test_damaged_folder_is_mended_and_what_it_wrote_is_left(self, tmp_path: Path) -> None:
        folder = self.written(tmp_path / "Weather", **{"a/b.txt": b"b", "c.txt": b"c"})
        content, digest, back = self.packed(folder), scan.digest(folder), tmp_path / "back"
        archives.unpack(ID, content, back, digest)
        (back / "agent.py").write_text("changed")
        (back / "a/b.txt").unlink()
        (back / "own.txt").write_text("of the agent")
        unchanged = (back / "c.txt").stat()

        mended = archives.unpack(ID, content, back, digest)
        assert scan.digest(mended) == digest
        assert (back / "own.txt").read_text() == "of the agent"
        assert (back / "c.txt").stat() == unchanged

    def test_file_that_another_process_placed_meanwhile_is_left_as_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = self.written(tmp_path / "live", **{"agent.py": b"one"})
        content, digest, back = self.packed(folder), scan.digest(folder), tmp_path / "back"
        make, others = archives.tempfile.mkstemp, list[scan.Folder]()

        def meanwhile(**options: Any) -> Any:
            monkeypatch.undo()
            others.append(archives.unpack(ID, content, back, digest))
            return make(**options)

        monkeypatch.setattr(archives.tempfile, "mkstemp", meanwhile)
        ours = archives.unpack(ID, content, back, digest)
        (other,) = others
        assert (ours.has_changed(), other.has_changed()) == (False, False)
        assert [path.name for path in back.iterdir()] == ["agent.py"]

    def test_may_be_unpacked_by_many_at_once(self, tmp_path: Path) -> None:
        files = {f"data/{number}.txt": str(number).encode() * 1000 for number in range(50)}
        folder = self.written(tmp_path / "Weather", **files)
        content, digest = self.packed(folder), scan.digest(folder)
        start, digests = threading.Barrier(6), []

        def unpack() -> None:
            start.wait()
            digests.append(scan.digest(archives.unpack(ID, content, tmp_path / "back", digest)))

        threads = [threading.Thread(target=unpack) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert digests == [digest] * 6
        assert len([one for one in (tmp_path / "back").rglob("*") if one.is_file()]) == 51

    @pytest.mark.parametrize(
        "harm", [lambda one: one[:40], lambda _: b"no archive", lambda one: one[:60] + b"x" * 20 + one[80:]]
    )
    def test_damaged_archive_is_refused(self, tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
        folder = self.written(tmp_path / "Weather")
        with pytest.raises(Damaged):
            archives.unpack(ID, harm(self.packed(folder)), tmp_path / "back", scan.digest(folder))

    def test_archive_of_another_version_is_refused(self, tmp_path: Path) -> None:
        content = self.packed(self.written(tmp_path / "Weather"))
        with pytest.raises(Damaged, match="their digest is another"):
            archives.unpack(ID, content, tmp_path / "back", "0" * 64)

    def test_unwritable_place_is_named(self, tmp_path: Path) -> None:
        folder = self.written(tmp_path / "Weather")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(Damaged, match="cannot be written to"):
            archives.unpack(ID, self.packed(folder), tmp_path / "file", scan.digest(folder))


class TestKeeping:
    def test_each_version_that_loaded_is_kept_once(self, catalog: DiscoveryFolder) -> None:
        first = save(catalog, "one")
        save(catalog, "one")
        second = save(catalog, "two")
        (catalog.path / "Weather/agent.py").write_text("1 / 0")
        refresh()
        assert kept() == [first, second]
        version = AgentVersion.objects.get(digest=first)
        assert (version.folder_id, version.file_count) == (ID, 1)
        assert version.size == len('from agents import Agent\nagent = Agent(name="one")\n')

    def test_the_newest_five_are_kept(self, catalog: DiscoveryFolder) -> None:
        digests = [save(catalog, f"number {number}") for number in range(7)]
        assert kept() == digests[2:]

    def test_version_that_the_folder_came_back_to_is_new_again(self, catalog: DiscoveryFolder) -> None:
        first, second = save(catalog, "one"), save(catalog, "two")
        assert save(catalog, "one") == first
        assert kept() == [second, first]

    def test_pinned_version_is_not_one_of_the_five(self, catalog: DiscoveryFolder) -> None:
        first = save(catalog, "one")
        versions.put_back(ID, first)
        others = []
        for number in range(7):  # loaded by a worker that does not know of the pin yet
            catalog.write_agent("Weather", f"number {number}")
            registry.refresh()
            others.append(registry.entries()[ID].digest)
        assert kept() == [first, *others[2:]]

    def test_large_folder_is_listed_and_cannot_be_put_back(self, catalog: DiscoveryFolder) -> None:
        catalog.write_agent("Weather", "one")
        (catalog.path / "Weather/model.bin").write_bytes(b"0" * archives.LARGEST)
        refresh()
        version = AgentVersion.objects.get()
        assert (version.archive, version.file_count) == (None, 2)
        with pytest.raises(versions.CannotPutBack, match="is not kept"):
            versions.put_back(ID, version.digest)

    def test_many_folders_are_kept_some_at_a_look(self, catalog: DiscoveryFolder, tmp_path: Path) -> None:
        keeper = versions.Keeper()
        loaded = []
        for number in range(120):
            path = tmp_path / "many" / f"a{number}"
            path.mkdir(parents=True)
            (path / "agent.py").write_text(str(number))
            digest = scan.digest(scan.Folder("", path, scan.fingerprint(path)))
            loaded.append(versions.Loaded(f"default/a{number}", path, digest))
        keeper.look_at(loaded)
        counts = []
        for _ in range(4):
            keeper.work()
            counts.append(AgentVersion.objects.count())
        assert counts == [50, 100, 120, 120]

    def test_folder_in_change_is_kept_when_it_has_settled(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(versions, "_RETRY_SECONDS", 0.0)
        path = catalog.write_agent("Weather", "one")
        digest = scan.digest(scan.Folder(ID, path, scan.fingerprint(path)))
        keeper = versions.Keeper()
        keeper.look_at([versions.Loaded(ID, path, digest)])
        catalog.write_agent("Weather", "two")
        keeper.work()
        assert kept() == []
        catalog.write_agent("Weather", "one")
        keeper.work()
        assert kept() == [digest]

    def test_steady_state_asks_the_database_nothing(
        self, catalog: DiscoveryFolder, django_assert_num_queries: Any
    ) -> None:
        first = save(catalog, "one")
        save(catalog, "two")
        versions.put_back(ID, first)
        refresh()
        with django_assert_num_queries(0):
            registry.refresh()


class TestPuttingBack:
    def test_former_version_serves_until_the_folder_is_followed_again(self, catalog: DiscoveryFolder) -> None:
        first, second = save(catalog, "one"), save(catalog, "two")
        before = ConfigVersion.current()
        versions.put_back(ID, first)
        assert ConfigVersion.current() > before
        refresh()
        entry = registry.entries()[ID]
        assert (entry.name, entry.digest, entry.state) == ("one", first, State.LIVE)
        row = DropIn.objects.get()
        assert (row.digest, row.disk_digest, row.folder) == (first, second, str(catalog.path / "Weather"))

        assert versions.follow_folder(ID)
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("two", [])
        assert not versions.follow_folder(ID)

    def test_edits_do_not_serve_and_the_diagnostic_says_so(self, catalog: DiscoveryFolder) -> None:
        first = save(catalog, "one")
        versions.put_back(ID, first)
        refresh()
        (problem,) = registry.entries()[ID].problems
        assert (problem.code, problem.severity, problem.file) == (
            "pinned_version", "warning", str(catalog.path / "Weather"),
        )  # fmt: skip
        assert problem.reason == f"An operator put version {first[:12]} back: it serves, and edits do not."

        (catalog.path / "Weather/agent.py").write_text("1 / 0")
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("one", ["pinned_version"])
        newest = DropIn.objects.get().disk_digest
        reason = Diagnostic.objects.get().reason
        assert reason == (
            f"An operator put version {first[:12]} back: it serves, and what lies in the folder, "
            f"version {newest[:12]}, does not."
        )
        assert newest != first

    def test_data_files_lie_beside_the_code_and_databases_are_shared(self, catalog: DiscoveryFolder) -> None:
        source = """
            from pathlib import Path
            from agents import Agent
            here = Path(__file__).parent
            agent = Agent(name=(here / "name.txt").read_text())
        """
        path = catalog.write("Weather", source)
        (path / "name.txt").write_text("one")
        with sqlite3.connect(path / "memory.db") as database:
            database.execute("CREATE TABLE said (text)")
        refresh()
        first = registry.entries()[ID].digest
        (path / "name.txt").write_text("two")
        refresh()
        versions.put_back(ID, first)
        refresh()
        assert registry.entries()[ID].name == "one"

        (extracted,) = scan_root(catalog).glob("*/*/*/Weather")
        with sqlite3.connect(extracted / "memory.db") as database:
            database.execute("INSERT INTO said VALUES ('hello')")
        with sqlite3.connect(path / "memory.db") as database:
            assert database.execute("SELECT text FROM said").fetchall() == [("hello",)]

    def test_pin_belongs_to_the_folder_of_several_agents(self, catalog: DiscoveryFolder) -> None:
        two = "from agents import Agent\nfirst = Agent(name='A{0}')\nsecond = Agent(name='B{0}')\n"
        catalog.write("Desk", two.format(1))
        refresh()
        digest = registry.entries()["default/desk.first"].digest
        catalog.write("Desk", two.format(2))
        refresh()
        assert set(DropIn.objects.values_list("folder_id", flat=True)) == {"default/desk"}
        versions.put_back("default/desk", digest)
        refresh()
        assert [one.name for one in registry.entries().values()] == ["A1", "B1"]
        assert set(DropIn.objects.values_list("folder_id", flat=True)) == {"default/desk"}

    def test_damaged_extraction_is_mended(self, catalog: DiscoveryFolder) -> None:
        first = save(catalog, "one", **{"data.txt": "data"})
        versions.put_back(ID, first)
        refresh()
        (extracted,) = scan_root(catalog).glob("*/*/*/Weather")
        (extracted / "agent.py").unlink()
        (extracted / "data.txt").write_text("damaged")
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("one", ["pinned_version"])
        assert (extracted / "data.txt").read_text() == "data"

    def test_version_that_cannot_be_brought_back_leaves_what_serves(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pinned_folders, "_RETRY_SECONDS", 0.0)
        first, second = save(catalog, "one"), save(catalog, "two")
        intact = AgentVersion.objects.get(digest=first).archive
        AgentVersion.objects.filter(digest=first).update(archive=b"damaged")
        versions.put_back(ID, first)
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("two", ["pin_failed"])
        assert DropIn.objects.get().digest == second
        assert Diagnostic.objects.get().severity == "error"

        AgentVersion.objects.filter(digest=first).update(archive=intact)
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("one", ["pinned_version"])

        AgentVersion.objects.filter(digest=second).update(archive=b"damaged")
        versions.put_back(ID, second)
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("one", ["pin_failed"])

    def test_removed_folder_serves_nothing_and_returns_pinned(self, catalog: DiscoveryFolder) -> None:
        first = save(catalog, "one")
        versions.put_back(ID, first)
        refresh()
        (catalog.path / "Weather").rename(catalog.path.parent / "elsewhere")
        refresh()
        assert ID not in registry.entries()
        save(catalog, "two")
        assert registry.entries()[ID].name == "one"

    def test_files_that_nobody_uses_are_removed_after_the_longest_run(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = save(catalog, "one"), save(catalog, "two")
        for digest in (first, second):
            versions.put_back(ID, digest)
            refresh()
        place = scan_root(catalog) / "default/weather"
        assert {one.name for one in place.iterdir()} == {first, second}
        for one in place.iterdir():
            os.utime(one, (0, 0))
        monkeypatch.setattr(pinned_folders.pinned_folders, "_lease_ends", 0.0)
        refresh()
        assert {one.name for one in place.iterdir()} == {second}


def scan_root(catalog: DiscoveryFolder) -> Path:
    return catalog.path.parent / "data" / "versions"


@pytest.mark.django_db
class TestRestoring:
    def test_folder_that_is_gone_comes_back_with_a_kept_version(self, catalog: DiscoveryFolder) -> None:
        one = save(catalog, "One", **{"words.txt": "one"})
        save(catalog, "Two", **{"words.txt": "two"})
        versions.put_back(ID, kept()[-1])
        folder = catalog.path / "Weather"
        shutil.rmtree(folder)
        refresh()
        assert ID not in registry.entries()

        versions.restore(ID, one, folder)
        refresh()

        assert (registry.entries()[ID].digest, registry.entries()[ID].name, codes()) == (one, "One", [])
        assert (folder / "words.txt").read_text() == "one"
        assert [path.name for path in catalog.path.iterdir()] == ["Weather"]  # nothing is left beside it

    def test_folder_that_is_there_is_left_alone(self, catalog: DiscoveryFolder) -> None:
        one = save(catalog, "One")
        save(catalog, "Two")
        with pytest.raises(CannotPutBack, match=r"cannot be written to .*Weather: .*not empty"):
            versions.restore(ID, one, catalog.path / "Weather")
        assert "Two" in (catalog.path / "Weather" / "agent.py").read_text()
        assert [path.name for path in catalog.path.iterdir()] == ["Weather"]

    def test_place_outside_the_discovery_folders_is_refused(self, catalog: DiscoveryFolder, tmp_path: Path) -> None:
        one = save(catalog, "One")
        with pytest.raises(CannotPutBack, match="does not lie in a discovery folder any more"):
            versions.restore(ID, one, tmp_path / "elsewhere" / "Weather")
        assert not (tmp_path / "elsewhere").exists()

    def test_version_that_is_not_kept_is_refused(self, catalog: DiscoveryFolder) -> None:
        with pytest.raises(CannotPutBack, match="is not kept"):
            versions.restore(ID, "0" * 64, catalog.path / "Weather")


class TestServingWorkers:
    def test_row_says_what_serves_and_leaves_with_the_process(self, catalog: DiscoveryFolder) -> None:
        worker = ThisWorker()
        worker.enter(registry.discovery_mode)
        digest = save(catalog, "one")
        catalog.write("Broken", "1 / 0")
        refresh()
        worker.tell(registry._found)
        row = ServingWorker.objects.get()
        assert row.versions == {"default/broken": "", ID: digest[:12]}
        assert row.pid == os.getpid()
        worker.leave()
        assert not ServingWorker.objects.exists()

    def test_command_has_no_row(self, catalog: DiscoveryFolder) -> None:
        save(catalog, "one")
        ThisWorker().tell(registry._found)
        assert not ServingWorker.objects.exists()

    def test_writes_only_what_is_new_until_the_next_heartbeat(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
    ) -> None:
        worker = ThisWorker()
        worker.enter(registry.discovery_mode)
        save(catalog, "one")
        worker.tell(registry._found)
        with django_assert_num_queries(0):
            worker.tell(registry._found)
        seen = ServingWorker.objects.get().seen_at
        monkeypatch.setattr(serving_workers, "HEARTBEAT", timedelta(0))
        worker.tell(registry._found)
        assert ServingWorker.objects.get().seen_at > seen

    def test_dead_worker_is_removed_by_the_others_and_returns_when_it_lives(
        self, catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serving_workers, "HEARTBEAT", timedelta(0))
        first, second = ThisWorker(), ThisWorker()
        first.enter(registry.discovery_mode)
        second.enter(registry.discovery_mode)
        save(catalog, "one")
        first.tell(registry._found)
        long_ago = clock.now() - serving_workers.SILENT_AFTER
        ServingWorker.objects.update(seen_at=long_ago)
        assert not serving_workers.answering(clock.now()).exists()
        ServingWorker.objects.update(seen_at=clock.now() - serving_workers.DEAD_AFTER)
        second.tell(registry._found)
        assert ServingWorker.objects.count() == 1
        first.tell(registry._found)
        assert [list(one.versions) for one in serving_workers.answering(clock.now())] == [[ID], [ID]]

    def test_agreement_counts_those_that_serve_the_same(self) -> None:
        def worker(**versions: str) -> ServingWorker:
            return ServingWorker(versions=versions)

        workers = [worker(a="1", b="1"), worker(a="1", b="2"), worker(a="1")]
        assert serving_workers.agreement("a", workers) == Agreement("1", 3, 3)
        assert serving_workers.agreement("b", [*workers, worker()]) == Agreement("1", 1, 4)
        assert serving_workers.agreement("c", workers) == Agreement("", 3, 3)
        assert serving_workers.agreement("b", []) == Agreement("", 0, 0)
        assert serving_workers.disputed(workers) == {"b"}


def test_database_that_fails_does_not_hold_up_a_pin(catalog: DiscoveryFolder) -> None:
    first = save(catalog, "one")
    save(catalog, "two")
    versions.put_back(ID, first)
    with connection.schema_editor() as editor:
        editor.alter_db_table(AgentVersion, "catalog_agentversion", "catalog_hidden")
    try:
        refresh()
        assert (registry.entries()[ID].name, codes()) == ("two", ["pin_failed"])
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(AgentVersion, "catalog_hidden", "catalog_agentversion")
