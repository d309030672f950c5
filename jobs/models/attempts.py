from __future__ import annotations

from django.db import models
from django.db.models import Q

from jobs.models.work import Call
from saas_litellm.base.models import AppendOnly
from saas_litellm.base.money import MAX_AMOUNT
from teams.models import Deployment


class Attempt(models.Model):
    """One request to one deployment; a call that fell back has several."""

    call = models.ForeignKey(Call, models.PROTECT, related_name="attempts")
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="+")
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    provider_request_id = models.CharField(max_length=200, blank=True)
    failure = models.CharField(max_length=30, blank=True)
    failure_status = models.PositiveSmallIntegerField(null=True, blank=True)
    failure_detail = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(fields=["call", "number"], name="attempt_number_unique")
        ]

    def __str__(self) -> str:
        return f"{self.call_id} #{self.number}"


class CostLine(AppendOnly):
    """What an attempt cost at its provider, in nano-USD; corrections are lines of their own."""

    class Kind(models.TextChoices):
        ATTEMPT = "attempt"
        ESTIMATE = "estimate"
        REVERSAL = "reversal"
        CORRECTION = "correction"

    call = models.ForeignKey(Call, models.PROTECT, null=True, blank=True, related_name="cost_lines")
    attempt = models.ForeignKey(
        Attempt, models.PROTECT, null=True, blank=True, related_name="cost_lines"
    )
    # A correction that no one call explains belongs to a model and a day.
    model = models.CharField(max_length=200, blank=True)
    day = models.DateField(null=True, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount_nano_usd = models.BigIntegerField()
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()

    class Meta(AppendOnly.Meta):
        ordering = ("id",)
        constraints = [
            models.UniqueConstraint(
                fields=["attempt", "kind"],
                condition=~Q(kind="correction"),
                name="cost_line_kind_once",
            ),
            models.CheckConstraint(
                condition=Q(amount_nano_usd__gte=-MAX_AMOUNT, amount_nano_usd__lte=MAX_AMOUNT),
                name="cost_line_amount_within_bounds",
            ),
            models.CheckConstraint(
                condition=Q(call__isnull=False) | Q(kind="correction", day__isnull=False),
                name="cost_line_has_call_or_day",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_nano_usd}"
