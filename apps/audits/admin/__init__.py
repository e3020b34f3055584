"""Audits in the console: what was found, when it was looked for, who is told, and the schedule of it all."""

from apps.audits.admin import audits, channels, deliveries, findings, schedules  # noqa: F401  # register their pages
