"""A look at the folders that an operator asks for says what it changed."""

import pytest

from apps.catalog import refreshing, registry
from apps.catalog.refreshing import Refreshed
from apps.core import live_config
from tests.catalog.conftest import DiscoveryFolder


@pytest.fixture(autouse=True)
def no_snapshot_of_another_test() -> None:
    live_config.forget()


def test_what_was_added_reloaded_removed_and_failed_is_told(catalog: DiscoveryFolder) -> None:
    for name in ("Kept", "Edited", "Worse", "Gone"):
        catalog.write_agent(name, name)
    catalog.write("Mended", "import nothing_like_this\n")
    first = refreshing.refresh()
    assert first == Refreshed(
        added=("default/edited", "default/gone", "default/kept", "default/mended", "default/worse"),
        failed=("default/mended",),
    )

    catalog.write_agent("Edited", "Another")
    catalog.write("Worse", "def (:\n")
    catalog.write_agent("Mended", "Mended")
    catalog.write_agent("New", "New")
    (catalog.path / "Gone" / "agent.py").unlink()
    (catalog.path / "Gone").rmdir()

    assert refreshing.refresh() == Refreshed(
        added=("default/new",),
        reloaded=("default/edited", "default/mended"),
        removed=("default/gone",),
        failed=("default/worse",),
    )
    assert registry.entries()["default/worse"].generation is not None  # its last good version goes on
    assert refreshing.refresh() == Refreshed()
