"""The commands' output: tables for people, the same values for JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from apps.catalog import registry
from apps.catalog.inspection import problem_values
from apps.catalog.models import AgentSettings, Diagnostic, DropIn

Row = dict[str, Any]


def discovered() -> list[Row]:
    """What this process has loaded, and every id that did not make it."""
    by_id: dict[str, list[Row]] = {}
    for agent_id, one in registry.problems():
        by_id.setdefault(agent_id, []).append(problem_values(one))
    rows = [
        {
            "id": entry.agent_id,
            "name": entry.name,
            "state": entry.state.value,
            "export": entry.generation.export.kind if entry.generation else "",
            "digest": entry.digest,
            "problems": by_id.pop(entry.agent_id, []),
        }
        for entry in registry.entries().values()
    ]
    rows += [{"id": id, "name": "", "state": "", "export": "", "digest": "", "problems": p} for id, p in by_id.items()]
    return rows


def recorded() -> list[Row]:
    """What the database says."""
    fields = ("code", "severity", "reason", "remedy", "file", "line")
    problems: dict[str, list[Row]] = {}
    for row in Diagnostic.objects.values("agent_id", *fields):
        problems.setdefault(row.pop("agent_id"), []).append(dict(row))
    enabled = dict(AgentSettings.objects.values_list("drop_in__agent_id", "enabled"))
    return [
        {
            "id": one.agent_id,
            "name": one.name,
            "state": one.state,
            "enabled": enabled.get(one.agent_id, True),
            "export": one.export,
            "model": one.model,
            "problems": problems.get(one.agent_id, []),
        }
        for one in DropIn.objects.all()
    ]


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Aligned columns; `problem` is the codes and places of the row's problems."""
    if not rows:
        return "No agents. Put one into a discovery folder: agents/<Name>/agent.py."
    lines = [columns, *([_cell(row, column) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(row: Row, column: str) -> str:
    if column == "problem":
        return "; ".join(f"{one['code']} {_place(one)}".rstrip() for one in row["problems"])
    value = row[column]
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def report(values: Row) -> str:
    """check_agent's report for people."""
    head = f"{values['id']}: {'loads' if values['ok'] else 'does not load'} ({values['path']})"
    lines = [head, *(line for agent in values["agents"] for line in _agent_lines(agent))]
    if packages := values["needs"]["packages"]:
        lines.append(f"  packages that are not installed here: {', '.join(packages)}")
    if variables := values["needs"]["environment"]:
        lines.append(f"  environment variables that are not set here: {', '.join(variables)}")
    for one in values["problems"]:
        lines += [f"  {one['severity']}: {one['code']} at {_place(one)}", f"    {one['reason']}"]
        lines += [f"    Remedy: {one['remedy']}"]
    return "\n".join(lines)


def _agent_lines(agent: Row) -> Iterable[str]:
    yield f"  {agent['id']}: {agent['export']} `{agent['variable']}`"
    if agent["context"]:
        yield f"    run context: {agent['context']}, built anew for each run"
    for one in agent["graph"]:
        yield f"    {one['name']} (model: {_model(one)})"
        for kind in ("tools", "handoffs", "mcp_servers"):
            if one[kind]:
                yield f"      {kind.replace('_', ' ')}: {', '.join(one[kind])}"


def _model(node: Row) -> str:
    """Which upstream answers to a name, the gateway decides by its upstreams."""
    if node["model_of_its_own"]:
        return f"{node['model']}, its own object"
    return node["model"] or "the gateway's default"


def _place(one: Row) -> str:
    return f"{one['file']}:{one['line']}" if one["line"] else str(one["file"])
