"""Numbers that keep to the bounds and the step of a JSON schema."""

from typing import Any, Literal

from apps.upstreams.demo.schema_reading import Schema


def bounded(value: float, schema: Schema, *, whole: bool) -> int | float:
    """The number nearest to the value that keeps to the schema's bounds and is a multiple of its step."""
    step = schema.get("multipleOf") or (1 if whole else None)
    low, high = _bound(schema, "Minimum", step), _bound(schema, "Maximum", step)
    if low is not None and high is not None and low > high:
        low = high = (low + high) / 2  # exclusive bounds closer together than 1
    value = value if low is None else max(value, low)
    value = value if high is None else min(value, high)
    value = _stepped(value, step, low, high) if step else value
    return int(value) if float(value).is_integer() else value


def _bound(schema: Schema, name: Literal["Minimum", "Maximum"], step: float | None) -> Any:
    """The bound, an exclusive one moved inside by a step. None without one."""
    bound, beyond = schema.get(name.lower()), schema.get(f"exclusive{name}")
    if beyond is True:  # JSON Schema draft 4, and OpenAPI 3.0
        beyond, bound = bound, None
    if beyond is None or beyond is False:
        return bound
    inside, tighter = (beyond + (step or 1), max) if name == "Minimum" else (beyond - (step or 1), min)
    return inside if bound is None else tighter(bound, inside)


def _stepped(value: float, step: float, low: float | None, high: float | None) -> float:
    count = round(value / step)
    count += 1 if low is not None and count * step < low else 0
    count -= 1 if high is not None and count * step > high else 0
    return count * step
