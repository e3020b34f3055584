"""Which upstream and model a name means, as a table over plain values."""

from dataclasses import replace
from typing import Any

import pytest

from apps.core import live_config
from apps.core.errors import Unavailable
from apps.upstreams.models import ModelRoute, RouteTarget, Upstream, UpstreamModel
from apps.upstreams.routing import Candidate, ModelRef, Preference, Route, Rule, Table, Target, upstreams


def target(slug: str, *models: str, **fields: Any) -> Target:
    values: dict[str, Any] = dict.fromkeys(
        ("takes_reasoning_effort", "takes_verbosity", "takes_strict", "takes_parallel_tool_calls",
         "takes_developer_role", "takes_several_system_messages"), True,
    )  # fmt: skip
    values |= dict.fromkeys(("connect_timeout", "first_event_timeout", "silence_timeout"), 30.0)
    values |= {"kind": "other", "base_url": f"http://{slug}/v1", "secret": "", "default_model": ""}
    return Target(slug=slug, models=frozenset(models), **values | fields)


LOCAL = target("local", "llama", "both", default_model="llama")
CLOUD = target("cloud", "gpt", "both", default_model="gpt", speaks_responses=True)


def table(*targets: Target, rules: tuple[Rule, ...] = (), default_model: str = "") -> Table:
    """The first is the default."""
    names = {name for one in targets for name in one.models}
    by_model = {name: tuple(one for one in targets if name in one.models) for name in names}
    return Table({one.slug: one for one in targets}, targets[0] if targets else None, by_model, rules, default_model)


@pytest.mark.parametrize(
    ("model", "responses", "expected"),
    [
        ("llama", False, Route(LOCAL, "llama")),
        ("both", False, Route(LOCAL, "both")),
        ("both", True, Route(CLOUD, "both")),
        ("gpt", True, Route(CLOUD, "gpt")),
        ("cloud/anything", False, Route(CLOUD, "anything")),
        ("cloud/anything", True, Route(CLOUD, "anything")),
        ("unheard-of", False, Route(LOCAL, "llama", is_substitute=True)),
        ("unheard-of", True, Route(CLOUD, "gpt", is_substitute=True)),
        (None, False, Route(LOCAL, "llama")),
        (None, True, Route(CLOUD, "gpt")),
    ],
)
def test_name_means_an_upstream_and_a_model(model: str | None, responses: bool, expected: Route) -> None:
    assert table(LOCAL, CLOUD).route(model, responses=responses) == expected


@pytest.mark.parametrize(
    ("chosen", "responses", "expected"),
    [
        ("gpt", False, Route(CLOUD, "gpt", is_substitute=True)),
        ("both", False, Route(LOCAL, "both", is_substitute=True)),
        ("both", True, Route(CLOUD, "both", is_substitute=True)),
        ("unlisted", False, Route(LOCAL, "unlisted", is_substitute=True)),  # the operator knows what the list does not
        ("unlisted", True, Route(CLOUD, "gpt", is_substitute=True)),
    ],
)
def test_operators_default_model_substitutes(chosen: str, responses: bool, expected: Route) -> None:
    assert table(LOCAL, CLOUD, default_model=chosen).route("unheard-of", responses=responses) == expected


@pytest.mark.parametrize(
    ("targets", "model", "responses", "code", "words"),
    [
        ((), None, False, "no_upstream", "No upstream is enabled."),
        ((), "gpt", True, "no_upstream", "No upstream is enabled."),
        ((target("empty"),), None, False, "no_default_model", "Upstream 'empty' has no default model."),
        ((LOCAL,), None, True, "needs_responses", "No upstream is marked as having the Responses API."),
        # Named outright, or listed there alone: no other server is asked instead.
        ((LOCAL, CLOUD), "local/x", True, "needs_responses", "The upstream 'local' is not marked as having"),
        ((LOCAL, CLOUD), "llama", True, "needs_responses", "The upstream 'local' is not marked as having"),
    ],
)
def test_nobody_to_ask_says_what_to_do(
    targets: tuple[Target, ...], model: str | None, responses: bool, code: str, words: str
) -> None:
    with pytest.raises(Unavailable) as caught:
        table(*targets).route(model, responses=responses)
    assert (caught.value.code, caught.value.status) == (code, 503)
    assert caught.value.message.startswith(words)
    assert "admin under Upstreams" in caught.value.message


# --- model routes and operators' choices ----------------------------------------------------------------------------

SPARE = target("spare", "spare-model", default_model="spare-model")


def ruled(*choices: Candidate) -> Route:
    return Route(choices[0].target, choices[0].model, first=choices[0], others=choices[1:])


EXACT = (Candidate(LOCAL, "own", 1), Candidate(CLOUD, "", 2, weight=3))
GLOB = (Candidate(SPARE, "", 1),)
ALL_OFF: tuple[Candidate, ...] = ()  # of a route whose upstreams are all switched off
RULES = (
    Rule("llama", EXACT),
    Rule("dark", ALL_OFF),
    Rule("local/*", GLOB),
    Rule("gpt*", GLOB),
    Rule("dar*", GLOB),
)
ROUTED = table(LOCAL, CLOUD, SPARE, rules=RULES)
NAMESPACE = Preference(default=ModelRef("spare", ""))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama", ruled(Candidate(LOCAL, "own", 1), Candidate(CLOUD, "llama", 2, weight=3))),  # listed, and routed
        ("gpt", Route(CLOUD, "gpt")),  # listed beats a glob
        ("local/x", Route(LOCAL, "x")),  # said outright beats a glob
        ("gpt-9", ruled(Candidate(SPARE, "gpt-9", 1))),
        ("GPT-9", ruled(Candidate(SPARE, "GPT-9", 1))),
        ("dark", ruled(Candidate(SPARE, "dark", 1))),  # nothing of its own route is left
        ("both", Route(LOCAL, "both")),  # two list it, and one is asked: the other may be a cloud
        ("elsewhere/x", Route(SPARE, "spare-model", is_substitute=True)),
        ("unheard-of", Route(SPARE, "spare-model", is_substitute=True)),
        (None, Route(SPARE, "spare-model")),
    ],
)
def test_most_exact_of_routes_lists_and_names_decides_and_then_the_namespace(
    model: str | None, expected: Route
) -> None:
    assert ROUTED.route(model, prefer=NAMESPACE) == expected


@pytest.mark.parametrize("model", ["unheard-of", "elsewhere/x"])
def test_without_a_namespaces_default_the_global_one_answers(model: str) -> None:
    assert ROUTED.route(model) == Route(LOCAL, "llama", is_substitute=True)
    assert replace(ROUTED, default_model="gpt").route(model) == Route(CLOUD, "gpt", is_substitute=True)
    with_a_route = replace(ROUTED, default_model="llama")
    assert with_a_route.route(model).candidates == with_a_route.route("llama").candidates
    assert with_a_route.route(model, prefer=NAMESPACE).target is SPARE


def test_what_was_asked_before_is_found_again_and_names_without_end_are_not_all_kept() -> None:
    one = table(LOCAL, CLOUD)
    assert one.route("gpt") is one.route("gpt")
    assert one.route("gpt", prefer=Preference(instead=ModelRef("local", "llama"))) == Route(LOCAL, "llama")
    for number in range(5000):
        one.route(f"made-up-{number}")
    assert len(one._found) < 1100
    assert one.route("gpt") == Route(CLOUD, "gpt")


@pytest.mark.parametrize(
    ("instead", "expected"),
    [
        (ModelRef("cloud", "x"), Route(CLOUD, "x")),
        (ModelRef("cloud", ""), Route(CLOUD, "gpt")),
        (ModelRef("", "spare-model"), Route(SPARE, "spare-model")),
        (ModelRef("", "llama"), ruled(Candidate(LOCAL, "own", 1), Candidate(CLOUD, "llama", 2, weight=3))),
        (ModelRef("", "local/y"), Route(LOCAL, "y")),
        (ModelRef("off", "x"), Route(SPARE, "spare-model", is_substitute=True)),  # that upstream is switched off
        (ModelRef("off", ""), Route(SPARE, "spare-model", is_substitute=True)),
        (ModelRef("", "unheard-of"), Route(SPARE, "spare-model", is_substitute=True)),
    ],
)
@pytest.mark.parametrize("model", ["llama", "unheard-of", None])
def test_choice_for_the_agent_stands_instead_of_what_it_names(
    model: str | None, instead: ModelRef, expected: Route
) -> None:
    assert ROUTED.route(model, prefer=Preference(instead, NAMESPACE.default)) == expected


def test_upstream_chosen_without_a_model_gives_the_first_of_its_list_where_it_has_no_default() -> None:
    several = target("several", "b", "a")
    chosen = Preference(ModelRef("several", ""))

    assert table(LOCAL, several).route("llama", prefer=chosen) == Route(several, "a")
    assert table(LOCAL, target("none")).route("llama", prefer=Preference(ModelRef("none", ""))) == Route(
        LOCAL, "llama", is_substitute=True
    )


def test_responses_are_asked_only_where_they_are_had() -> None:
    both = table(LOCAL, CLOUD, rules=(Rule("r", (Candidate(LOCAL, "l", 1), Candidate(CLOUD, "c", 2))),))

    assert both.route("r", responses=True) == ruled(Candidate(CLOUD, "c", 2))
    assert both.route(None, responses=True, prefer=Preference(default=ModelRef("local", ""))) == Route(CLOUD, "gpt")
    with pytest.raises(Unavailable) as caught:  # chosen outright
        both.route(None, responses=True, prefer=Preference(ModelRef("local", "")))
    assert caught.value.code == "needs_responses"


@pytest.mark.django_db
def test_routes_are_read_with_the_upstreams_that_are_on_and_the_most_specific_first() -> None:
    rows = {slug: Upstream.objects.create(slug=slug, base_url="http://x/v1", enabled=slug != "c") for slug in "abc"}
    UpstreamModel.objects.create(upstream=rows["a"], name="m")
    for pattern, *slugs in (("gpt*", "a"), ("gpt-5*", "c", "b"), ("gpt-5", "b", "a"), ("off", "a")):
        route = ModelRoute.objects.create(pattern=pattern, enabled=pattern != "off")
        for order, slug in enumerate(slugs):
            RouteTarget.objects.create(route=route, upstream=rows[slug], model=slug.upper(), order=9 - order, weight=2)

    live_config.forget()
    read = upstreams.current()
    live_config.forget()

    assert [(rule.pattern, [(one.target.slug, one.order) for one in rule.choices]) for rule in read.rules] == [
        ("gpt-5", [("a", 8), ("b", 9)]),
        ("gpt-5*", [("b", 8)]),
        ("gpt*", [("a", 9)]),
    ]
    assert [(one.target.slug, one.model, one.weight) for one in read.route("gpt-5").candidates] == [
        ("a", "A", 2),
        ("b", "B", 2),
    ]
