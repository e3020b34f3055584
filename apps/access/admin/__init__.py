"""Who may call, in the console. What they may use is edited beside the catalog: apps/console/access."""

from apps.access.admin import keys, limits, teams

__all__ = ["keys", "limits", "teams"]
