"""A version is kept of every change, whoever makes it; a return is one more."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from apps.catalog.declared_versions import differences, return_to, steps
from apps.catalog.models import DeclaredAgent, DeclaredVersion
from apps.core.audit import Author, written_by
from tests.factories import DeclaredAgentFactory, UpstreamFactory

pytestmark = pytest.mark.django_db


def change(agent: DeclaredAgent, author: str = "ann", **fields: Any) -> None:
    with written_by(lambda: Author(author)):
        for name, value in fields.items():
            setattr(agent, name, value)
        agent.save()


def told(agent: DeclaredAgent) -> list[tuple[int, str, dict[str, Any]]]:
    return [
        (one.version.number, one.version.author, {change.field: (change.old, change.new) for change in one.changes})
        for one in steps(agent)
    ]


def test_every_change_is_a_version_with_its_author() -> None:
    agent = DeclaredAgentFactory.create(name="desk")
    change(agent, model="gpt-5", tools=["search"])
    change(agent, "bob", stage="disabled", upstream=UpstreamFactory.create(slug="cloud"))
    change(agent)  # nothing

    assert told(agent) == [
        (3, "bob", {"upstream": ("", "cloud"), "stage": ("live", "disabled")}),
        (2, "ann", {"model": ("", "gpt-5"), "tools": ([], ["search"])}),
        (1, "command", {}),
    ]
    assert [(one.is_first, one.is_current) for one in steps(agent)] == [(False, True), (False, False), (True, False)]


def test_return_brings_back_what_it_does_and_leaves_id_and_stage_alone() -> None:
    agent = DeclaredAgentFactory.create(name="desk", instructions="First.", parameters={"temperature": 0.1})
    change(agent, name="renamed", stage="draft", instructions="Second.", parameters={})

    assert return_to(agent, agent.versions.get(number=1)) == []

    agent.refresh_from_db()
    assert (agent.agent_id, agent.stage) == ("default/renamed", "draft")
    assert (agent.instructions, agent.parameters) == ("First.", {"temperature": 0.1})
    assert [number for number, *_ in told(agent)] == [3, 2, 1]


def test_return_to_an_upstream_that_is_gone_says_so() -> None:
    upstream = UpstreamFactory.create(slug="old")
    agent = DeclaredAgentFactory.create(upstream=upstream)
    change(agent, upstream=None)
    upstream.delete()

    assert return_to(agent, agent.versions.get(number=1)) == [
        "The upstream 'old' is gone: whichever has the model answers."
    ]


def test_return_to_a_name_that_another_has_by_now_is_refused() -> None:
    agent = DeclaredAgentFactory.create(aliases=["helpdesk"])
    change(agent, aliases=[])
    DeclaredAgentFactory.create(name="other", aliases=["helpdesk"])

    with pytest.raises(ValidationError) as caught:
        return_to(agent, agent.versions.get(number=1))

    assert caught.value.message_dict == {"aliases": ["“helpdesk” is taken: it is an alias of default/other."]}
    assert DeclaredAgent.objects.get(pk=agent.pk).aliases == []


def test_long_texts_differ_by_lines() -> None:
    (found,) = differences({"instructions": "a\nb\nc"}, {"instructions": "a\nB\nc"})
    assert found.lines == ("@@ -1,3 +1,3 @@", " a", "-b", "+B", " c")


def test_only_the_newest_versions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeclaredVersion, "MOST", 2)
    agent = DeclaredAgentFactory.create()
    for number in range(4):
        change(agent, title=str(number))
    assert list(agent.versions.values_list("number", flat=True)) == [5, 4]
