"""What is odd about a rule of access: it matches nothing now, or it can never speak. Pure functions over values.

Only what can be proved is said. A rule never speaks when another one outranks it wherever it is asked and fits whatever
it fits; overrides do not count for that, because they end.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from apps.access.explain import in_words
from apps.access.policy import Kind, Level, Rule
from apps.core import globs

Tools = Mapping[str, Collection[str]]  # the names of the tools that each agent of the catalog is known to have


class Oddity(StrEnum):
    MATCHES_NOTHING = "matches nothing now"
    NEVER_SPEAKS = "never speaks"


@dataclass(frozen=True, slots=True)
class Remark:
    """`text` says what is odd and what to do."""

    oddity: Oddity
    text: str


class Lint:
    """Looks at rules beside all the others. Build it once for many rules: 10,000 of them are compared in a second."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules: dict[tuple[object, ...], list[Rule]] = defaultdict(list)
        for rule in rules:
            if not rule.is_override:
                self._rules[rule.kind, rule.place, _exactness(rule)].append(rule)
                if rule.level is Level.NAMESPACE:
                    self._rules[rule.kind, rule.place].append(rule)

    def remarks(self, rule: Rule, tools: Tools) -> list[Remark]:
        found = []
        if fits_nothing(rule, tools):
            found.append(Remark(Oddity.MATCHES_NOTHING, _nothing_fits(rule)))
        if other := self.silenced_by(rule):
            text = f"It never speaks: “{in_words(other)}” does in its place. Remove one of the two."
            found.append(Remark(Oddity.NEVER_SPEAKS, text))
        return found

    def silenced_by(self, rule: Rule) -> Rule | None:
        """A standing rule that speaks wherever this one could."""
        if rule.is_override:
            return None
        return next((other for other in self._rivals(rule) if _silences(other, rule)), None)

    def _rivals(self, rule: Rule) -> Iterator[Rule]:
        """Of the same subject only rules that are as exact: what covers a rule and is more exact than it, is not."""
        yield from self._rules.get((rule.kind, rule.place, _exactness(rule)), ())
        namespace = _namespace(_where(rule))
        if rule.level is Level.EVERYONE and namespace:
            yield from self._rules.get((rule.kind, (Level.NAMESPACE, namespace)), ())


def fits_nothing(rule: Rule, tools: Tools) -> bool:
    """Whether no agent of the catalog, or no known tool of those, fits. Which modules there are is not known."""
    agents = [id for id in tools if _is_asked_about(rule, id)]
    match rule.kind:
        case Kind.AGENT:
            return not any(globs.fits(id, rule.pattern) for id in agents)
        case Kind.TOOL:
            return not any(globs.fits(name, rule.pattern) for id in agents for name in tools[id])
        case Kind.MODULE:
            return not agents


def _is_asked_about(rule: Rule, agent_id: str) -> bool:
    if rule.level is Level.NAMESPACE and rule.place[1] != agent_id.partition("/")[0].casefold():
        return False
    return globs.fits(agent_id, rule.agents)


def _nothing_fits(rule: Rule) -> str:
    where = f" in the namespace {rule.subject}" if rule.level is Level.NAMESPACE else ""
    if rule.kind is Kind.AGENT:
        return f"No agent{where} fits {rule.pattern} now. Check the spelling, unless the agent is to come."
    among = "" if rule.agents == "*" else f" of agents that fit {rule.agents}"
    if rule.kind is Kind.MODULE:
        return f"No agent{where} fits {rule.agents} now. Check the spelling, unless the agent is to come."
    return (
        f"No known tool{among}{where} fits {rule.pattern} now. Check the spelling, unless the tool is to come; the "
        "tools of MCP servers are not known beforehand."
    )


# --- covering --------------------------------------------------------------------------------------------------------


def _silences(other: Rule, rule: Rule) -> bool:
    return (
        other.id != rule.id
        and globs.covers(_reach(other), _reach(rule))
        and globs.covers(other.agents, rule.agents)
        and other.precedence > rule.precedence
    )


def _where(rule: Rule) -> str:
    """The glob over the agents that the rule is about."""
    return rule.pattern if rule.kind is Kind.AGENT else rule.agents


def _reach(rule: Rule) -> str:
    """The pattern as far as it matters: for a namespace, `*` is no more than all of its agents."""
    home = f"{rule.subject}/*"
    is_whole = rule.kind is Kind.AGENT and rule.level is Level.NAMESPACE and globs.covers(rule.pattern, home)
    return home if is_whole else rule.pattern


def _namespace(glob: str) -> str:
    """The one namespace that a glob over agent ids stays in, "" when there may be several."""
    namespace, slash, _ = glob.partition("/")
    return namespace.casefold() if slash and "*" not in namespace else ""


def _exactness(rule: Rule) -> tuple[int, int]:
    return globs.specificity(_reach(rule))
