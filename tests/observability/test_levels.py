import logging

import pytest

from apps.observability.levels import Levels


def test_logger_goes_by_the_nearest_name_above_it() -> None:
    levels = Levels.parsed("warning", "apps.upstreams=DEBUG, apps.upstreams.road = error,openai.agents=INFO,")

    assert [levels.of(name) for name in ("apps.upstreams.health", "apps.upstreams.road", "apps.catalog", "")] == [
        logging.DEBUG, logging.ERROR, logging.WARNING, logging.WARNING,
    ]  # fmt: skip
    assert (levels.of("openai.agents.run"), levels.of("apps.upstreamsx")) == (logging.INFO, logging.WARNING)


def test_libraries_that_tell_every_step_are_quiet_unless_asked() -> None:
    assert Levels.parsed("DEBUG", "").of("mcp.client") == logging.WARNING
    assert Levels.parsed("ERROR", "").of("mcp.client") == logging.ERROR
    assert Levels.parsed("INFO", "mcp=DEBUG").of("mcp.client") == logging.DEBUG


@pytest.mark.parametrize(
    ("level", "overrides", "named"),
    [
        ("LOUD", "", "GATEWAY_LOG_LEVEL is 'LOUD'"),
        ("INFO", "apps=LOUD", "GATEWAY_LOG_LEVELS for apps is 'LOUD'"),
        ("INFO", "apps", "GATEWAY_LOG_LEVELS has 'apps'"),
        ("INFO", "=DEBUG", "GATEWAY_LOG_LEVELS has '=DEBUG'"),
    ],
)
def test_wrong_level_is_one_sentence_with_a_remedy(level: str, overrides: str, named: str) -> None:
    with pytest.raises(ValueError, match=r"use one of DEBUG|write it as") as raised:
        Levels.parsed(level, overrides)

    assert str(raised.value).startswith(named)
    assert "\n" not in str(raised.value)
