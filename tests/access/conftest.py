from collections.abc import Iterator

import pytest

from apps.core import live_config


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    """No test sees the snapshot of another."""
    live_config.forget()
    yield
    live_config.forget()
