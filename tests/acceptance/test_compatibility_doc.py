"""docs/compatibility.md names exactly the fixtures that there are."""

import re

from django.conf import settings

from tests.acceptance.conftest import FIXTURES


def test_every_fixture_is_in_the_table_and_every_name_of_the_table_is_a_fixture() -> None:
    text = (settings.ROOT / "docs" / "compatibility.md").read_text()
    cells = [row.split("|")[2] for row in text.splitlines() if row.startswith("| ")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    assert named == {folder.name for folder in FIXTURES.iterdir() if any(folder.rglob("agent.py"))}
