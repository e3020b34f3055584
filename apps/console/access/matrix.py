"""What a key may use, in full: its agents and their tools, each with the rule that decides. Every cell is a decision of
`decide`, never a reading of the rules."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.timesince import timeuntil

from apps.access.decide import Action, Decision, Target, decide
from apps.access.explain import in_words
from apps.access.keys import find_by_id
from apps.access.models import ApiKey, Override
from apps.access.policy import Kind, Policy
from apps.access.subject import Subject
from apps.console.access import known
from apps.console.access.known import KnownTool
from apps.console.access.pages import for_operators, page, policy_now
from apps.core import clock

PER_PAGE = 100  # agents


@dataclass(frozen=True, slots=True)
class Cell:
    """`why` is the rule that decides, in words; `link` leads to it. `until` is how long an override holds on."""

    text: str
    is_allowed: bool
    why: str
    link: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    agent_id: str
    chat: Cell
    tools: Sequence[Cell]
    explain_link: str

    @property
    def namespace(self) -> str:
        return self.agent_id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """A key as a subject, and the policy at an instant."""

    key: ApiKey
    subject: Subject
    policy: Policy
    at: datetime

    def decision(self, action: Action, target: Target) -> Decision:
        return decide(self.policy, self.subject, action, target, at=self.at)

    def row(self, agent_id: str, tools: Iterable[KnownTool]) -> Row:
        uses = [(tool, Target(agent_id, tool.name, tool.module)) for tool in tools]
        return Row(
            agent_id,
            self._cell("chat", self.decision(Action.CHAT, Target(agent_id))),
            [self._cell(tool.name, self.decision(Action.USE_TOOL, target)) for tool, target in uses],
            known.explain_url(self.key, agent_id),
        )

    def _cell(self, text: str, decision: Decision) -> Cell:
        rule = decision.rule
        if rule is None:
            return Cell(text, decision.allowed, "no rule fits" if decision.code in _WITHOUT_RULE else decision.reason)
        until = timeuntil(rule.expires_at, self.at, depth=1) if rule.expires_at else ""
        return Cell(text, decision.allowed, in_words(rule), known.rule_url(rule), until)


_WITHOUT_RULE = frozenset({"no_grant", "allowed"})


@for_operators
def key_access(request: HttpRequest, key_id: int) -> HttpResponse:
    row = get_object_or_404(ApiKey.objects.select_related("team"), pk=key_id)
    policy, key = policy_now(), find_by_id(key_id)
    if key is None:  # it went between the two looks
        return page(request, "console/access/key_access.html", f"Access of {row}", {"key": row})
    place = known.where_from(row)
    subject = Subject(key, address=place["address"], origin=place["origin"])
    view = Viewpoint(row, subject, policy, clock.now())
    text = request.GET.get("q", "").strip()
    agents = known.agents()
    ids = [id for id in sorted(agents) if text.casefold() in id.casefold()]
    allowed = sum(view.decision(Action.CHAT, Target(id)).allowed for id in agents)
    shown = Paginator(ids, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "key": row,
        "refused": _refused(view),
        "agent_count": len(agents),
        "allowed_count": allowed,
        "q": text,
        "page": shown,
        "groups": _groups(view.row(id, agents[id]) for id in shown),
        "overrides": _overrides(row, view.at),
        "is_module_unknown": _is_module_unknown(policy, agents.values()),
    }
    return page(request, "console/access/key_access.html", f"Access of {row.name}", context)


def _refused(view: Viewpoint) -> str:
    """Why it may use nothing at all; "" when rules decide."""
    decision = view.decision(Action.CHAT, Target())
    return "" if decision.allowed else decision.reason


def _groups(rows: Iterator[Row]) -> list[tuple[str, list[Row]]]:
    return [(namespace, list(group)) for namespace, group in groupby(rows, key=lambda row: row.namespace)]


def _overrides(key: ApiKey, at: datetime) -> list[tuple[Override, str]]:
    """Those in force for this key or for everyone, each with the time left."""
    rows = Override.objects.in_force(at).select_related("key")
    return [(one, timeuntil(one.expires_at, at, depth=1)) for one in rows if one.key_id in (None, key.pk)]


def _is_module_unknown(policy: Policy, tools: Iterable[Sequence[KnownTool]]) -> bool:
    """Whether a rule about modules may refuse a tool that is shown as allowed."""
    has_module_rules = any(rule.kind is Kind.MODULE for rule in policy.rules())
    return has_module_rules and any(not tool.module for group in tools for tool in group)
