from django import template

from apps.core import ages

register = template.Library()
register.filter(ages.ago)
