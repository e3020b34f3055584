"""Answers by route and status: of the road that never leaves the event loop here, of Django's own handler by
django-prometheus."""

from functools import partial
from typing import Final

from django.http import HttpRequest, HttpResponseBase
from django_prometheus.middleware import PrometheusAfterMiddleware
from prometheus_client import Counter

from apps.observability.labels import Series, adder
from apps.observability.metrics import REGISTRY

_ANSWERS = Counter(
    "gateway_http_responses",
    "Answers of /v1 and of the health checks, by route and status. A stream's status says that it began.",
    ["route", "status"],
    registry=REGISTRY,
)
_NOWHERE: Final = "(none)"  # no route, or refused before one was looked for
_answers: Final = Series(partial(adder, _ANSWERS), open=[])


def counted(request: HttpRequest, response: HttpResponseBase) -> None:
    """An answer of the event loop's road. Routes and statuses are the gateway's own, so they are bounded."""
    found = request.resolver_match
    _answers.of(found.route if found else _NOWHERE, str(response.status_code))(1)


class DjangoMetrics(PrometheusAfterMiddleware):  # type: ignore[misc]  # it has no types
    """django-prometheus, which in one place takes a request's method as it comes: a label that clients make up."""

    def label_metric(self, metric: Counter, request: HttpRequest, response: object = None, **labels: str) -> Counter:
        if "method" in labels:
            labels["method"] = self._method(request)
        labelled: Counter = super().label_metric(metric, request, response, **labels)
        return labelled
