"""What is kept of runs, and for how long, as one page."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

from django import forms
from django.contrib import admin
from django.utils import timezone
from django.utils.formats import date_format
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from apps.core.row_admin import ConfigRowAdmin
from apps.execution.models import Purge, Recording
from apps.execution.recording_rules import MOST_CHARACTERS


class RecordingForm(forms.ModelForm):
    contents_characters = forms.IntegerField(
        label="Characters kept",
        min_value=1,
        max_value=MOST_CHARACTERS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="The most of one input or output.",
    )

    class Meta:
        model = Recording
        fields = ["keep_runs_days", "keep_steps_days", "record_contents", "contents_characters"]


@admin.register(Recording)
class RecordingAdmin(ConfigRowAdmin):
    form = RecordingForm
    fieldsets = [
        (
            "Retention",
            {
                "fields": [("keep_runs_days", "keep_steps_days"), "last_purge"],
                "description": "Once an hour, one server process takes out what is older. Steps go with their run at "
                "the latest. The charts keep the sums of 400 days.",
            },
        ),
        (
            "Contents",
            {
                "fields": ["record_contents", "contents_characters"],
                "description": "What looks like a credential, and every secret that the gateway knows, is taken out. "
                "What people tell a model is not: tell them before you turn this on.",
            },
        ),
    ]
    readonly_fields = ["last_purge"]

    @admin.display(description="Last purge")
    def last_purge(self, _row: Recording) -> str:
        last = Purge.objects.filter(pk=Purge.ROW).first()
        if last is None:
            return "None yet"
        began = date_format(timezone.localtime(last.claimed_at), "j M Y, H:i")
        if last.ended_at is None:
            return f"{began}: under way, or cut short; the next one goes on"
        return f"{began}: {_counted(last.runs, 'run')} and {_counted(last.steps, 'step')} deleted"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
