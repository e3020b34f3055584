"""What an operator does at a second terminal, in a process of its own on the gateway's database.

Run as a script (see operators.py): reads {"verb": ..., "args": [...], "given": {...}} line by line, answers as JSON
lines. Imports of the tests package would cost it a second.
"""

import json
import os
import sys
import traceback
from datetime import timedelta
from typing import Any


def issue_key(name: str, *, expires_in: float | None = None, **fields: Any) -> dict[str, Any]:
    from apps.access import keys
    from apps.core.clock import now

    if expires_in is not None:
        fields["expires_at"] = now() + timedelta(seconds=expires_in)
    key, credential = keys.issue_key(name, **fields)
    return {"id": key.pk, "credential": credential}


def revoke_key(id: int) -> None:
    from apps.access.models import ApiKey
    from apps.core.clock import now

    assert ApiKey.objects.filter(pk=id).revoke(now()) == 1


def key_used_at(id: int) -> str | None:
    from apps.access.models import ApiKey

    used = ApiKey.objects.get(pk=id).last_used_at
    return used.isoformat() if used else None


def put_upstream(slug: str, *, models: list[str] | None = None, secret: str | None = None, **fields: Any) -> None:
    """Adds or changes an upstream; `models` are those that it lists, read from it when they are not given."""
    from apps.upstreams import probe
    from apps.upstreams.models import Upstream

    becomes_default = fields.pop("is_default", False)
    upstream = Upstream.objects.filter(slug=slug).first() or Upstream(slug=slug)
    for name, value in fields.items():
        setattr(upstream, name, value)
    if secret is not None:
        upstream.secret = secret
    upstream.save()
    if becomes_default:
        upstream.make_default()
    if models is None:
        probe.refresh_models(upstream)
    else:
        probe.store_models(upstream, models)


def delete_upstream(slug: str) -> None:
    from apps.upstreams.models import Upstream

    Upstream.objects.get(slug=slug).delete()


def only_upstreams(slugs: list[str]) -> None:
    from apps.upstreams.models import Upstream

    Upstream.objects.exclude(slug__in=slugs).delete()


def set_agent(agent_id: str, **fields: Any) -> None:
    from apps.catalog.models import AgentSettings, DropIn

    row, _ = AgentSettings.objects.get_or_create(drop_in=DropIn.objects.get(agent_id=agent_id))
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def agent_state(agent_id: str) -> str | None:
    from apps.catalog.models import DropIn

    return DropIn.objects.filter(agent_id=agent_id).values_list("state", flat=True).first()


def diagnostics(agent_id: str) -> list[str]:
    """The codes, in the order of the admin."""
    from apps.catalog.models import Diagnostic

    return list(Diagnostic.objects.filter(agent_id=agent_id).values_list("code", flat=True))


def put_limit(*, id: int | None = None, **fields: Any) -> int:
    """Adds or changes a limit; its id."""
    from apps.access.limit_models import Limit

    limit = Limit.objects.get(pk=id) if id else Limit()
    for name, value in fields.items():
        setattr(limit, name, value)
    limit.full_clean()
    limit.save()
    return int(limit.pk)


def delete_limits() -> None:
    from apps.access.limit_models import Limit

    Limit.objects.all().delete()


def put_price(model: str, **fields: Any) -> None:
    from apps.upstreams.models import ModelPrice

    ModelPrice.objects.create(model=model, **fields)


def runs(**filters: Any) -> list[dict[str, Any]]:
    """Run rows, oldest first."""
    from apps.execution.models import Run

    return list(Run.objects.filter(**filters).order_by("started_at").values())


def count_runs(**filters: Any) -> int:
    from apps.execution.models import Run

    return Run.objects.filter(**filters).count()


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_site.settings")
    django.setup()
    from django.db import close_old_connections

    for line in sys.stdin:
        asked = json.loads(line)
        try:
            close_old_connections()
            answer = {"value": globals()[asked["verb"]](*asked["args"], **asked["given"])}
        except Exception:  # noqa: BLE001  # told to the test
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
