"""Every section of the configuration is declared when the server's application is imported, none by a request."""

import subprocess
import sys

from tests.harness.processes import ROOT, clean_environment

PROGRAM = """
import sys
from gateway_site import asgi
from apps.core import live_config
before = set(live_config._state.loaders)
from django.urls import get_resolver
get_resolver().url_patterns
import apps.access.policy_in_force, apps.access.keys
sys.exit(bool(set(live_config._state.loaders) - before))
"""


def test_no_section_is_declared_by_the_first_request(tmp_path: object) -> None:
    environment = clean_environment(GATEWAY_DATA_DIR=str(tmp_path), PYTHONPATH=str(ROOT))

    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=ROOT, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
