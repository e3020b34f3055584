from django.apps import AppConfig


class UpstreamsConfig(AppConfig):
    name = "apps.upstreams"
    label = "upstreams"
    verbose_name = "Upstreams"

    def ready(self) -> None:
        # Its section of the configuration has to be declared before a process loads its first snapshot; else the first
        # request, which loads the URLs and what they import, would drop that snapshot.
        from apps.observability.metrics import REGISTRY
        from apps.upstreams import prices  # noqa: F401
        from apps.upstreams.metrics import UpstreamCollector

        REGISTRY.register(UpstreamCollector())
