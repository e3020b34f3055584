"""The page Explain: what a caller would be answered, and why. It asks `decide`, as a request does."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.access.authenticate import refusal
from apps.access.decide import Action, Decision, Target
from apps.access.explain import Step, explain, steps
from apps.access.keys import find_by_id
from apps.access.limiting import states_now
from apps.access.models import ApiKey, Effects, Grant, Override
from apps.access.overrides import NAME_GLOB
from apps.access.policy import Effect, Kind, Level, Rule
from apps.access.subject import EndUser, Key, Subject
from apps.catalog.registry import near_ids
from apps.console.access import known
from apps.console.access.pages import for_operators, page, policy_now
from apps.core import clock
from apps.core.forms import SuggestingInput
from apps.execution.tool_access import sentence

_STATUSES = {"key_ended": 401, "limit": 429}  # whatever else is refused is a 403


class ExplainForm(forms.Form):
    key = forms.ModelChoiceField(
        ApiKey.objects.all(),
        label="API key",
        # The search of the grants' form, which works however many keys there are.
        widget=AutocompleteSelect(Grant._meta.get_field("key"), admin.site),  # noqa: SLF001  # Django documents it
    )
    agent = forms.CharField(max_length=200, widget=SuggestingInput(), help_text="Its id, such as default/weather.")
    tool = forms.CharField(
        required=False, max_length=200, widget=SuggestingInput(), help_text="May it be called while the agent runs?"
    )
    module = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="That the tool's function comes from, where module rules matter.",
    )
    person = forms.CharField(
        required=False, max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="The id of who is behind it."
    )
    address = forms.CharField(
        required=False, max_length=45, widget=UnfoldAdminTextInputWidget(), help_text="Of the client, as 10.0.0.7."
    )
    origin = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Of the web page that calls, as https://chat.example.com.",
    )
    at = forms.DateTimeField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="Empty: now.",
    )
    supposed_effect = forms.ChoiceField(
        label="Suppose an override",
        required=False,
        choices=[("", "none"), *Effects.choices],
        widget=UnfoldAdminSelectWidget(),
    )
    supposed_about = forms.ChoiceField(
        label="about", required=False, choices=Override.About.choices, widget=UnfoldAdminSelectWidget()
    )
    supposed_pattern = forms.CharField(
        label="whose glob is", required=False, max_length=200, widget=UnfoldAdminTextInputWidget()
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tools = known.tool_names()
        self.fields["agent"].widget.suggestions = tuple(tools)
        self.fields["tool"].widget.suggestions = tuple(sorted({name for names in tools.values() for name in names}))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("module") and not cleaned.get("tool"):
            self.add_error("tool", "Name the tool whose function comes from this module.")
        return cleaned

    def clean_supposed_pattern(self) -> str:
        pattern: str = self.cleaned_data["supposed_pattern"]
        if self.cleaned_data.get("supposed_effect") and not NAME_GLOB.fullmatch(pattern):
            raise ValidationError("An override needs a glob, such as labs/* or delete_*.")
        return pattern


@dataclass(frozen=True, slots=True)
class ShownStep:
    step: Step
    link: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`sentence` is what the caller, or for a tool the model, is told. `notes` are what else to know."""

    decision: Decision
    question: str
    sentence: str
    steps: Sequence[ShownStep]
    notes: Sequence[str] = ()
    status: int | None = None  # of HTTP; None for a tool

    @property
    def verdict(self) -> str:
        return "Allowed" if self.decision.allowed else "Refused"


@for_operators
def explain_page(request: HttpRequest) -> HttpResponse:
    form = ExplainForm(request.GET or None)
    answer = answer_to(form.cleaned_data) if form.is_bound and form.is_valid() else None
    asked = request.GET.copy()
    for name in [name for name, value in request.GET.items() if not value]:
        del asked[name]
    context = {
        "form": form,
        "media": form.media,
        "answer": answer,
        "permalink": request.build_absolute_uri(f"{request.path}?{asked.urlencode()}"),
    }
    return page(request, "console/access/explain.html", "Explain", context)


def answer_to(asked: dict[str, Any]) -> Answer | None:
    """None for a key that is gone from the configuration since it was chosen."""
    policy, at = policy_now(), asked["at"] or clock.now()
    key = find_by_id(asked["key"].pk)
    if key is None:
        return None
    subject = Subject(key, EndUser(asked["person"]) if asked["person"] else None, asked["address"], asked["origin"])
    supposing = _supposed(asked, key, at)
    chat, use = Target(asked["agent"]), Target(asked["agent"], asked["tool"], asked["module"])
    # How far a limit is used up is known of this moment alone.
    limits = () if asked["at"] else states_now(subject, asked["agent"])
    may_chat = explain(policy, subject, Action.CHAT, chat, at=at, supposing=supposing, limits=limits)
    if not asked["tool"]:
        return _of_chat(may_chat, subject, asked["agent"], at)
    may_use = explain(policy, subject, Action.USE_TOOL, use, at=at, supposing=supposing)
    return _of_tool(may_use, may_chat, subject, use)


def _supposed(asked: dict[str, Any], key: Key, at: datetime) -> list[Rule]:
    if not asked["supposed_effect"]:
        return []
    kind, effect = Kind(asked["supposed_about"]), Effect(asked["supposed_effect"])
    until = at + timedelta(hours=1)
    return [Rule("supposed", kind, effect, asked["supposed_pattern"], Level.KEY, key.id, expires_at=until,
                 note="supposed")]  # fmt: skip


def _of_chat(decision: Decision, subject: Subject, agent_id: str, at: datetime) -> Answer:
    key = subject.key
    status = 200 if decision.allowed else _STATUSES.get(decision.code, 403)
    refused = refusal(key, at)
    told = refused.message if refused else decision.reason
    notes = [*_about_place(subject), *_about_agent(agent_id)]
    question = f"May “{key.name}” chat with {agent_id}?"
    return Answer(decision, question, told, _shown(decision), notes, status)


def _of_tool(decision: Decision, chat: Decision, subject: Subject, target: Target) -> Answer:
    notes = [*_about_place(subject), *_about_agent(target.agent)]
    if decision.allowed and not chat.allowed:
        notes.append(f"But a chat with {target.agent} is refused: {chat.reason}")
    if not target.module:
        notes.append("Rules about modules were not asked: the tool's module is not given.")
    question = f"May {target.tool} be called while {target.agent} runs?"
    return Answer(decision, question, sentence(target.tool, decision), _shown(decision), notes)


def _shown(decision: Decision) -> list[ShownStep]:
    return [ShownStep(step, known.rule_url(step.rule) if step.rule else "") for step in steps(decision)]


def _about_place(subject: Subject) -> Iterator[str]:
    key = subject.key
    if key.ip_ranges and not subject.address:
        yield f"No address was given, and the key may be used only from {', '.join(key.ip_ranges)}."
    if key.origins and not subject.origin:
        yield f"No origin was given, and the key may be used only from {', '.join(key.origins)}."


def _about_agent(agent_id: str) -> list[str]:
    ids = known.agents()
    if agent_id in ids:
        return []
    near = near_ids(agent_id, ids)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return [f"The catalog has no agent {agent_id}.{hint}"]
