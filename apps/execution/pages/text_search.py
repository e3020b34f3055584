"""Finding runs among millions: what an index finds is looked for in all of them, the rest among the newest.

Each way to find is asked for its newest runs by itself, in an order that an index has; a database that is given all of
it as one OR reads the whole table.
"""

from collections.abc import Iterator
from itertools import chain

from django.db.models import Q, QuerySet

from apps.access.models import ApiKey
from apps.catalog.models import DeclaredAgent, DropIn
from apps.execution.models import Outcome, Run

HELP = (
    "Request id, run id, agent, key, user, error. Ids, agents, keys and whole user names are looked for in all runs; "
    "parts of names among the newest 10,000, texts of errors among the newest 10,000 that failed. "
    "The newest 200 of each are shown."
)
LOOKED_THROUGH = 10_000
MOST_FOUND = 200  # of each way
_MOST_NAMES = 6  # agents or keys that fit


def search(runs: QuerySet[Run], text: str) -> QuerySet[Run]:
    """Those of `runs` that fit the text, each once; of each way to fit the newest."""
    text = text.strip().replace("\0", "")
    if not text:
        return runs
    by_id = list(runs.filter(pk=text).values_list("pk", flat=True))
    by_id += runs.filter(request_id=text).order_by().values_list("pk", flat=True)[:MOST_FOUND]
    found = set(by_id) or set(chain.from_iterable(_newest(one) for one in _ways(runs, text)))
    return runs.filter(pk__in=found)


def _newest(runs: QuerySet[Run]) -> Iterator[str]:
    return iter(runs.order_by("-started_at").values_list("pk", flat=True)[:MOST_FOUND])


def _ways(runs: QuerySet[Run], text: str) -> Iterator[QuerySet[Run]]:
    yield from (runs.filter(agent_id=one) for one in _agents(text))
    yield from (runs.filter(key_id=one) for one in _keys(text))
    # The indexes leave out runs without a user, and SQLite takes them only for a query that says so as well.
    yield runs.filter(user_name=text).exclude(user_name="")
    yield runs.filter(user_id=text).exclude(user_id="")
    in_names = Q(agent_id__icontains=text) | Q(key_name__icontains=text) | Q(user_name__icontains=text)
    yield _newest_of(runs, Run.objects.all()).filter(in_names | Q(model__icontains=text))
    failed = _newest_of(runs, Run.objects.filter(outcome=Outcome.FAILED)).filter(outcome=Outcome.FAILED)
    yield failed.filter(Q(error__icontains=text) | Q(error_code__icontains=text))


def _agents(text: str) -> list[str]:
    """Ids of agents that there are; an id that is written out may be of one that is gone, or of a model."""
    drop_ins = DropIn.objects.filter(agent_id__icontains=text).values_list("agent_id", flat=True)[:_MOST_NAMES]
    declared = DeclaredAgent.objects.filter(name__icontains=text.rpartition("/")[2])
    ids = [f"{one.namespace}/{one.name}" for one in declared.only("namespace", "name")[:_MOST_NAMES]]
    return list({text, *drop_ins, *(one for one in ids if text.lower() in one)})


def _keys(text: str) -> list[int]:
    return list(ApiKey.objects.filter(name__icontains=text).order_by("name").values_list("pk", flat=True)[:_MOST_NAMES])


def _newest_of(runs: QuerySet[Run], among: QuerySet[Run]) -> QuerySet[Run]:
    """`runs` since the time of the last one among the newest that are looked through: a range of an index."""
    oldest = among.order_by("-started_at").values_list("started_at", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1]
    since = next(iter(oldest), None)
    return runs.filter(started_at__gte=since) if since else runs
