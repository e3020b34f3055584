"""Tools in the console."""

from apps.tools.admin import tools

__all__ = ["tools"]
