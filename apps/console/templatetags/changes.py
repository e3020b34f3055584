from urllib.parse import urlencode

from auditlog.registry import auditlog
from django import template
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.urls import reverse

register = template.Library()


@register.simple_tag
def changes_url(row: Model) -> str:
    """The page with the changes of this object; empty when none are kept of its kind."""
    if not auditlog.contains(type(row)):
        return ""
    chosen = urlencode({"content_type__id__exact": ContentType.objects.get_for_model(row).pk, "object_pk": row.pk})
    return f"{reverse('admin:auditlog_logentry_changelist')}?{chosen}"
