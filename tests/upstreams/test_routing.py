"""Which upstream and model a name means, as a table over plain values."""

from typing import Any

import pytest
from django.conf import LazySettings

from apps.core.errors import Unavailable
from apps.upstreams.routing import Route, Table, Target


def target(slug: str, *models: str, **fields: Any) -> Target:
    values: dict[str, Any] = dict.fromkeys(
        ("takes_reasoning_effort", "takes_verbosity", "takes_strict", "takes_parallel_tool_calls",
         "takes_developer_role", "takes_several_system_messages"), True,
    )  # fmt: skip
    values |= dict.fromkeys(("connect_timeout", "first_event_timeout", "silence_timeout"), 1.0)
    values |= {"kind": "other", "base_url": f"http://{slug}/v1", "secret": "", "default_model": ""}
    return Target(slug=slug, models=frozenset(models), **values | fields)


LOCAL = target("local", "llama", "both", default_model="llama")
CLOUD = target("cloud", "gpt", "both", default_model="gpt", speaks_responses=True)


def table(*targets: Target) -> Table:
    """The first is the default."""
    names = {name for one in targets for name in one.models}
    by_model = {name: tuple(one for one in targets if name in one.models) for name in names}
    return Table({one.slug: one for one in targets}, targets[0] if targets else None, by_model)


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
def test_operators_default_model_substitutes(
    settings: LazySettings, chosen: str, responses: bool, expected: Route
) -> None:
    settings.GATEWAY_DEFAULT_MODEL = chosen
    assert table(LOCAL, CLOUD).route("unheard-of", responses=responses) == expected


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
