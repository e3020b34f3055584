"""LLM servers, the routes to their models, and what those cost, in the console."""

from apps.upstreams.admin import prices, routes, upstreams

__all__ = ["prices", "routes", "upstreams"]
