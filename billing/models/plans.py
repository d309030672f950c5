from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from billing.models.bounds import ONE_OWNER, not_negative, positive
from saas_litellm.base.money import MAX_AMOUNT
from teams.models import Organization, Team


class PricePlan(models.Model):
    """A name for a row of versions, each of which says what work costs from a date on."""

    slug = models.CharField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    is_default = models.BooleanField(default=False)

    class Meta:
        ordering = ("slug",)
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="plan_default_unique"
            )
        ]

    def __str__(self) -> str:
        return self.slug


class PlanVersion(models.Model):
    """What work costs from a date on; a draft until ``fixed_at`` is set, then immutable.

    Activating fixes a version and puts it in effect; shadowing fixes it without effect.
    """

    plan = models.ForeignKey(PricePlan, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    nanocredits_per_usd = models.BigIntegerField(
        default=10 * 10**9,
        verbose_name="credits per USD",
        help_text="10 make a credit worth 0.10 USD.",
    )
    partial_share_basis_points = models.PositiveIntegerField(
        default=10_000, help_text="What a job with outcome partial pays of its price."
    )
    none_share_basis_points = models.PositiveIntegerField(
        default=10_000, help_text="What a job with outcome none pays of its price."
    )
    monthly_minimum_nanocredits = models.BigIntegerField(
        default=0, help_text="What each team pays at least for a calendar month."
    )
    margin_floor_basis_points = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Raise an alarm when a team's margin of the last 30 days is below it.",
    )
    effective_from = models.DateTimeField(null=True, blank=True)
    activated_at = models.DateTimeField(null=True, blank=True)
    fixed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("plan", "-number")
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="plan_version_number_unique"),
            models.UniqueConstraint(
                fields=["plan", "effective_from"],
                condition=Q(activated_at__isnull=False),
                name="plan_version_date_unique",
            ),
            models.CheckConstraint(
                condition=positive("nanocredits_per_usd"), name="plan_version_credit_has_value"
            ),
            models.CheckConstraint(
                condition=not_negative("monthly_minimum_nanocredits"),
                name="plan_version_minimum_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(
                    partial_share_basis_points__lte=10_000, none_share_basis_points__lte=10_000
                ),
                name="plan_version_shares_within_whole",
            ),
            models.CheckConstraint(
                condition=Q(margin_floor_basis_points__isnull=True)
                | Q(margin_floor_basis_points__lte=10_000),
                name="plan_version_floor_within_whole",
            ),
            models.CheckConstraint(
                condition=Q(activated_at__isnull=True)
                | Q(effective_from__isnull=False, fixed_at__isnull=False),
                name="plan_version_active_is_fixed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class FailedJobs(models.TextChoices):
    """What a failed or cancelled job costs."""

    FREE = "free", "nothing"
    DELIVERED = "delivered", "what delivered output costs"


class Rule(models.Model):
    """A line of a plan version: free to change in a draft, fixed with the version."""

    version: models.ForeignKey[PlanVersion, PlanVersion]
    job_type = models.CharField(max_length=100, blank=True)
    step_nanocredits = models.BigIntegerField(
        default=1, help_text="The price is rounded, half to even, to a multiple of this."
    )
    margin_floor_basis_points = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="The share of a job's price that provider cost must leave.",
    )
    is_floor_hard = models.BooleanField(
        default=False, help_text="Refuse the call that would break the floor, not only flag it."
    )

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_if_fixed()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._refuse_if_fixed()
        return super().delete(*args, **kwargs)

    def _refuse_if_fixed(self) -> None:
        if self.version.fixed_at is not None:
            raise TypeError(f"{self.version} is fixed: draft a new version instead.")


def _rule_constraints(name: str) -> list[models.BaseConstraint]:
    return [
        models.CheckConstraint(
            condition=positive("step_nanocredits"), name=f"{name}_step_positive"
        ),
        models.CheckConstraint(
            condition=Q(margin_floor_basis_points__isnull=True)
            | Q(margin_floor_basis_points__lte=10_000),
            name=f"{name}_floor_within_whole",
        ),
    ]


class JobRule(Rule):
    """The price of a job of one type ('' = any).

    ``flat`` is paid once for a completed job and ``package`` for each started package of the
    job's tokens: their calls price nothing else. ``minimum`` is what a completed job pays at
    least; its calls are priced by the call rules.
    """

    class Kind(models.TextChoices):
        FLAT = "flat"
        MINIMUM = "minimum"
        PACKAGE = "package"

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="job_rules")
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.FLAT)
    price_nanocredits = models.BigIntegerField()
    package_tokens = models.PositiveIntegerField(default=1000)
    failed_jobs = models.CharField(
        max_length=10,
        choices=FailedJobs.choices,
        blank=True,
        help_text="Empty: nothing for flat prices and minimums, what was delivered for packages.",
    )
    max_provider_cost_nano_usd = models.BigIntegerField(
        default=1_000_000_000,
        help_text="What the calls of one flat job may cost you at most.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "job_type"], name="job_rule_type_unique"),
            models.CheckConstraint(
                condition=not_negative("price_nanocredits"), name="job_rule_price_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(package_tokens__gt=0), name="job_rule_package_positive"
            ),
            models.CheckConstraint(
                condition=positive("max_provider_cost_nano_usd"), name="job_rule_cost_is_bounded"
            ),
            *_rule_constraints("job_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.job_type or 'any job'}"

    @property
    def effective_failed_jobs(self) -> str:
        is_package = self.kind == self.Kind.PACKAGE
        return self.failed_jobs or (FailedJobs.DELIVERED if is_package else FailedJobs.FREE)


class CallRule(Rule):
    """The price of a call; job type and alias match first, then type, then alias, then any."""

    class Kind(models.TextChoices):
        MARKUP = "markup"
        TOKENS = "tokens"
        TIERED = "tiered"

    class Metric(models.TextChoices):
        JOBS = "jobs"
        TOKENS = "tokens", "thousand tokens"
        COST = "cost", "USD of provider cost"

    class Mode(models.TextChoices):
        GRADUATED = "graduated", "graduated: each tier at its own price"
        VOLUME = "volume", "volume: all at the price of the tier reached"

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="call_rules")
    alias = models.CharField(max_length=63, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    markup_basis_points = models.PositiveIntegerField(
        default=0, help_text="Added to provider cost."
    )
    input_nanocredits_per_1k = models.BigIntegerField(default=0)
    cached_nanocredits_per_1k = models.BigIntegerField(default=0)
    output_nanocredits_per_1k = models.BigIntegerField(default=0)
    unit_nanocredits = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="Per image, second of audio, 1,000 characters of speech or search. Empty: a"
        " rule by tokens refuses such calls.",
    )
    metric = models.CharField(max_length=6, choices=Metric.choices, default=Metric.TOKENS)
    mode = models.CharField(max_length=9, choices=Mode.choices, default=Mode.GRADUATED)
    tiers = models.JSONField(
        default=list,
        blank=True,
        help_text="Of the month: [{up_to, nanocredits, flat_nanocredits}], the last without up_to."
        " Quantities are jobs, tokens or nano-USD; nanocredits are per job, 1,000 tokens or USD.",
    )
    included_quantity = models.BigIntegerField(
        default=0, help_text="Free in each month, in jobs, tokens or nano-USD."
    )
    minimum_nanocredits = models.BigIntegerField(
        default=0, help_text="What a call that delivers output costs at least."
    )
    cache_hit_basis_points = models.PositiveIntegerField(
        default=0, help_text="The share of its price that a cached answer costs."
    )
    failed_jobs = models.CharField(
        max_length=10, choices=FailedJobs.choices, default=FailedJobs.DELIVERED
    )
    is_clamping = models.BooleanField(
        default=False,
        help_text="When credits cover less than the default output, ask for less, not refuse.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version", "job_type", "alias"], name="call_rule_match_unique"
            ),
            models.CheckConstraint(
                condition=not_negative(
                    "input_nanocredits_per_1k",
                    "cached_nanocredits_per_1k",
                    "output_nanocredits_per_1k",
                    "unit_nanocredits",
                    "minimum_nanocredits",
                    "included_quantity",
                ),
                name="call_rule_prices_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(cache_hit_basis_points__lte=10_000),
                name="call_rule_cache_hit_within_whole",
            ),
            models.CheckConstraint(
                condition=Q(markup_basis_points__lte=100_000_000),
                name="call_rule_markup_within_bounds",
            ),
            *_rule_constraints("call_rule"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.job_type or 'any job'}, {self.alias or 'any alias'}"

    @property
    def effective_failed_jobs(self) -> str:
        return self.failed_jobs


class PlanAssignment(models.Model):
    """Which plan a team, or every team of an organization, is on from a date."""

    plan = models.ForeignKey(PricePlan, models.PROTECT, related_name="assignments")
    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True)
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True)
    effective_from = models.DateTimeField()

    class Meta:
        ordering = ("-effective_from",)
        constraints = [
            models.CheckConstraint(condition=ONE_OWNER, name="assignment_has_one_owner"),
            models.UniqueConstraint(
                fields=["team", "effective_from"], name="assignment_team_date_unique"
            ),
            models.UniqueConstraint(
                fields=["organization", "effective_from"],
                name="assignment_organization_date_unique",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team or self.organization} on {self.plan}"


class UsageCounter(models.Model):
    """What one team consumed under one tiered rule in one month: jobs, tokens or nano-USD."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="+")
    rule = models.ForeignKey(CallRule, models.PROTECT, related_name="counters")
    month = models.DateField()
    quantity = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "rule", "month"], name="usage_counter_once"),
            models.CheckConstraint(
                condition=Q(quantity__gte=0, quantity__lte=MAX_AMOUNT),
                name="usage_counter_within_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team} {self.month:%Y-%m}: {self.quantity}"


class MonthlyMinimum(models.Model):
    """The month's minimum of one team, as it was charged: once, and reproducible."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="+")
    month = models.DateField()
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="+")
    days = models.PositiveSmallIntegerField(help_text="Days of the month on the plan.")
    minimum_nanocredits = models.BigIntegerField()
    spent_nanocredits = models.BigIntegerField()
    charged_nanocredits = models.BigIntegerField()
    overrun_nanocredits = models.BigIntegerField()
    price_nano_usd = models.BigIntegerField()

    class Meta:
        ordering = ("-month", "team")
        constraints = [
            models.UniqueConstraint(fields=["team", "month"], name="monthly_minimum_once")
        ]

    def __str__(self) -> str:
        return f"{self.team} {self.month:%Y-%m}"
