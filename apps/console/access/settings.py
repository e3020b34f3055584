"""What holds for all access, as one page."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

from django import forms
from django.contrib import admin

from apps.access.models import AccessSettings
from apps.core.row_admin import ConfigRowAdmin


class AccessSettingsForm(forms.ModelForm):
    class Meta:
        model = AccessSettings
        fields = ["inner_agents_obey_grants"]
        help_texts = {  # the model's own has angle brackets, which the theme would take for HTML
            "inner_agents_obey_grants": "Handoffs, and agents used as tools, also need a grant: for the id that the "
            "inner agent's own name makes in the namespace, such as default/refund-agent.",
        }


@admin.register(AccessSettings)
class AccessSettingsAdmin(ConfigRowAdmin):
    form = AccessSettingsForm
    fieldsets = [("Agents inside agents", {"fields": ["inner_agents_obey_grants"]})]
