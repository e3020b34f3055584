"""What an operator does at a second terminal, in a process of its own on the gateway's database.

Run as a script (see operators.py): reads {"verb": ..., "args": [...], "given": {...}} line by line, answers as JSON
lines. Imports of the tests package would cost it a second.
"""

import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path
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


def make(model: str, /, **fields: Any) -> int:
    """A row of `model`, such as access.Grant; its id. Names like `team_id` set foreign keys."""
    from django.apps import apps

    row: Any = apps.get_model(model)(**fields)
    row.save()
    return int(row.pk)


def change(model: str, id: int, /, **fields: Any) -> None:
    """As the admin does it."""
    from django.apps import apps

    row: Any = apps.get_model(model).objects.get(pk=id)
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def remove(model: str, id: int) -> None:
    from django.apps import apps

    row: Any = apps.get_model(model).objects.get(pk=id)
    row.delete()


def rows(model: str, **filters: Any) -> list[dict[str, Any]]:
    from django.apps import apps

    return list(apps.get_model(model)._default_manager.filter(**filters).values())


def log_in(username: str, *, is_staff: bool = True, permissions: list[str] | None = None) -> str:
    """The session key of a user, who is made when there is none."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Permission, User
    from django.contrib.sessions.backends.db import SessionStore

    user, _ = User.objects.get_or_create(username=username, defaults={"is_staff": is_staff})
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions or []))
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def override(*, ttl: float, **fields: Any) -> int:
    from apps.access import overrides
    from apps.access.models import ApiKey
    from apps.access.policy import Effect, Kind

    key_id = fields.pop("key_id", None)
    made = overrides.override(
        effect=Effect(fields.pop("effect")),
        about=Kind(fields.pop("about", "agent")),
        ttl=timedelta(seconds=ttl),
        key=ApiKey.objects.get(pk=key_id) if key_id else None,
        reason="tests",
        author="tests",
        **fields,
    )
    return int(made.pk)


def rotate_key(id: int, *, overlap: float) -> str:
    from apps.access import keys
    from apps.access.models import ApiKey
    from apps.core.clock import now

    return keys.rotate_key(ApiKey.objects.get(pk=id), at=now(), overlap=timedelta(seconds=overlap))


def sign_persons(key_id: int, secret: str) -> None:
    from apps.access.models import ApiKey

    key = ApiKey.objects.get(pk=key_id)
    key.set_identity_secret(secret)
    key.save()


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


def put_module_rule(pattern: str, effect: str, reason: str = "") -> None:
    from apps.catalog.models import ModuleRule

    row = ModuleRule.objects.filter(pattern=pattern).first() or ModuleRule(pattern=pattern)
    row.effect, row.reason = effect, reason
    row.save()


def set_module_policy(**fields: Any) -> None:
    from apps.catalog.models import ModulePolicy

    row = ModulePolicy.row()
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def approve_serving() -> int:
    from apps.catalog import approved_versions

    count, failures = approved_versions.approve_serving()
    assert not failures, failures
    return count


def approve_folder(agent_id: str) -> None:
    """What lies in its folder now."""
    from apps.catalog import approved_versions
    from apps.catalog.models import DropIn

    row = DropIn.objects.get(agent_id=agent_id)
    approved_versions.approve(row.folder_id, Path(row.folder), approved_versions.review(row).digest)


def kept_versions(folder_id: str) -> int:
    from apps.catalog.models import AgentVersion

    return AgentVersion.objects.filter(folder_id=folder_id).count()


def worker_count() -> int:
    from apps.catalog import serving_workers
    from apps.core import clock

    return serving_workers.answering(clock.now()).count()


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

    price = ModelPrice(model=model, **fields)
    price.full_clean()  # as every door of an operator does: SQLite would take a number that nobody can read again
    price.save()


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
