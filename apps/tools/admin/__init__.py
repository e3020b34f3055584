from apps.tools.admin import servers

__all__ = ["servers"]
