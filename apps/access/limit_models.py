"""Limits, as operators edit them."""

from decimal import Decimal

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from apps.access.limits.rules import QUOTAS, LimitRule, Per
from apps.access.models import Scoped
from apps.core.audit import audited
from apps.core.globs import AGENT_GLOB

_AT_LEAST_ONE = [MinValueValidator(1)]


@audited(without=["created_at"])
class Limit(Scoped):
    """How much a key, the keys of a team, or everyone may use. A number that is empty limits nothing.

    One without any number is of use: it frees whom it is for from the more general limit.
    """

    class Each(models.TextChoices):
        KEY = Per.KEY.value, "API key"
        USER = Per.USER.value, "person behind a key"
        AGENT = Per.AGENT.value, "agent"

    namespace = None  # type: ignore[assignment]  # Django's way to leave an inherited field out
    agents = models.CharField(
        max_length=200,
        default="*",
        validators=[RegexValidator(rf"^{AGENT_GLOB.pattern}$", "No glob over agent ids, such as default/*.")],
        help_text="Counts requests to the agents that fit this glob: * is any text, as in default/* or labs/planner.",
    )
    per = models.CharField(
        "counted for each",
        max_length=5,
        choices=Each,
        default=Each.KEY,
        help_text="Whose use is counted together. A request that names no person counts for no person.",
    )
    burst = models.PositiveIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="Requests within one second."
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="Within any 60 seconds."
    )
    requests_per_day = models.PositiveIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="The day of UTC."
    )
    concurrent_runs = models.PositiveIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="Answers under way at once."
    )
    tokens_per_minute = models.PositiveBigIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="Prompt and answer. Known when a run has ended."
    )
    tokens_per_day = models.PositiveBigIntegerField(
        null=True, blank=True, validators=_AT_LEAST_ONE, help_text="The day of UTC."
    )
    usd_per_month = models.DecimalField(
        "USD per month",
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01"))],
        help_text="The calendar month of UTC, by the prices under Prices.",
    )
    note = models.CharField(max_length=200, blank=True, help_text="Why.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-key", "-team", "per", "agents"]
        constraints = [
            models.CheckConstraint(
                condition=Q(key__isnull=True) | Q(team__isnull=True),
                name="limit_of_one_subject",
                violation_error_message="Choose a key or a team, or neither for everyone.",
            )
        ]

    def __str__(self) -> str:
        where = "" if self.agents == "*" else f" at {self.agents}"
        return f"{self.whom}, each {self.get_per_display()}{where}"

    def rule(self) -> LimitRule:
        level, subject = self.place
        numbers = (getattr(self, quota.name) for quota in QUOTAS)
        usable = tuple(None if number is None else _plain(number) for number in numbers)
        return LimitRule(self.pk, Per(self.per), usable, level, subject, self.agents)


def _plain(number: object) -> float:
    return number if isinstance(number, int) else float(number)  # type: ignore[arg-type]  # Decimal
