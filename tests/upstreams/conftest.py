"""What this process knows of upstreams is forgotten between tests."""

from collections.abc import Iterator

import pytest

from apps.upstreams import health


@pytest.fixture(autouse=True)
def _nothing_is_known_of_upstreams() -> Iterator[None]:
    health.forget_changed({})
    yield
    health.forget_changed({})
