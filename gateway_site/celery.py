"""Celery's application: `manage.py worker` runs it, and so does `celery -A gateway_site worker -B`."""

import os

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from apps.observability import celery_lines

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")

# Messages as files of the data folder, for where no broker is installed.
TRANSPORT_ALIASES["folder"] = "apps.audits.folder_transport:Transport"

app = Celery("gateway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["apps.audits"])
celery_lines.install()
