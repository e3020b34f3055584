# ruff: noqa: E402, PTH109, TRY301, PLE1206, LOG014  # all that this file is about, and a script's imports
"""Run as a process: logs what nobody should, as modules do that believe the process is theirs."""

import logging
import os
import sys

sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_site.settings"

import django

django.setup()

import structlog

from apps.observability import logs

log = structlog.get_logger("apps.observability.odd")
late = structlog.get_logger("apps.observability.late")


class Refuses(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Deep:
    def __repr__(self) -> str:
        raise RecursionError


nested: list = []
nested.append(nested)
bottomless: dict = {}
for _ in range(5000):
    bottomless = {"in": bottomless}

log.info("plain", text="x")
log.info("bytes", value=b"\xff\xfe", half="\ud83d", nul="a\0b", key={("a", 1): "tuple"})
log.info("huge", value="x" * 1_000_000, number=10**5000, float=float("nan"))
log.info("nested", value=nested, bottomless=bottomless)
log.info("refusing", value=Deep(), error=Refuses())
try:
    secret = "local variable"
    raise Refuses
except Refuses as error:
    log.error("raised", exc_info=error)
logging.getLogger("some.library").warning("%d of %s", "many")
logging.getLogger("some.library").warning(Deep())
logging.getLogger("some.library").error("two\nlines", exc_info=True)
log.debug("hidden")
structlog.get_logger("apps.upstreams.road").debug("shown")
logging.getLogger("openai.agents").info("sdk")
logging.getLogger("openai").info("hidden, too")
sys.modules["apps.late"] = type(sys)("apps.late")
sys.modules["apps.late"].log = late
logs.settle()
with logs.whole_lines():
    logging.basicConfig(format="LOUD %(message)s", level=logging.DEBUG, force=True)
    structlog.configure(processors=[], logger_factory=structlog.PrintLoggerFactory(), cache_logger_on_first_use=False)
    sys.stderr.write("begun, ")
    sys.stderr.flush()
    late.info("late")
    print("and ended", file=sys.stderr)
    sys.stderr.close()
    sys.__stderr__.close()
    log.info("closed")
