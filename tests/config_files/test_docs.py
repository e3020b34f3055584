"""docs/config-files.md: what it shows can be imported as pasted."""

import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command

from apps.audits.alerts import webhook
from apps.config_files.sheets import BY_SECTION
from apps.upstreams.models import Upstream

pytestmark = pytest.mark.django_db

DOCUMENT = (settings.ROOT / "docs" / "config-files.md").read_text()
EXAMPLES = re.findall(r"## (\w+\.yaml)\n\n```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


def test_every_section_is_described() -> None:
    shown = {section for _, text in EXAMPLES for section in yaml.safe_load(text)}

    assert shown | {"approved_versions"} == set(BY_SECTION)


def test_each_example_is_in_the_file_that_the_export_writes() -> None:
    assert {(section, name) for name, text in EXAMPLES for section in yaml.safe_load(text)} <= {
        (section, sheet.file) for section, sheet in BY_SECTION.items()
    }


def test_the_examples_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("DOCS_TOKEN", "t-1")
    monkeypatch.setenv("ALERTS_SECRET", webhook.new_secret())
    for name, text in EXAMPLES:
        (tmp_path / name).write_text(text)

    call_command("import_config", str(tmp_path))

    assert set(Upstream.objects.values_list("slug", flat=True)) == {"openai", "home"}
    call_command("import_config", str(tmp_path), "--dry-run")
