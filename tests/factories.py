"""Rows for tests, with factory_boy: what a test does not name is valid and does not matter to it."""

from datetime import UTC, datetime
from typing import Any

import factory
from factory.django import DjangoModelFactory

from apps.access.keys import digest, grant_only
from apps.access.models import ApiKey, Grant
from apps.access.policy import Effect
from apps.catalog.models import AgentSettings, DeclaredAgent, DropIn, State
from apps.execution.models import Outcome, Run
from apps.upstreams.models import Kind, Upstream, UpstreamModel


class ApiKeyFactory(DjangoModelFactory[ApiKey]):
    """`credential` is what a caller presents; `agents` are the globs that its own grants allow, all without them."""

    class Meta:
        model = ApiKey
        skip_postgeneration_save = True

    class Params:
        credential = factory.Sequence(lambda n: f"agw_{n:08x}_of_the_tests")

    name = factory.Sequence(lambda n: f"Key {n}")
    prefix = factory.LazyAttribute(lambda key: key.credential[:12])
    digest = factory.LazyAttribute(lambda key: digest(key.credential))

    @factory.post_generation
    def agents(key: ApiKey, create: bool, globs: Any, **_: Any) -> None:  # noqa: N805  # factory_boy's signature
        if create:
            grant_only(key, ["*"] if globs is None else globs)


class GrantFactory(DjangoModelFactory[Grant]):
    """For everyone, unless the test says for whom."""

    class Meta:
        model = Grant

    effect = Effect.ALLOW
    agents = "*"


class UpstreamFactory(DjangoModelFactory[Upstream]):
    """`secret` is stored encrypted; `serves` are the names of its models."""

    class Meta:
        model = Upstream
        skip_postgeneration_save = True

    slug = factory.Sequence(lambda n: f"upstream-{n}")
    kind = Kind.OTHER
    base_url = factory.LazyAttribute(lambda upstream: f"http://{upstream.slug}.invalid/v1")
    default_model = "demo"

    @factory.post_generation
    def serves(upstream: Upstream, create: bool, names: Any, **_: Any) -> None:  # noqa: N805  # factory_boy's signature
        for name in names or () if create else ():
            UpstreamModel.objects.create(upstream=upstream, name=name)


class DropInFactory(DjangoModelFactory[DropIn]):
    class Meta:
        model = DropIn

    agent_id = factory.Sequence(lambda n: f"default/agent{n}")
    folder = factory.LazyAttribute(lambda drop_in: f"/agents/{drop_in.agent_id.rpartition('/')[2]}")
    name = factory.LazyAttribute(lambda drop_in: drop_in.agent_id.rpartition("/")[2].title())
    state = State.LIVE
    export = "agent"
    digest = factory.Sequence(lambda n: f"{n:064x}")
    loaded_at = datetime(2026, 11, 20, tzinfo=UTC)


class AgentSettingsFactory(DjangoModelFactory[AgentSettings]):
    class Meta:
        model = AgentSettings

    drop_in = factory.SubFactory(DropInFactory)


class DeclaredAgentFactory(DjangoModelFactory[DeclaredAgent]):
    """Live, without tools, on the default model."""

    class Meta:
        model = DeclaredAgent

    name = factory.Sequence(lambda n: f"declared{n}")
    instructions = "Answer."
    stage = DeclaredAgent.Stage.LIVE


class RunFactory(DjangoModelFactory[Run]):
    class Meta:
        model = Run

    id = factory.Sequence(lambda n: f"chatcmpl-{n:032x}")
    request_id = factory.Sequence(lambda n: f"req_{n:032x}")
    agent_id = "default/agent"
    agent_digest = "0" * 64
    key_id = 1
    key_name = "A key"
    upstream = "demo"
    model = "demo"
    outcome = Outcome.COMPLETED
    finish_reason = "stop"
    started_at = factory.LazyFunction(lambda: datetime.now(UTC))
    first_event_ms = 12.5
    duration_ms = 250.0
    model_calls = 1
    prompt_tokens = 10
    completion_tokens = 20
