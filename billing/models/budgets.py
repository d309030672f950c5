from __future__ import annotations

from django.db import models
from django.db.models import Q

from billing.models.bounds import not_negative, positive
from teams.models import ApiKey, Organization, Team


class Budget(models.Model):
    """What a team, a key or a whole organization may spend in each period (UTC)."""

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week", "week, from Monday"
        MONTH = "month"
        TOTAL = "total"

    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True, related_name="budgets")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="budgets"
    )
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="budgets"
    )
    period = models.CharField(max_length=5, choices=Period.choices)
    limit_nanocredits = models.BigIntegerField()
    is_hard = models.BooleanField(
        default=True, help_text="Refuse what would exceed it; otherwise only raise an alarm."
    )
    is_active = models.BooleanField(default=True)
    is_by_team = models.BooleanField(
        default=False,
        editable=False,
        help_text="A soft one that the team made on its own page, where it may change it.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(
                condition=Q(team__isnull=False, api_key__isnull=True, organization__isnull=True)
                | Q(team__isnull=True, api_key__isnull=False, organization__isnull=True)
                | Q(team__isnull=True, api_key__isnull=True, organization__isnull=False),
                name="budget_has_one_owner",
            ),
            models.CheckConstraint(
                condition=positive("limit_nanocredits"), name="budget_limit_positive"
            ),
            models.CheckConstraint(
                condition=Q(is_by_team=False) | Q(is_hard=False, team__isnull=False),
                name="budget_by_team_is_soft",
            ),
        ]

    def __str__(self) -> str:
        return f"budget {self.pk}: {self.owner} a {self.period}"

    @property
    def owner(self) -> Team | ApiKey | Organization | None:
        return self.team or self.api_key or self.organization


class BudgetPeriod(models.Model):
    """One period of a budget: what was charged in it, and what work in flight has set aside."""

    budget = models.ForeignKey(Budget, models.PROTECT, related_name="periods")
    starts_on = models.DateField()
    used_nanocredits = models.BigIntegerField(default=0)
    held_nanocredits = models.BigIntegerField(default=0)
    alerted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("budget", "-starts_on")
        constraints = [
            models.UniqueConstraint(fields=["budget", "starts_on"], name="budget_period_once"),
            models.CheckConstraint(
                condition=not_negative("held_nanocredits"), name="budget_period_amounts_within"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget} from {self.starts_on}"
