from collections.abc import Iterator

from django.urls import reverse

from apps.access.explain import in_words
from apps.access.lint import Lint
from apps.access.models import Grant, ToolRule
from apps.audits.known import tools_by_agent
from apps.audits.rule import Found, Rule, Severity


def _check() -> Iterator[Found]:
    rows = [*Grant.objects.select_related("key", "team"), *ToolRule.objects.select_related("key", "team")]
    rules = [(row, row.rule()) for row in rows]
    lint, tools = Lint(rule for _, rule in rules), tools_by_agent()
    for row, rule in rules:
        link = reverse(f"admin:access_{row._meta.model_name}_change", args=[row.pk])  # noqa: SLF001  # documented
        if row.key is not None and row.key.state() != "active":
            message = f"Its key is {row.key.state()}."
            yield Found(f"{row} (key ended)", message, "Remove it; it can never speak again.", link)
        for remark in lint.remarks(rule, tools):
            yield Found(f"{in_words(rule)} ({remark.oddity})", remark.text, link=link)


RULE = Rule(
    "rules-of-access-idle",
    "Grants and tool rules that do nothing",
    Severity.LOW,
    "Correct its glob, or remove it: what does nothing today may let somebody in tomorrow.",
    _check,
)
