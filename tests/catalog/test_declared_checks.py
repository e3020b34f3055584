"""What may be saved of a declared agent, and what its operator is told of one that may."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from apps.catalog.declared import declared
from apps.catalog.declared_checks import VARIABLES, check, remarks
from apps.catalog.models import DeclaredAgent, State
from apps.core import live_config
from apps.execution.instructions import system_message
from apps.execution.order import DeclaredOrder
from apps.tools.models import Kind, Tool
from tests.factories import AgentSettingsFactory, DeclaredAgentFactory, DropInFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


def agent(**fields: Any) -> DeclaredAgent:
    """Not saved."""
    made: DeclaredAgent = DeclaredAgentFactory.build(**fields)
    return made


def refused(**fields: Any) -> dict[str, list[str]]:
    try:
        check(agent(**fields))
    except ValidationError as error:
        return dict(error.message_dict)
    return {}


@pytest.mark.parametrize(
    "fields",
    [
        {"parameters": {"temperature": 0.2, "max_tokens": 100, "stop": ["a"], "extra_body": {"top_k": 4}}},
        {"parameters": {"temperature": 1, "reasoning_effort": "minimal"}},
        {"tools": ["search", "github_*"], "tool_choice": "github_issues"},
        {"tools": ["*"], "tool_choice": "required"},
        {"response_format": SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"icon": "👨‍👩‍👧"},
        {"icon": "https://example.com/a.png"},
        {"tags": ["in two words"], "aliases": ["helpdesk", "it/helpdesk"]},
    ],
)
def test_what_is_right_is_let_pass(fields: dict[str, Any]) -> None:
    assert refused(**fields) == {}


EXTRA = "What only your server knows goes into extra_body."
PARAMETERS: list[tuple[Any, str]] = [
    ([], 'Parameters are a JSON object: {"temperature": 0.2}.'),
    ({"temprature": 1}, f"'temprature' is no parameter of OpenAI's. Did you mean 'temperature'? {EXTRA}"),
    ({"min_p": 1}, f"'min_p' is no parameter of OpenAI's. {EXTRA}"),
    ({"tools": []}, "'tools' is no parameter here: it has a field of its own."),
    ({"stream": True}, "'stream' belongs to a request, and cannot be set for an agent."),
    ({"temperature": 3}, "'temperature' cannot be 3: input should be less than or equal to 2."),
    ({"temperature": "hot"}, "'temperature' cannot be 'hot': input should be a valid number."),
    ({"max_tokens": 0}, "'max_tokens' cannot be 0: input should be greater than or equal to 1."),
    ({"extra_body": {"messages": []}}, "'messages' in extra_body is set by the gateway."),
    ({"extra_body": {"a": float("nan")}}, "It holds what is no JSON: NaN, infinity, or half a character."),
    ({"user": "a\x00b"}, "It holds a NUL character, which cannot be stored."),
    ({"user": "\ud800"}, "It holds what is no JSON: NaN, infinity, or half a character."),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "sentence"), PARAMETERS)
def test_parameter_that_cannot_be_is_named(parameters: Any, sentence: str) -> None:
    assert sentence in refused(parameters=parameters)["parameters"]


@pytest.mark.parametrize(
    ("fields", "sentences"),
    [
        ({"tools": "search"}, {"tools": ['Tools are a list of names and globs: ["search", "github_*"].']}),
        (
            {"tools": ["no good"]},
            {"tools": ["“no good” is no tool's name, and no glob over names: letters, digits, _, - and stars."]},
        ),
        ({"tool_choice": "required"}, {"tool_choice": ["“required” needs tools, and the agent has none."]}),
        (
            {"tools": ["search"], "tool_choice": "serach"},
            {"tool_choice": ["“serach” is none of its tools; it is auto, required, none, or the name of one."]},
        ),
        (
            {"response_format": []},
            {"response_format": ['A response format is a JSON object: {"type": "json_object"}.']},
        ),
        (
            {"response_format": {"type": "xml"}},
            {"response_format": ["Its “type” is text, json_object or json_schema, not 'xml'."]},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            {
                "response_format": [
                    (
                        'json_schema needs a name: {"type": "json_schema", "json_schema": {"name": "answer", '
                        '"schema": {...}}}.'
                    )
                ]
            },
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            {"response_format": ["json_schema needs the JSON schema itself, as the object “schema”."]},
        ),
        ({"tags": {"a": 1}}, {"tags": ['Tags are a list of words: ["support", "internal"].']}),
        ({"tags": ["x" * 41]}, {"tags": [f"“{'x' * 41}” is longer than 40 characters."]}),
        (
            {"icon": "javascript:alert(1)"},
            {"icon": ["An icon is an emoji, or the URL of a picture that begins with https://."]},
        ),
        ({"aliases": "helpdesk"}, {"aliases": ['Aliases are a list of model names: ["helpdesk"].']}),
        (
            {"aliases": ["Help Desk"]},
            {"aliases": ["“Help Desk” is no model name: lower-case letters, digits, dots, dashes, at most one slash."]},
        ),
        ({"name": "self", "aliases": ["default/self"]}, {"aliases": ["“default/self” is its own id."]}),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(fields: dict[str, Any], sentences: dict[str, list[str]]) -> None:
    assert refused(**fields) == sentences


def test_names_that_others_have_are_refused_and_say_whose() -> None:
    drop_in = DropInFactory.create(agent_id="default/weather")
    AgentSettingsFactory.create(drop_in=drop_in, aliases=["rain"])
    DeclaredAgentFactory.create(name="desk", aliases=["helpdesk"])
    DropInFactory.create(agent_id="default/former", state=State.GONE)

    assert refused(name="weather") == {"name": ["default/weather is taken: it is the id of an agent in a folder."]}
    assert refused(name="former") == {}
    found = refused(name="new", aliases=["rain", "helpdesk", "default/desk", "default/weather", "free"])
    assert found == {
        "aliases": [
            "“rain” is taken: it is an alias of default/weather.",
            "“helpdesk” is taken: it is an alias of default/desk.",
            "“default/desk” is taken: it is the id of a declared agent.",
            "“default/weather” is taken: it is the id of an agent in a folder.",
        ]
    }


def test_agent_may_keep_its_own_names() -> None:
    made = DeclaredAgentFactory.create(name="desk", aliases=["helpdesk"])
    check(made)


def test_second_agent_of_an_id_is_refused_by_the_table() -> None:
    DeclaredAgentFactory.create(name="desk")
    with pytest.raises(ValidationError) as caught:
        agent(name="desk").full_clean()
    assert caught.value.messages == ["There is a declared agent of this id already."]


# --- remarks ---------------------------------------------------------------------------------------------------------


def test_agent_that_can_do_all_it_should_gets_no_remark() -> None:
    UpstreamFactory.create(serves=["demo"])
    Tool.objects.create(name="search", kind=Kind.HTTP, url="https://example.com")
    assert remarks(agent(model="demo", tools=["search", "sea*"], instructions="Hi {{user}}, {{ date }}")) == []


def test_remarks_name_what_is_near() -> None:
    UpstreamFactory.create(slug="llm", serves=["llama3", "qwen3"])
    Tool.objects.create(name="search", kind=Kind.HTTP, url="https://example.com")

    found = remarks(
        agent(
            upstream=UpstreamFactory.create(slug="big", serves=["gpt-5"]),
            model="gpt-4",
            tools=["serach", "x_*"],
            instructions="Today is {{dat}}, says {{x}}.",
        )
    )

    assert found == [
        "{{dat}} in the instructions is no variable, and stays as it is: did you mean {{date}}?",
        (
            "{{x}} in the instructions is no variable, and stays as it is: there are date, time, weekday, user, "
            "user_email, agent."
        ),
        (
            "'big' does not list the model gpt-4. Near names: gpt-5. Choose a model that it lists, or load the model "
            "there and read the list again in the admin under Upstreams."
        ),
        (
            "The gateway has no tools 'serach' (near: search) and 'x_*': the agent goes on without them. Add or enable "
            "what is missing in the admin under Tools, or take it off the agent's list."
        ),
    ]


def test_remarks_tell_what_answers_instead_and_that_nothing_can() -> None:
    assert remarks(agent()) == [
        (
            "Nothing can answer for it: No upstream is enabled. Add an LLM server in the admin under Upstreams, or "
            "enable the demo."
        )
    ]
    UpstreamFactory.create(slug="llm", serves=["demo"])
    assert remarks(agent(model="gpt-nobody-has")) == [
        (
            "An operator chose the model gpt-nobody-has, which no enabled upstream has; demo of 'llm' answers instead. "
            "Choose another model in the admin, or add or enable the upstream that has it."
        )
    ]


def test_remark_tells_of_a_folder_that_came_later() -> None:
    UpstreamFactory.create(serves=["demo"])
    made = DeclaredAgentFactory.create(name="weather")
    DropInFactory.create(agent_id="default/weather")
    assert remarks(made) == [
        (
            "A folder serves as default/weather already, and goes before the declared agent. Give the declared agent "
            "another name, or rename the folder."
        )
    ]


def test_every_variable_is_filled_in_by_runs() -> None:
    template = " ".join(f"{{{{{name}}}}}" for name in VARIABLES)
    one = declared(agent(instructions=template))
    assert "{{" not in system_message(DeclaredOrder(agent_id=one.agent_id, declared=one, messages=[]))
