"""Which lines are told: one level for all, and others for loggers by name."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

# Libraries that tell every step, as quiet as their own warnings unless somebody asks for more.
_QUIET: Final = ("asyncio", "uvicorn.error", "httpx2", "httpcore2", "mcp", "daphne", "celery.utils.functional")


@dataclass(frozen=True, slots=True)
class Levels:
    """Python's numbers. A logger goes by the nearest name above it, as `apps.upstreams` for `apps.upstreams.road`."""

    default: int = logging.INFO
    by_name: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parsed(cls, level: str, overrides: str) -> Self:
        """Of `INFO` and `apps.upstreams=DEBUG,openai.agents=INFO`. Raises ValueError with a sentence for operators."""
        default = _number(level, "GATEWAY_LOG_LEVEL")
        by_name = {name: max(default, logging.WARNING) for name in _QUIET}
        for pair in filter(None, map(str.strip, overrides.split(","))):
            name, is_given, wished = (part.strip() for part in pair.partition("="))
            if not is_given or not name:
                raise ValueError(
                    f"GATEWAY_LOG_LEVELS has {pair!r}, which is no logger and level: write it as "
                    "apps.upstreams=DEBUG,openai.agents=INFO."
                )
            by_name[name] = _number(wished, f"GATEWAY_LOG_LEVELS for {name}")
        return cls(default, by_name)

    def of(self, name: str) -> int:
        while name:
            if name in self.by_name:
                return self.by_name[name]
            name = name.rpartition(".")[0]
        return self.default

    def apply(self) -> None:
        """To the standard library's loggers."""
        for name, level in self.by_name.items():
            logging.getLogger(name).setLevel(level)


def _number(level: str, where: str) -> int:
    if level.upper() not in LEVELS:
        raise ValueError(f"{where} is {level!r}, which is no level: use one of {', '.join(LEVELS)}.")
    return logging.getLevelNamesMapping()[level.upper()]
