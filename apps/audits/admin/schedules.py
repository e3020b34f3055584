"""The schedule of Celery's beat in the console's look, with what came of each work the last time."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget

from apps.audits.admin.looks import label
from apps.audits.models import Claim
from apps.audits.standing import is_worker_seen
from apps.audits.works import WORKS
from apps.core.ages import ago

admin.site.unregister([PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule])

# As the sidebar names it.
PeriodicTask._meta.verbose_name, PeriodicTask._meta.verbose_name_plural = "schedule", "schedules"  # noqa: SLF001

PREFIX = "gateway."


class ScheduleForm(forms.ModelForm):
    task = forms.ChoiceField(label="Work", widget=UnfoldAdminSelectWidget())

    class Meta:
        model = PeriodicTask
        fields = ["name", "task", "enabled", "description", "interval", "crontab", "expire_seconds"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            known = {f"{PREFIX}{work.name}": work.title for work in WORKS.values()}
            own = self.instance.task
            chosen: Any = self.fields["task"]
            chosen.choices = [*known.items(), *([(own, own)] if own and own not in known else [])]
            self.fields["name"].help_text = self.fields["description"].help_text = ""
            self.fields["enabled"].help_text = "Off: nobody does it by itself."
            self.fields["description"].widget.attrs["rows"] = 2
            self.fields["interval"].label, self.fields["crontab"].label = "Every so often", "By the clock"
            self.fields["interval"].help_text = "This or the other one."
            self.fields["crontab"].help_text = "This or the other one."
            self.fields["expire_seconds"].label = "Lapses after"
            self.fields[
                "expire_seconds"
            ].help_text = "Seconds. What no worker has begun until then is left out until it is due again."

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if bool(cleaned.get("interval")) == bool(cleaned.get("crontab")):
            self.add_error("interval", "Choose one: every so often, or by the clock.")
        return cleaned


@admin.register(PeriodicTask)
class ScheduleAdmin(ModelAdmin):
    form = ScheduleForm
    list_display = ["name", "when", "enabled_shown", "begun", "result"]
    list_filter = ["enabled"]
    list_filter_sheet = False
    list_select_related = ["interval", "crontab", "solar", "clocked"]
    search_fields = ["name", "task"]
    ordering = ["name"]
    actions = ["enable", "disable", "send"]
    fieldsets = [
        ("Work", {"fields": [("name", "task"), "description", "enabled"]}),
        ("When", {"fields": [("interval", "crontab"), "expire_seconds"]}),
        ("Last time", {"fields": [("begun", "result")]}),
    ]
    readonly_fields = ["begun", "result"]
    empty_title = "No schedules"
    empty_text = "A Celery worker (make worker) does what is listed here, such as the nightly audit."

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know what came of their work."""
        shown = super().get_changelist_instance(request)
        found = {claim.name: claim for claim in Claim.objects.filter(name__startswith="work ")}
        for task in shown.result_list:
            task.claim = found.get(_claim_name(task))
        return shown

    @admin.display(description="When")
    def when(self, task: PeriodicTask) -> str:
        return task.crontab.human_readable if task.crontab else str(task.scheduler or "-")

    @admin.display(description="State", ordering="enabled")
    def enabled_shown(self, task: PeriodicTask) -> str:
        return label("Enabled", "success") if task.enabled else label("Disabled", None)

    @admin.display(description="Last begun")
    def begun(self, task: PeriodicTask) -> str:
        claim = _claim(task)
        return ago(claim.taken_at if claim else task.last_run_at)

    @admin.display(description="What came of it")
    def result(self, task: PeriodicTask) -> str:
        claim = _claim(task)
        if claim is None:
            return "-"
        if claim.ended_at is None:
            return label("Under way, or cut off", "info")
        return f"Failed: {claim.said}" if claim.is_failed else claim.said or "-"

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[PeriodicTask], *, enabled: bool) -> None:
        for task in queryset.exclude(enabled=enabled):
            task.enabled = enabled
            task.save()
            self.log_change(request, task, "Enabled." if enabled else "Disabled.")
        PeriodicTasks.update_changed()
        messages.success(request, f"{'Enabled' if enabled else 'Disabled'}, in the beat within seconds.")

    @admin.action(description="Do it now", permissions=["change"])
    def send(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        names = [task.task.removeprefix(PREFIX) for task in queryset if task.task.startswith(PREFIX)]
        if not is_worker_seen():
            messages.error(
                request, f"No Celery worker is seen. Start one, or run: manage.py scheduled {' '.join(names)}"
            )
            return
        from apps.audits.tasks import TASKS

        for name in names:
            TASKS[name].apply_async()
        messages.success(request, f"Given to a Celery worker: {', '.join(names)}.")


@admin.register(IntervalSchedule)
class IntervalAdmin(ModelAdmin):
    list_display = ["__str__"]


@admin.register(CrontabSchedule)
class CrontabAdmin(ModelAdmin):
    list_display = ["human_readable"]
    fields = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year", "timezone"]


def _claim_name(task: PeriodicTask) -> str:
    return f"work {task.task.removeprefix(PREFIX)}"


def _claim(task: Any) -> Claim | None:
    if hasattr(task, "claim"):
        known: Claim | None = task.claim
        return known
    return Claim.objects.filter(pk=_claim_name(task)).first()
