"""POST /security/preview and a real request never differ: the same rows, the same answer, whatever the rows are."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.access.authenticate import authenticate
from apps.access.authorise import ask
from apps.access.decide import Action, Target
from apps.access.models import AccessSettings, ApiKey, Grant, Override, Team, ToolRule
from apps.access.overrides import override
from apps.access.policy import Effect, Kind
from apps.core import live_config
from tests.admin_api.conftest import Caller
from tests.factories import ApiKeyFactory

CREDENTIAL = "agw_whose_answer_is_previewed"
AGENTS = ["labs/planner", "default/planner", "default/refunds"]
GLOBS = ["*", "labs/*", "*planner", "default/*", "labs/planner", "LABS/*"]
TOOLS = ["search", "delete"]
MODULES = ["agents.labs.planner.agent", "os", ""]

pytestmark = pytest.mark.django_db

effects = st.sampled_from(Effect)
whom = st.sampled_from(["key", "other", "team", "namespace", "everyone"])
grants = st.lists(st.tuples(whom, effects, st.sampled_from(GLOBS)), max_size=5)
tool_rules = st.lists(
    st.tuples(whom, effects, st.sampled_from([("tool", "*"), ("tool", "del*"), ("module", "os.*"), ("module", "*")])),
    max_size=4,
)
overrides = st.lists(st.tuples(st.booleans(), effects, st.sampled_from(GLOBS)), max_size=2)
questions = st.lists(
    st.tuples(st.sampled_from(Action), st.sampled_from(AGENTS), st.sampled_from(TOOLS), st.sampled_from(MODULES)),
    min_size=1,
    max_size=4,
)


@pytest.fixture
def key(admin: Caller) -> ApiKey:
    return ApiKeyFactory(credential=CREDENTIAL, agents=[], team=Team.objects.create(name="Lab"))


def of(subject: str, key: ApiKey, other: ApiKey) -> dict[str, Any]:
    return {
        "key": {"key": key},
        "other": {"key": other},
        "team": {"team": key.team},
        "namespace": {"namespace": "labs"},
        "everyone": {},
    }[subject]


@given(
    granted=grants,
    ruled=tool_rules,
    overridden=overrides,
    suspended=st.booleans(),
    inner=st.booleans(),
    asked=questions,
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_preview_and_request_never_differ(
    admin: Caller,
    key: ApiKey,
    granted: Any,
    ruled: Any,
    overridden: Any,
    suspended: bool,
    inner: bool,
    asked: Any,
) -> None:
    for model in (Grant, ToolRule, Override):
        model.objects.all().delete()
    other = ApiKey.objects.exclude(pk=key.pk).filter(may_administer=False).first() or ApiKeyFactory(agents=[])
    for subject, effect, glob in granted:
        Grant.objects.create(effect=effect, agents=glob, **of(subject, key, other))
    for subject, effect, (by, pattern) in ruled:
        ToolRule.objects.create(effect=effect, by=by, pattern=pattern, **of(subject, key, other))
    for for_key, effect, glob in overridden:
        override(
            effect=effect,
            about=Kind.AGENT,
            pattern=glob,
            ttl=timedelta(hours=1),
            reason="tests",
            author="tests",
            key=key if for_key else None,
        )
    AccessSettings(pk=AccessSettings.ROW, inner_agents_obey_grants=inner).save()
    Team.objects.filter(pk=key.team_id).update(suspended=suspended)
    live_config.refresh()

    for action, agent, tool, module in asked:
        subject = authenticate({"HTTP_X_API_KEY": CREDENTIAL})
        real = ask(subject, action, Target(agent, tool, module))
        question = {"key": key.pk, "action": action.value, "agent": agent, "tool": tool, "module": module}
        status, told = admin.ask("POST", "/security/preview", question)

        assert (status, told["allowed"], told["code"], told["reason"]) == (200, real.allowed, real.code, real.reason)
        assert told["rule"] is None if real.rule is None else told["rule"]["id"] == real.rule.id
        assert [one["id"] for one in told["considered"]] == [rule.id for rule in real.considered]
