"""Tools and MCP servers in the console."""

from apps.tools.admin import servers, tools

__all__ = ["servers", "tools"]
