"""The metrics of audits and of the scheduled work, as they stood a few seconds ago."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from apps.audits.standing import Standing, keeper
from apps.core import clock
from apps.observability.metrics import REGISTRY, FromMemory


class Collector(FromMemory):
    def collect(self) -> Iterator[Metric]:
        if keeper.known:
            yield from families(keeper.known)


def families(known: Standing) -> Iterator[Metric]:
    findings = GaugeMetricFamily(
        "gateway_audit_findings", "Findings of the audit that nobody has accepted.", labels=["rule", "severity"]
    )
    for (rule, severity), count in sorted(known.open.items()):
        findings.add_metric([rule, severity], count)
    yield findings
    yield GaugeMetricFamily("gateway_audit_findings_accepted", "Findings that are accepted.", value=known.accepted)
    if known.last and known.last.ended_at:
        ended = known.last.ended_at.timestamp()
        failed = known.last.outcome == known.last.Outcome.FAILED
        name = "gateway_audit_last_run_timestamp_seconds"
        yield GaugeMetricFamily(name, "When the last audit of all rules ended, in Unix seconds.", value=ended)
        yield GaugeMetricFamily("gateway_audit_last_run_failed", "1 when that audit failed.", value=int(failed))
    yield GaugeMetricFamily("gateway_celery_workers", "Celery workers that answer.", value=known.workers)
    if known.seen_at:
        silence = (clock.now() - known.seen_at).total_seconds()
        yield GaugeMetricFamily(
            "gateway_celery_worker_seen_seconds",
            "Seconds since a Celery worker was heard of; absent before the first.",
            value=max(0.0, silence),
        )


REGISTRY.register(Collector())
