import re

from django.conf import settings

from apps.catalog.diagnostics import CODES


def test_every_code_is_documented_with_its_severity() -> None:
    text = (settings.ROOT / "docs" / "diagnostics.md").read_text()
    assert dict(re.findall(r"^\| `(\w+)` \| (\w+) \| .+ \| .+ \|$", text, re.MULTILINE)) == dict(CODES)
