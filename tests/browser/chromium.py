"""The browser of the tests, as the operating system installed it; `make browser` sees to it.

Run as a script it says where the browser is, or exits with 1: `python -m tests.browser.chromium`.
"""

import os
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = (
    f"No browser to test with: none of {', '.join(NAMES)} is on the PATH. `make browser` installs one on Debian; or "
    "name yours: GATEWAY_TEST_CHROMIUM=/path/to/it."
)


def find() -> str | None:
    """Its path: what GATEWAY_TEST_CHROMIUM names, else the first on the PATH."""
    named = os.environ.get("GATEWAY_TEST_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


def is_needed() -> bool:
    """In CI, where tests that are left out would be noticed by nobody."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


if __name__ == "__main__":
    if not (path := find()):
        sys.exit(1)
    print(path)
