import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from apps.audits import findings
from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Finding
from apps.core import clock
from tests.audits.conftest import FINDS

pytestmark = pytest.mark.django_db(transaction=True)

FAILS = """from apps.audits.rule import Rule, Severity

RULE = Rule("test-fails", "Fails", Severity.LOW, "", lambda: 1 / 0)
"""


def run(*arguments: str) -> tuple[int, str, str]:
    """The exit status, stdout and stderr."""
    out, errors = StringIO(), StringIO()
    try:
        call_command("audit", *arguments, stdout=out, stderr=errors, no_color=True)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), errors.getvalue()
    return 0, out.getvalue(), errors.getvalue()


def test_exit_status_tells_of_open_findings_of_the_severity(only_rules: Callable[[dict[str, str]], None]) -> None:
    only_rules({"test_finds": FINDS})
    status, out, progress = run()
    assert status == 1
    assert "MEDIUM  new   key a  It is there." in out
    assert "Mend it." in out
    assert out.splitlines()[-1] == "1 finding (0 high, 1 medium, 0 low); 1 new, 0 gone; 1 of 1 rules checked."
    assert progress.splitlines()[-1] == "[1/1] test-finds ... 1 found"

    assert run("--min-severity", "high")[0] == 0

    now = clock.now()
    findings.accept(Finding.objects.get(), by="ann", reason="so", until=now + timedelta(days=7), now=now)
    status, out, _ = run()
    assert (status, "(accepted until" in out) == (0, True)


def test_failed_rule_is_status_2_and_the_alert_is_delivered_without_celery(
    only_rules: Callable[[dict[str, str]], None],
) -> None:
    AlertChannel.objects.create(name="Log", kind="log")
    only_rules({"test_fails": FAILS})
    status, out, _ = run()

    assert (status, AuditRun.objects.get().outcome) == (2, "failed")
    assert "test-fails: failed. ZeroDivisionError: division by zero" in out
    told = AlertDelivery.objects.get()
    assert (told.event, told.state) == ("audit.failed", "delivered")


def test_json_is_one_object(only_rules: Callable[[dict[str, str]], None]) -> None:
    only_rules({"test_finds": FINDS})
    status, out, progress = run("--json", "--rule", "test-finds")
    told: dict[str, Any] = json.loads(out)
    assert (status, progress, told["outcome"]) == (1, "", "completed")
    assert [(one["rule"], one["subject"], one["accepted"]) for one in told["findings"]] == [
        ("test-finds", "key a", False)
    ]


def test_unknown_rule_names_the_near_ones(only_rules: Callable[[dict[str, str]], None]) -> None:
    only_rules({"test_finds": FINDS})
    with pytest.raises(CommandError, match=r"^There is no rule test-find\. Did you mean test-finds\?$") as refused:
        run("--rule", "test-find")
    assert refused.value.returncode == 2
    assert AuditRun.objects.count() == 0
