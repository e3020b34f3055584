from django.apps import AppConfig


class ToolsConfig(AppConfig):
    name = "apps.tools"
    label = "tools"
    verbose_name = "Tools"

    def ready(self) -> None:
        # Its sections of the configuration have to be declared before a process loads its first snapshot.
        from apps.tools import in_force  # noqa: F401
        from apps.tools.mcp import server  # noqa: F401
