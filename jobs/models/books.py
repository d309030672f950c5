from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from billing.models import PlanVersion
from jobs.models.attempts import CostLine
from jobs.models.work import Job
from teams.models import Alias, Deployment, Team


class RollupDay(models.Model):
    """A day whose profit rows are kept; a dirty one has changed since and is read from the work."""

    day = models.DateField(primary_key=True)
    is_dirty = models.BooleanField(default=True)
    rolled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-day",)

    def __str__(self) -> str:
        return f"{self.day}"


class DaySums(models.Model):
    """Sums over one day's finished calls and closed jobs; ``jobs.profit`` says what they mean.

    A row without an alias holds the jobs themselves, with the prices that are not any call's.
    """

    day = models.DateField()
    job_type = models.CharField(max_length=100, blank=True)
    alias = models.ForeignKey(Alias, models.PROTECT, null=True, blank=True, related_name="+")
    deployment = models.ForeignKey(
        Deployment, models.PROTECT, null=True, blank=True, related_name="+"
    )
    jobs = models.BigIntegerField(default=0)
    failed_jobs = models.BigIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    failed_calls = models.BigIntegerField(default=0)
    prompt_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    completion_tokens = models.BigIntegerField(default=0)
    provider_cost_nano_usd = models.BigIntegerField(default=0)
    charged_nanocredits = models.BigIntegerField(default=0)
    price_nano_usd = models.BigIntegerField(default=0)
    refunded_nanocredits = models.BigIntegerField(default=0)
    refunded_nano_usd = models.BigIntegerField(default=0)
    overrun_nanocredits = models.BigIntegerField(default=0)
    cache_hits = models.BigIntegerField(default=0)
    saved_nano_usd = models.BigIntegerField(default=0)
    estimated_calls = models.BigIntegerField(
        default=0, help_text="Calls whose usage, and so cost, is the tokenizer's estimate."
    )

    class Meta:
        abstract = True


class ProfitDay(DaySums):
    """Of one team; a row without a team holds cost corrections that no call explains."""

    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ("-day", "team")
        verbose_name_plural = "profit"
        indexes = [models.Index(fields=["day", "team"], name="profit_day_team")]

    def __str__(self) -> str:
        return f"{self.day} {self.team or 'no team'} {self.job_type}"


class PlatformDay(DaySums):
    """Of all teams together: what a report reads that asks for none, however many there are."""

    class Meta:
        indexes = [models.Index(fields=["day"], name="platform_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.job_type}"


class CostDay(models.Model):
    """One day's calls that cost something, by alias and job type: what ``jobs.drift`` compares.

    ``jobs``: how many different ones they were in.
    """

    day = models.DateField()
    alias = models.ForeignKey(Alias, models.PROTECT, related_name="+")
    job_type = models.CharField(max_length=100)
    jobs = models.BigIntegerField()
    provider_cost_nano_usd = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["day", "alias", "job_type"], name="cost_day_once")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.job_type}"


class Quote(models.Model):
    """A promise: the job made with it pays its plan's price, but never more than p95."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    team = models.ForeignKey(Team, models.PROTECT, related_name="+")
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    job_type = models.CharField(max_length=100)
    expected_nanocredits = models.BigIntegerField()
    p95_nanocredits = models.BigIntegerField()
    worst_nanocredits = models.BigIntegerField()
    worst_cost_nano_usd = models.BigIntegerField(
        help_text="What the calls of the quoted job may cost the founder at most."
    )
    basis_jobs = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    valid_until = models.DateTimeField()
    job = models.OneToOneField(Job, models.PROTECT, null=True, blank=True, related_name="quote")

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.CheckConstraint(
                condition=Q(expected_nanocredits__gte=0, p95_nanocredits__gte=0)
                & Q(worst_nanocredits__gte=models.F("p95_nanocredits")),
                name="quote_amounts_ordered",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class Shadow(models.Model):
    """A candidate plan version that prices closed jobs beside the real one, charging nothing."""

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="shadows")
    team = models.ForeignKey(
        Team,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: every team.",
    )
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-started_at",)
        verbose_name = "shadow plan"

    def __str__(self) -> str:
        return f"shadow {self.version} since {self.started_at:%Y-%m-%d}"


class ShadowDay(models.Model):
    """One team's day under a shadow plan: what its closed jobs paid, and would have paid."""

    shadow = models.ForeignKey(Shadow, models.PROTECT, related_name="days")
    team = models.ForeignKey(Team, models.PROTECT, related_name="+")
    day = models.DateField()
    jobs = models.PositiveIntegerField()
    provider_cost_nano_usd = models.BigIntegerField()
    real_nano_usd = models.BigIntegerField()
    shadow_nano_usd = models.BigIntegerField()

    class Meta:
        ordering = ("-day", "team")
        constraints = [
            models.UniqueConstraint(fields=["shadow", "team", "day"], name="shadow_day_once")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.team}"

    @property
    def difference_nano_usd(self) -> int:
        return self.shadow_nano_usd - self.real_nano_usd


class Reconciliation(models.Model):
    """One provider's usage export, compared with our calls by model and day."""

    source = models.CharField(max_length=40, help_text="Which export format it was.")
    filename = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the file.")
    first_day = models.DateField()
    last_day = models.DateField()
    threshold_basis_points = models.PositiveIntegerField(
        default=100, help_text="Variances beyond this share of the provider's figure stand out."
    )
    actor = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.source} {self.first_day} to {self.last_day}"


class ReconciliationLine(models.Model):
    """One model's day: theirs and ours. A figure that an export does not give is null."""

    reconciliation = models.ForeignKey(Reconciliation, models.PROTECT, related_name="lines")
    model = models.CharField(max_length=200)
    day = models.DateField()
    their_tokens = models.BigIntegerField(null=True, blank=True)
    our_tokens = models.BigIntegerField(default=0)
    their_nano_usd = models.BigIntegerField(null=True, blank=True)
    our_nano_usd = models.BigIntegerField(default=0)
    calls = models.PositiveIntegerField(default=0)
    doubtful_calls = models.PositiveIntegerField(
        default=0, help_text="Calls whose cost is an estimate or unknown."
    )
    is_beyond_threshold = models.BooleanField(default=False)
    correction = models.OneToOneField(
        CostLine, models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ("day", "model")
        constraints = [
            models.UniqueConstraint(
                fields=["reconciliation", "model", "day"], name="reconciliation_line_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.model}"

    @property
    def variance_nano_usd(self) -> int | None:
        """Theirs less ours: positive when the provider charged more than we booked."""
        return None if self.their_nano_usd is None else self.their_nano_usd - self.our_nano_usd
