"""Where does this model name lead? Asked on the page of the routes; answered as a request would be routed now."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.catalog.models import AgentSettings, DeclaredAgent, DropIn, RunSettings
from apps.catalog.run_options import namespace_default, run_options
from apps.core import live_config
from apps.upstreams.admin.health_page import Label, label
from apps.upstreams.health_rows import observed_health
from apps.upstreams.leading import Lead, lead
from apps.upstreams.models import Upstream
from apps.upstreams.routing import Candidate, Preference, upstreams


class WhereForm(forms.Form):
    model = forms.CharField(required=False, max_length=200)
    agent = forms.CharField(required=False, max_length=200)


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate: the first is asked first. `share` in percent, where weights draw lots among several."""

    candidate: Candidate
    upstream: Upstream
    label: Label
    share: int | None


def where_page(request: HttpRequest) -> HttpResponse:
    """A part of the page of the routes; a page by itself for browsers that do not load parts."""
    if not request.user.has_perms(["upstreams.view_modelroute", "upstreams.view_upstream"]):
        raise PermissionDenied
    form = WhereForm(request.GET)
    asked = form.cleaned_data if form.is_valid() else {"model": "", "agent": ""}
    answer = _lead(asked["model"].strip(), asked["agent"].strip())
    context = {"asked": asked, "lead": answer, "rows": _rows(answer), "is_unknown": _is_unknown(asked["agent"].strip())}
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "console/upstreams/lead.html", context)
    whole = {**admin.site.each_context(request), "title": "Where does this name lead?", **context}
    return TemplateResponse(request, "console/upstreams/where.html", whole)


def _lead(name: str, agent_id: str) -> Lead:
    live_config.refresh()  # a page must not show what was before the last click
    settings = _settings(agent_id)
    prefer = Preference(
        instead=run_options(settings).model if settings else Preference().instead,
        default=namespace_default(agent_id) if agent_id else Preference().default,
    )
    return lead(upstreams.current(), name, prefer)


def _settings(agent_id: str) -> RunSettings | None:
    namespace, _, name = agent_id.partition("/")
    declared = DeclaredAgent.objects.select_related("upstream").filter(namespace=namespace, name=name).first()
    drop_in = AgentSettings.objects.select_related("upstream").filter(drop_in__agent_id=agent_id).first()
    found: RunSettings | None = declared or drop_in
    return found


def _is_unknown(agent_id: str) -> bool:
    namespace, _, name = agent_id.partition("/")
    return bool(agent_id) and not (
        DropIn.objects.filter(agent_id=agent_id).exists()
        or DeclaredAgent.objects.filter(namespace=namespace, name=name).exists()
    )


def _rows(answer: Lead) -> list[Row]:
    rows = {one.slug: one for one in Upstream.objects.filter(slug__in=[c.target.slug for c in answer.candidates])}
    found = observed_health(list(rows.values()))
    return [
        Row(one, row, label(row, found[row.pk]), _share(one, answer))
        for one in answer.candidates
        if (row := rows.get(one.target.slug))
    ]


def _share(candidate: Candidate, answer: Lead) -> int | None:
    weights = [one.weight for one in answer.candidates if one.order == candidate.order]
    return round(100 * candidate.weight / sum(weights)) if len(weights) > 1 else None


view: Any = admin.site.admin_view(where_page)
