from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "apps.access"
    label = "access"
    verbose_name = "Access"

    def ready(self) -> None:
        # Sections of the configuration are declared before a worker reads its first snapshot, not at a first request.
        from apps.access import keys, policy_in_force  # noqa: F401
