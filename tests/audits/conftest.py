import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.audits import rules
from apps.audits.rule import Found, Rule, Severity
from apps.core import live_config

FINDS = """from apps.audits.rule import Found, Rule, Severity

RULE = Rule("test-finds", "Finds one", Severity.MEDIUM, "Mend it.", lambda: [Found("key a", "It is there.")])
"""


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


class Subjects:
    """A rule that finds what a test tells it to."""

    def __init__(self, id: str = "test-rule", severity: Severity = Severity.HIGH) -> None:
        self.there: list[str] = []
        self.rule = Rule(id, f"Title of {id}", severity, "Remove it.", self._check)

    def _check(self) -> list[Found]:
        return [Found(subject, f"There is {subject}.", link="/admin/") for subject in self.there]

    @property
    def rules(self) -> dict[str, Rule]:
        return {self.rule.id: self.rule}


@pytest.fixture
def subjects() -> Subjects:
    return Subjects()


@pytest.fixture
def only_rules(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], None]]:
    """Puts files in the place of the audit's rules, by their names."""
    before = rules.__path__

    def put(sources: dict[str, str]) -> None:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        rules.__path__ = [str(tmp_path)]

    yield put
    rules.__path__ = before
    for name in [one for one in sys.modules if one.startswith(f"{rules.__name__}.test_")]:
        del sys.modules[name]
