from importlib import import_module

from django.apps import AppConfig
from django.conf import settings


class AuditsConfig(AppConfig):
    name = "apps.audits"
    label = "audits"
    verbose_name = "Audits"

    def ready(self) -> None:
        import_module(settings.TASKS_APPLICATION)
        from apps.audits import celery_worker, metrics  # noqa: F401  # listens to Celery; registers the metrics
