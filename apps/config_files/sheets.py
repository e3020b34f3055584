"""Which rows stand in which file, under which names: the one list that reading and writing go by.

docs/config-files.md describes the same for people, and tests/config_files/test_docs.py holds the two together.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Model, Q, QuerySet
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from apps.access.limit_models import Limit
from apps.access.models import AccessSettings, ApiKey, Grant, Team, ToolRule
from apps.audits.models import AlertChannel
from apps.catalog import declared_checks
from apps.catalog.model_parameters import Parameters
from apps.catalog.models import (
    AgentSettings,
    ApprovedVersion,
    DeclaredAgent,
    DropIn,
    ModulePolicy,
    ModuleRule,
    Namespace,
    State,
)
from apps.catalog.scan import DEFAULT_NAMESPACE
from apps.config_files import checks, schedules
from apps.core import secrets
from apps.core.models import ConfigRow
from apps.execution.models import Recording
from apps.tools.models import McpServer, Tool
from apps.upstreams.models import ModelPrice, ModelRoute, RouteTarget, Upstream

AGENTS, UPSTREAMS, TOOLS, SECURITY = FILES = ("agents.yaml", "upstreams.yaml", "tools.yaml", "security.yaml")


@dataclass(frozen=True, slots=True)
class Secret:
    """What is read from files and never written into one. `column` holds it encrypted; `is_mapping`: as JSON."""

    name: str
    column: str
    is_mapping: bool = False

    def encrypted(self, value: Any) -> str:
        if not value:
            return ""
        return secrets.encrypt_json(value) if self.is_mapping else secrets.encrypt(value)

    def stored(self, row: Model) -> Any:
        """Raises SecretUnreadable."""
        ciphertext = getattr(row, self.column)
        if not ciphertext:
            return {} if self.is_mapping else ""
        return secrets.decrypt_json(ciphertext) if self.is_mapping else secrets.decrypt(ciphertext)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one model as a section of a file.

    Rows with a `key` stand in a mapping by it, others in a list and are told apart by the members in `same`; one row of
    its kind (`ConfigRow`) is a mapping of its members. `inner` are rows that belong to a row of this sheet.
    """

    file: str
    section: str
    model: type[Model]
    key: str = ""
    same: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)  # a field's name → its name in files
    secrets: tuple[Secret, ...] = ()
    inner: "Sheet | None" = None
    inner_of: str = ""  # of such a sheet: the foreign key to the outer row
    rows: Callable[[], QuerySet[Any]] | None = None  # those that are written; all without it
    elsewhere: Mapping[str, str] = field(default_factory=dict)  # what other systems call a member → what to do here
    check: Callable[[Any], None] | None = None  # raises ValidationError for what the model itself does not refuse

    @property
    def is_row(self) -> bool:
        return issubclass(self.model, ConfigRow)

    def queryset(self) -> QuerySet[Any]:
        return self.rows() if self.rows else self.model._default_manager.all()  # noqa: SLF001  # Django documents it

    def columns(self) -> Iterator[Any]:
        """The fields that stand in files, in the order of the model, but those of the key first."""
        left_out = {self.model._meta.pk.name, self.inner_of, *self.without, *(one.column for one in self.secrets)}  # noqa: SLF001  # Django documents it
        if not self.same:
            left_out |= set(KEY_FIELDS.get(self.model, (self.key,)))
        fields = [one for one in self.model._meta.concrete_fields if one.name not in left_out]  # noqa: SLF001
        return iter(sorted(fields, key=lambda one: one.name not in self.same))

    def member(self, column: Any) -> str:
        return self.renamed.get(column.name, column.name)

    def members(self) -> list[str]:
        """Everything that an entry may hold."""
        inner = [self.inner.section] if self.inner else []
        return [*map(self.member, self.columns()), *(one.name for one in self.secrets), *inner]


# --- how a row is called in a file -----------------------------------------------------------------------------------

KEY_FIELDS: Final[Mapping[type[Model], tuple[str, ...]]] = {
    DeclaredAgent: ("namespace", "name"),
    AgentSettings: ("drop_in",),
}
_NAMED_BY: Final[Mapping[type[Model], str]] = {
    DropIn: "agent_id",
    Upstream: "slug",
    McpServer: "slug",
    ModelRoute: "pattern",
    ModuleRule: "pattern",
}
_KEY = re.compile(r"(.*) \((\S+)…\)")  # of several keys with one name, as ApiKey.__str__ has it


_INSTRUCTIONS = "It is called 'instructions'."
_OF_AGENTS: Final[Mapping[str, str]] = {
    **{one: f"It belongs into parameters: {{{one}: …}}." for one in Parameters.model_fields},
    "name": "What people see is called 'title'; the name is that of the entry.",
    **dict.fromkeys(("system", "prompt", "system_prompt", "system_message"), _INSTRUCTIONS),
    "enabled": "Say `stage: live`, or `stage: disabled`.",
    "max_rounds": "It is called 'max_turns'.",
    "max_tool_rounds": "It is called 'max_turns'.",
    "timeout": "It is called 'run_timeout'.",
}
_OF_UPSTREAMS: Final[Mapping[str, str]] = {
    "url": "It is called 'base_url'.",
    "type": "It is called 'kind'.",
    "model": "It is called 'default_model'.",
    "models": "They are read from the server.",
    **dict.fromkeys(("key", "token", "secret"), "It is called 'api_key'."),
}
_OF_TOOLS: Final[Mapping[str, str]] = {
    "type": "It is called 'kind'.",
    "schema": "It is called 'parameters'.",
    "endpoint": "It is called 'url'.",
}
_OF_KEYS: Final[Mapping[str, str]] = dict.fromkeys(
    ("key", "value", "secret", "api_key", "hash", "sha256"),
    "A key is known by its 'digest', which `printf %s \"$KEY\" | sha256sum` makes, and its beginning, the 'prefix'.",
)


class NoSuchRow(LookupError):
    """The message names what is not there."""


def name_of(row: Model) -> str:
    """How files call a row that others refer to, or that stands under its name."""
    if isinstance(row, DeclaredAgent):
        return row.agent_id
    if isinstance(row, AgentSettings):
        return row.drop_in.agent_id
    if isinstance(row, CrontabSchedule | IntervalSchedule):
        return schedules.name_of(row)
    if isinstance(row, ApiKey) and ApiKey.objects.filter(name=row.name, revoked_at=None).count() > 1:
        return str(row)
    return str(getattr(row, _NAMED_BY.get(type(row), "name")))


def find(model: type[Model], name: str) -> Model:
    """The row of that name. Raises NoSuchRow."""
    if issubclass(model, CrontabSchedule | IntervalSchedule):
        try:
            return schedules.find(model, name)
        except ValueError as error:
            raise NoSuchRow(str(error)) from error
    found = list(_named(model, name)[:2])
    if len(found) == 1:
        row: Model = found[0]
        return row
    what = str(model._meta.verbose_name)  # noqa: SLF001
    if found:
        raise NoSuchRow(f"there are several of the {what} '{name}'; name the one that is meant as the export does")
    if model is DropIn:  # discovery has not seen its folder yet: settings wait for it
        return DropIn.objects.create(agent_id=name, folder="", name=name.rpartition("/")[2], state=State.GONE)
    raise NoSuchRow(f"there is no {what} '{name}'. {_hint(model, name)}")


def _hint(model: type[Model], name: str) -> str:
    there = sorted(map(name_of, model._default_manager.all()))  # noqa: SLF001
    if near := difflib.get_close_matches(name, there, n=1):
        return f"Did you mean '{near[0]}'?"
    return f"There is {', '.join(there[:10])}{' …' if len(there) > 10 else ''}." if there else "There is none at all."


def _named(model: type[Model], name: str) -> QuerySet[Any]:
    if model is ApiKey:
        exact = ApiKey.objects.filter(name=name, revoked_at=None)
        distinguished = _KEY.fullmatch(name)
        if distinguished and not exact.exists():
            return ApiKey.objects.filter(name=distinguished[1], prefix=distinguished[2], revoked_at=None)
        return exact
    return model._default_manager.filter(**{_NAMED_BY.get(model, "name"): name})  # noqa: SLF001


def keyed(sheet: Sheet, name: str) -> tuple[Model | None, dict[str, Any]]:
    """The row of a sheet under that key, if there is one, and the fields that the key stands for. Raises NoSuchRow when
    there are several."""
    if sheet.model is ApiKey:
        found = list(_named(ApiKey, name)[:2])
        return (find(ApiKey, name) if found else None), {"name": name}
    if sheet.model is DeclaredAgent:
        namespace, _, rest = _agent_id(name).partition("/")
        fields: dict[str, Any] = {"namespace": namespace, "name": rest}
    elif sheet.model is AgentSettings:
        fields = {"drop_in": find(DropIn, _agent_id(name))}
    else:
        fields = {sheet.key: name}
    return sheet.model._default_manager.filter(**fields).first(), fields  # noqa: SLF001


def _agent_id(name: str) -> str:
    return name if "/" in name else f"{DEFAULT_NAMESPACE}/{name}"


def _keys_in_force() -> QuerySet[Any]:
    return ApiKey.objects.filter(revoked_at=None).order_by("name", "pk")


def _without_adapters() -> QuerySet[Any]:
    return McpServer.objects.filter(parent=None)


def _own_or_set() -> QuerySet[Any]:
    return Tool.objects.filter(Q(server=None) | Q(server__parent=None), gone_at=None)


# Before what refers to it.
SHEETS: Final[Sequence[Sheet]] = (
    Sheet(
        UPSTREAMS,
        "upstreams",
        Upstream,
        key="slug",
        elsewhere=_OF_UPSTREAMS,
        check=checks.upstream,
        without=("models_read_at", "asked_at", "answered_at", "last_error", "last_error_code"),
        renamed={"is_default": "default"},
        secrets=(Secret("api_key", "encrypted_secret"),),
    ),
    Sheet(
        UPSTREAMS,
        "routes",
        ModelRoute,
        key="pattern",
        check=checks.route,
        inner=Sheet(UPSTREAMS, "targets", RouteTarget, same=("upstream", "model"), inner_of="route"),
    ),
    Sheet(UPSTREAMS, "prices", ModelPrice, same=("upstream", "model")),
    Sheet(
        TOOLS,
        "mcp_servers",
        McpServer,
        key="slug",
        check=checks.mcp_server,
        without=("parent", "state", "reason", "state_since", "protocol", "checked_at", "gone_at", "renewed_at"),
        secrets=(
            Secret("secret_headers", "encrypted_headers", is_mapping=True),
            Secret("environment", "encrypted_environment", is_mapping=True),
            Secret("oauth", "encrypted_oauth", is_mapping=True),
        ),
        rows=_without_adapters,
    ),
    Sheet(
        TOOLS,
        "tools",
        Tool,
        key="name",
        elsewhere=_OF_TOOLS,
        without=("gone_at",),
        secrets=(Secret("secret_headers", "encrypted_headers", is_mapping=True),),
        rows=_own_or_set,
    ),
    Sheet(AGENTS, "namespaces", Namespace, key="name"),
    Sheet(
        AGENTS,
        "agents",
        DeclaredAgent,
        key="name",
        without=("created_at", "changed_at"),
        elsewhere=_OF_AGENTS,
        check=declared_checks.check,
    ),
    Sheet(AGENTS, "agent_settings", AgentSettings, key="drop_in", check=declared_checks.check_settings),
    Sheet(
        AGENTS,
        "module_rules",
        ModuleRule,
        key="pattern",
        without=("created_by", "created_at"),
        check=checks.module_rule,
    ),
    Sheet(AGENTS, "module_policy", ModulePolicy),
    Sheet(
        AGENTS,
        "approved_versions",
        ApprovedVersion,
        same=("folder_id", "digest"),
        without=("approved_by", "approved_at"),
        renamed={"folder_id": "folder"},
    ),
    Sheet(SECURITY, "teams", Team, key="name", without=("created_at",)),
    Sheet(
        SECURITY,
        "keys",
        ApiKey,
        key="name",
        elsewhere=_OF_KEYS,
        check=checks.key,
        without=(
            "previous_digest",
            "previous_until",
            "asked_for",
            "created_at",
            "created_by",
            "revoked_at",
            "last_used_at",
        ),
        secrets=(Secret("identity_secret", "encrypted_identity_secret"),),
        rows=_keys_in_force,
    ),
    Sheet(
        SECURITY,
        "grants",
        Grant,
        same=("effect", "agents", "key", "team", "namespace"),
        check=checks.grant,
        without=("created_at",),
    ),
    Sheet(
        SECURITY,
        "tool_rules",
        ToolRule,
        same=("effect", "by", "pattern", "agents", "key", "team", "namespace"),
        check=checks.tool_rule,
        without=("created_at",),
    ),
    Sheet(SECURITY, "limits", Limit, same=("key", "team", "per", "agents"), without=("created_at",)),
    Sheet(SECURITY, "access_settings", AccessSettings),
    Sheet(SECURITY, "recording", Recording),
    Sheet(
        SECURITY,
        "alert_channels",
        AlertChannel,
        key="name",
        secrets=(Secret("signing_secret", "encrypted_secret"),),
        check=checks.alert_channel,
    ),
    Sheet(
        SECURITY,
        "schedules",
        PeriodicTask,
        key="name",
        without=schedules.NOT_IN_FILES,
        renamed={"interval": "every", "crontab": "at"},
        rows=schedules.rows,
        check=schedules.check,
    ),
)
BY_SECTION: Final[Mapping[str, Sheet]] = {sheet.section: sheet for sheet in SHEETS}
