"""Every section of the configuration is declared when the server's application is imported, none by a request."""

from tests.harness import forked
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
    environment = clean_environment(GATEWAY_DATA_DIR=str(tmp_path))

    done = forked.run(["-c", PROGRAM], folder=ROOT, environment=environment, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
