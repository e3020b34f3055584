"""Who may call, in the console. What they may use is edited beside the catalog: apps/console/access."""

from apps.access.admin import keys, teams

__all__ = ["keys", "teams"]
