"""docs/metrics.md and deploy/ against the metrics that there are: no name, label or type that does not exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.urls import reverse
from django_prometheus.middleware import Metrics
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from prometheus_client.core import Metric

import gateway_site.asgi  # noqa: F401  # loads whatever a server does, and so registers whatever it measures
from apps.execution.run_metrics import CONVENTIONS
from apps.observability.metrics import REGISTRY
from tests.harness.processes import ROOT
from tests.observability.promql import Named, named

DEPLOY = ROOT / "deploy"
TABLE_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| *(.*?) *\| (.*?) \| (.*?) \| `(.*)` \|$", re.MULTILINE)
OF_PROMETHEUS = {"up": {"job", "instance"}}
DASHBOARD = json.loads((DEPLOY / "grafana" / "agent-gateway.json").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]


@cache
def registered() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by the name that Prometheus has; of this process's registry, but for what other tests left."""
    Metrics.get_instance()
    return {_name(one): (one.type, _labels(one, collector)) for collector, one in _metrics()}


def _metrics() -> Iterator[tuple[Any, Metric]]:
    for collector in list(REGISTRY._collector_to_names):
        for one in collector.collect():
            yield collector, one


def _name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric, collector: Any) -> set[str]:
    names = getattr(collector, "_labelnames", None) or getattr(metric, "_labelnames", None)
    return set(names if names is not None else [label for sample in metric.samples for label in sample.labels]) - {"le"}


@cache
def series() -> dict[str, set[str]]:
    """The labels of every series that a query may name."""
    found = dict(OF_PROMETHEUS)
    for name, (kind, labels) in registered().items():
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    return found


def unknown(expression: str) -> list[str]:
    """What an expression names and does not exist."""
    known, wanted = series(), named(expression)
    assert wanted.series
    wrong = [name for name, _ in wanted.series if name not in known]
    wrong += [f"{name}{{{label}}}" for name, labels in wanted.series for label in labels - known.get(name, labels)]
    return wrong + sorted(wanted.groups - _of_all(wanted))


def wrong(expressions: dict[str, str]) -> dict[str, list[str]]:
    return {which: found for which, text in expressions.items() if (found := unknown(text))}


def left_by(expression: str) -> set[str]:
    """The labels that a result may have."""
    return named(expression).groups or _of_all(named(expression))


def _of_all(wanted: Named) -> set[str]:
    return {label for name, _ in wanted.series for label in series().get(name, set())}


def test_names_are_found_in_expressions() -> None:
    found = named(
        'topk(10, histogram_quantile(0.95, sum by (le, tool) (rate(a_bucket{x=~"$y",z!=""}[$__rate_interval])))) '
        "and on (tool) sum(increase(b_total[10m])) > 1e3 or vector(0)"
    )

    assert (found.series, found.groups) == ([("a_bucket", {"x", "z"}), ("b_total", set())], {"le", "tool"})


def test_what_does_not_exist_is_found() -> None:
    assert unknown('sum by (nobody) (rate(gateway_runs_total{agents="x"}[5m])) / gateway_run_total') == [
        "gateway_run_total",
        "gateway_runs_total{agents}",
        "nobody",
    ]


def test_table_of_the_docs_is_the_registry() -> None:
    rows = TABLE_ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    told = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in rows}

    assert told == registered()
    assert len(rows) == len(told)
    assert [name for name, *_, unit, meaning, _ in rows if not (unit and meaning)] == []


def test_examples_of_the_docs_query_their_metric() -> None:
    examples = {row[0]: row[5] for row in TABLE_ROW.findall((ROOT / "docs" / "metrics.md").read_text())}

    assert wrong(examples) == {}
    others = [
        name for name, text in examples.items() if not any(found.startswith(name) for found, _ in named(text).series)
    ]
    assert others == []


def test_alerts_name_what_exists() -> None:
    assert wrong({rule["alert"]: rule["expr"] for rule in ALERTS}) == {}
    for rule in ALERTS:
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert told <= left_by(rule["expr"]), rule["alert"]


def test_alerts_say_what_to_do() -> None:
    parts = {(*rule["annotations"], rule["labels"]["severity"]) for rule in ALERTS}
    assert parts <= {("summary", "remedy", severity) for severity in ("critical", "warning", "info")}
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_panels_name_what_exists() -> None:
    assert wrong({f"{panel['id']} {target['refId']}": target["expr"] for panel, target in TARGETS}) == {}
    for panel, target in TARGETS:
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left_by(target["expr"]), target["expr"]


def test_dashboard_has_its_rows_and_no_panel_lies_over_another() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Health",
        "Traffic",
        "Latency",
        "Tokens and cost",
        "Upstreams",
        "Tools",
        "Access and limits",
        "Agents and internals",
    ]
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert (len(cells), max(x for x, _ in cells)) == (len(set(cells)), 23)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_variables_of_the_dashboard_ask_for_what_exists() -> None:
    asked = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    metrics = [re.fullmatch(r"label_values\((\w+), (\w+)\)", query) for query in asked]

    assert [match[2] in series()[match[1]] for match in metrics if match] == [True, True]
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]} | {"__rate_interval", "__range"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) <= variables


def test_everything_that_the_gateway_measures_is_on_the_dashboard() -> None:
    shown = {name for _, target in TARGETS for name, _ in named(target["expr"]).series}
    missing = {
        name
        for name in registered()
        if name.startswith(("gateway_", "gen_ai_")) and not any(one.startswith(name) for one in shown)
    }
    assert missing == {"gateway_tool_call_min_seconds"}  # the slowest are what one looks for


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool to test with (Debian: apt install prometheus)")
def test_prometheus_itself_takes_rules_configuration_and_every_expression(tmp_path: Path) -> None:
    examples = [row[5] for row in TABLE_ROW.findall((ROOT / "docs" / "metrics.md").read_text())]
    shown = [re.sub(r"\$__\w+", "5m", target["expr"]) for _, target in TARGETS]
    recorded = [{"record": f"of:{number}", "expr": text} for number, text in enumerate([*examples, *shown])]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    folder = DEPLOY / "prometheus"
    checks = [
        ["rules", str(tmp_path / "rules.yml")],
        ["rules", str(folder / "alerts.yml")],
        ["config", "--syntax-only", str(folder / "prometheus.yml")],
    ]

    done = [
        subprocess.run(["promtool", "check", *check], capture_output=True, text=True, check=False) for check in checks
    ]

    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * len(checks)


def test_scrape_configuration_leads_to_the_metrics() -> None:
    folder = DEPLOY / "prometheus"
    configuration = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]

    assert job["metrics_path"] == reverse("gateway:prometheus")
    assert [(folder / name).is_file() for name in configuration["rule_files"]] == [True]
    jobs = {rule["expr"] for rule in ALERTS if "job=" in rule["expr"]}
    assert jobs == {f'up{{job="{job["job_name"]}"}} == 0'}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_name_is_that_of_opentelemetry_as_prometheus_writes_it(name: str) -> None:
    theirs = CONVENTIONS[name]
    units = {"_seconds"} if name.endswith("_seconds") else {""}
    published = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }

    assert theirs in published
    assert name in {theirs.replace(".", "_") + unit for unit in units}


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)#]+)\)", (DEPLOY / "README.md").read_text()))
def test_link_leads_somewhere(link: str) -> None:
    assert Path(DEPLOY, link).exists()
