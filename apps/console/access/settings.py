"""What holds for all access, as one page."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin

from apps.access.models import AccessSettings


class AccessSettingsForm(forms.ModelForm):
    class Meta:
        model = AccessSettings
        fields = ["inner_agents_obey_grants"]
        help_texts = {  # the model's own has angle brackets, which the theme would take for HTML
            "inner_agents_obey_grants": "Handoffs, and agents used as tools, also need a grant: for the id that the "
            "inner agent's own name makes in the namespace, such as default/refund-agent.",
        }


@admin.register(AccessSettings)
class AccessSettingsAdmin(ModelAdmin):
    form = AccessSettingsForm
    fieldsets = [("Agents inside agents", {"fields": ["inner_agents_obey_grants"]})]

    def changelist_view(self, _request: HttpRequest, _extra: dict[str, Any] | None = None) -> HttpResponse:
        """There is one row, which the first look writes with the defaults."""
        row, _ = AccessSettings.objects.get_or_create(pk=AccessSettings.ROW)
        return redirect("admin:access_accesssettings_change", row.pk)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: AccessSettings | None = None) -> bool:
        return False
