"""By pip-audit, which asks the package index, or a service like OSV's, what is known of each installed version."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from apps.audits.rule import Found, NotChecked, Rule, Severity

_SECONDS = 100  # within what a rule may take
_ANSWER_SECONDS = 10  # of one question
_COMMAND = [sys.executable, "-m", "pip_audit", "--format=json", "--desc=off", "--progress-spinner=off", "--local"]


def _check() -> Iterator[Found]:
    for package in _audited():
        for known in package.get("vulns", ()):
            fixed = known.get("fix_versions") or ()
            yield Found(
                f"{package['name']} {known['id']}",
                f"{package['name']} {package['version']} has the known vulnerability {_names(known)}.",
                f"Install {package['name']} {' or '.join(fixed)}, in which it is mended."
                if fixed
                else "No version mends it yet: read what it is about, and do without the package if it concerns you.",
            )


def _audited() -> list[dict[str, Any]]:
    service = settings.GATEWAY_VULNERABILITY_URL
    asked = ["--vulnerability-service=osv", f"--osv-url={service}"] if service else []
    try:
        ran = subprocess.run(  # noqa: S603  # nothing of it comes from a client
            [*_COMMAND, f"--timeout={_ANSWER_SECONDS}", *asked],
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotChecked(f"pip-audit had no answer within {_SECONDS} s. Check the way to the package index.") from error
    if "No module named pip_audit" in ran.stderr:
        raise NotChecked("pip-audit is not installed here. Install it into the gateway's environment: make install.")
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        said = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "nothing")
        raise NotChecked(
            f"No index told what is known of the installed packages. pip-audit said: {said[:300]}"
        ) from error
    if packages and all("skip_reason" in one for one in packages):
        raise NotChecked(f"The index knew none of the packages: {packages[0]['skip_reason'][:300]}")
    return packages


def _names(known: dict[str, Any]) -> str:
    others = [one for one in known.get("aliases", ()) if one != known["id"]]
    return f"{known['id']} ({', '.join(others)})" if others else str(known["id"])


RULE = Rule(
    "vulnerable-packages",
    "Packages with known vulnerabilities",
    Severity.HIGH,
    "Install a version in which it is mended.",
    _check,
)
