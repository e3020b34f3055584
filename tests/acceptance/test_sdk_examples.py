"""The SDK's own examples, each file dropped in as it is: all but these register and answer."""

from pathlib import Path

import pytest

from tests.acceptance import sdk_examples
from tests.acceptance.sdk_examples import DRY_RUN, YARDSTICK, Pass, Unavailable
from tests.harness import Template

# Its agent brings a client for an Ollama on this machine: whether it answers is not the gateway's doing.
ELSEWHERE = "hello_world_gpt_oss"

# Most build their agent in main(), which only the dry run runs; one has no agent at all. Many import the package
# `examples`, which is not beside them: all but one for their program alone.
WITHOUT_MORE = {
    "agents_as_tools_streaming": "no_export",
    "forcing_tool_use": "no_export",
    "hosted_multi_agent_beta": "registers, agent_error",
    "human_in_the_loop_custom_rejection": "no_export",
    "human_in_the_loop_server": "no_export",
    "human_in_the_loop_stream": "no_export",
    "input_guardrails": "no_export",
    "agent_lifecycle_example": "missing_dependency",
    "dynamic_system_prompt": "registers, agent_error",
    "hello_world": "no_export",
    "hello_world_gpt_5": "no_export",
    "image_tool_output": "no_export",
    "local_file": "no_export",
    "local_image": "no_export",
    "non_strict_output_type": "no_export",
    "previous_response_id": "no_export",
    "prompt_template": "no_export",
    "remote_image": "no_export",
    "remote_pdf": "no_export",
    "retry": "no_export",
    "retry_litellm": "no_export",
    "stream_function_call_args": "no_export",
    "stream_items": "no_export",
    "stream_text": "no_export",
    "stream_ws": "no_export",
    "trace_redaction": "no_export",
    "usage_tracking": "no_export",
}

WITH_DRY_RUN = {
    "hosted_multi_agent_beta": "registers, agent_error",  # a model of OpenAI's own, which needs OPENAI_API_KEY
    "agent_lifecycle_example": "missing_dependency",  # a tool of it calls into `examples`
    "local_image": "dry_run_failed",  # reads a file that lies beside the example before it builds its agent
    "non_strict_output_type": "registers, agent_configuration",  # fails under Runner too, to show that it does
    "prompt_template": "needs_responses",
    "trace_redaction": "dry_run_failed",  # has no agent
}

WITH_PACKAGE = {name: outcome for name, outcome in WITH_DRY_RUN.items() if outcome != "missing_dependency"}


@pytest.fixture(scope="module")
def source(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution, kept in pytest's cache. Skips where it cannot be had."""
    cache = getattr(pytestconfig, "cache", None)  # none with -p no:cacheprovider
    try:
        return sdk_examples.source_distribution(
            cache.mkdir("sdk-examples") if cache else tmp_path_factory.mktemp("sdk-examples")
        )
    except Unavailable as reason:
        pytest.skip(f"the SDK's source distribution cannot be had: {reason}")


@pytest.mark.parametrize(
    ("way", "failing"),
    [
        (Pass("as it is", {}), WITHOUT_MORE),
        (Pass("dry run", DRY_RUN), WITH_DRY_RUN),
        (Pass("dry run, examples package importable", DRY_RUN, with_package=True), WITH_PACKAGE),
    ],
    ids=["as-it-is", "dry-run", "dry-run-with-package"],
)
def test_examples_register_and_answer(
    source: Path, template: Template, tmp_path: Path, way: Pass, failing: dict[str, str]
) -> None:
    outcomes = sdk_examples.try_examples(source, way, tmp_path, template, YARDSTICK)

    told = {one.name: str(one) for one in outcomes if one.name != ELSEWHERE}
    assert told == {name: failing.get(name, "answers") for name in told}
    assert failing.keys() <= told.keys()
