from datetime import datetime

from django import template

from apps.core import ages

register = template.Library()


@register.filter
def ago(at: datetime, now: datetime | None = None) -> str:
    """`12 seconds ago`."""
    return f"{ages.age(at, now)} ago"
