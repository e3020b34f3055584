from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "apps.catalog"
    label = "catalog"
    verbose_name = "Agents"

    def ready(self) -> None:
        """Declares the catalog's section, before anything can take a snapshot of the configuration without it."""
        from apps.catalog import packages
        from apps.catalog.metrics import CatalogCollector
        from apps.observability import logs
        from apps.observability.metrics import REGISTRY

        REGISTRY.register(CatalogCollector())
        logs.know_modules(packages.facts_of_logger)
