from django.apps import AppConfig


class ObservabilityConfig(AppConfig):
    name = "apps.observability"
    label = "observability"
    verbose_name = "Observability"

    def ready(self) -> None:
        """Registers what every worker measures of itself, and takes out what django-prometheus registers for features
        that are not used here: its mix-in for models, and its look at the migrations."""
        from django_prometheus import migrations, models

        from apps.observability import checks, gateway_metrics, telemetry_lost  # noqa: F401
        from apps.observability.metrics import REGISTRY

        unused = (models.model_inserts, models.model_updates, models.model_deletes)
        for metric in (*unused, migrations.applied_migrations, migrations.unapplied_migrations):
            REGISTRY.unregister(metric)
