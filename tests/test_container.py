"""What the container's files name is there, and the services of the compose file belong together."""

import re
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from apps.audits.celery_worker import GRACE
from tests.harness.processes import ROOT

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def manage(command: list[str]) -> None:
    """Raises CommandError for arguments that the command does not know."""
    assert command[:2] == ["python", "manage.py"]
    load_command_class(get_commands()[command[2]], command[2]).create_parser("manage.py", command[2]).parse_args(
        command[3:]
    )


def test_image_is_made_of_what_is_there_and_runs_as_nobody_special() -> None:
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY .+$", DOCKERFILE, re.MULTILINE)]
    names = [name for line in copied for name in line]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert [name for name in names if not (ROOT / name).exists() or name in ignored] == []
    assert "requirements.lock" in names
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["gateway"]


def test_services_run_commands_of_one_image() -> None:
    assert {one["image"] for one in SERVICES.values()} == {"agent-gateway"}
    manage(SERVICES["worker"]["command"])
    manage(SERVICES["worker"]["healthcheck"]["test"][1:])
    manage(SERVICES["demo"]["command"])


def test_worker_shares_what_the_gateway_works_on() -> None:
    gateway, worker = SERVICES["gateway"], SERVICES["worker"]
    assert worker["volumes"] == gateway["volumes"]
    assert worker["environment"].items() <= gateway["environment"].items()
    assert {"DATABASE_URL", "CELERY_BROKER_URL", "GATEWAY_PUBLIC_URL"} <= worker["environment"].keys()
    assert worker["depends_on"] == {"gateway": {"condition": "service_healthy"}}  # whose start makes the tables


@pytest.mark.parametrize("service", ["gateway", "worker"])
def test_stop_is_given_the_time_that_it_takes(service: str) -> None:
    """Docker's own are ten seconds."""
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > GRACE + 10
