from django.apps import AppConfig


class AuditsConfig(AppConfig):
    name = "apps.audits"
    label = "audits"
    verbose_name = "Audits"

    def ready(self) -> None:
        from apps.audits import celery_worker, metrics  # noqa: F401  # listens to Celery; registers the metrics
