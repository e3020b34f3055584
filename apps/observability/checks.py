"""Mistakes in the settings, as Django's system checks; a server process logs the same at its start."""

from typing import Any

from django.core.checks import CheckMessage, register
from django.core.checks import Warning as CheckWarning

from apps.observability.telemetry import trouble


@register
def export_can_be_made(**_: Any) -> list[CheckMessage]:
    found = trouble()
    return [CheckWarning(found[0], hint=found[1], id="observability.W001")] if found else []
