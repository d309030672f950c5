"""The money.

An *account* is the wallet of one team or one organization: what it owns (``balance``) and what of
that is set aside for work in flight (``held``). Credits come in as *entries* of kind grant, leave
as charges; every entry carries the balance after it and is never changed. A *hold* sets credits
aside until the work is settled or the hold released.

Only ``billing/ledger.py`` writes Account, Entry, Grant and Hold. Amounts are integers: nanocredits
(10^-9 credit) or nano-USD. A *plan version* says what work costs; once active it is immutable.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q

from saas_litellm.base.models import AppendOnly
from saas_litellm.base.money import MAX_AMOUNT
from teams.models import Organization, Team


def _within(*names: str) -> Q:
    bounds = Q()
    for name in names:
        bounds &= Q(**{f"{name}__gte": -MAX_AMOUNT, f"{name}__lte": MAX_AMOUNT})
    return bounds


class Account(models.Model):
    team = models.OneToOneField(Team, models.PROTECT, null=True, blank=True)
    organization = models.OneToOneField(Organization, models.PROTECT, null=True, blank=True)
    balance_nanocredits = models.BigIntegerField(default=0)
    held_nanocredits = models.BigIntegerField(default=0)
    credit_limit_nanocredits = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(
                condition=Q(team__isnull=False, organization__isnull=True)
                | Q(team__isnull=True, organization__isnull=False),
                name="account_has_one_owner",
            ),
            models.CheckConstraint(
                condition=Q(held_nanocredits__gte=0), name="account_held_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(credit_limit_nanocredits__gte=0),
                name="account_credit_limit_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(
                    held_nanocredits__lte=F("balance_nanocredits") + F("credit_limit_nanocredits")
                ),
                name="account_held_is_covered",
            ),
            models.CheckConstraint(
                condition=_within(
                    "balance_nanocredits", "held_nanocredits", "credit_limit_nanocredits"
                ),
                name="account_amounts_within_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"account of {self.team or self.organization}"

    @property
    def available_nanocredits(self) -> int:
        """What a new hold may take."""
        return self.balance_nanocredits + self.credit_limit_nanocredits - self.held_nanocredits


class PricePlan(models.Model):
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
    """What work costs from a date on; a draft until ``activated_at`` is set, then immutable."""

    plan = models.ForeignKey(PricePlan, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    nanocredits_per_usd = models.BigIntegerField(
        default=10 * 10**9, help_text="What one US dollar buys: 10 credits make a credit 0.10 USD."
    )
    effective_from = models.DateTimeField(null=True, blank=True)
    activated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("plan", "-number")
        constraints = [
            models.UniqueConstraint(fields=["plan", "number"], name="plan_version_number_unique"),
            models.CheckConstraint(
                condition=Q(nanocredits_per_usd__gt=0, nanocredits_per_usd__lte=MAX_AMOUNT),
                name="plan_version_credit_has_value",
            ),
            models.CheckConstraint(
                condition=Q(activated_at__isnull=True) | Q(effective_from__isnull=False),
                name="plan_version_active_has_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class Rule(models.Model):
    """A line of a plan version: free to change in a draft, fixed once the version is active."""

    class Meta:
        abstract = True

    version: models.ForeignKey[PlanVersion, PlanVersion]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_if_active()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._refuse_if_active()
        return super().delete(*args, **kwargs)

    def _refuse_if_active(self) -> None:
        if self.version.activated_at is not None:
            raise TypeError(f"{self.version} is active: draft a new version instead.")


class JobRule(Rule):
    """The price of a completed job of one type ('' = any): its calls then price nothing."""

    class Kind(models.TextChoices):
        FLAT = "flat"

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="job_rules")
    job_type = models.CharField(max_length=100, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.FLAT)
    price_nanocredits = models.BigIntegerField()
    max_provider_cost_nano_usd = models.BigIntegerField(
        default=1_000_000_000,
        help_text="What the calls of one such job may cost you at most; 10^9 is 1 USD.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "job_type"], name="job_rule_type_unique"),
            models.CheckConstraint(
                condition=Q(price_nanocredits__gte=0, price_nanocredits__lte=MAX_AMOUNT),
                name="job_rule_price_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(
                    max_provider_cost_nano_usd__gt=0, max_provider_cost_nano_usd__lte=MAX_AMOUNT
                ),
                name="job_rule_cost_is_bounded",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.job_type or 'any job'}"


class CallRule(Rule):
    """The price of a call; job type and alias match first, then type, then alias, then any."""

    class Kind(models.TextChoices):
        MARKUP = "markup"
        TOKENS = "tokens"

    version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="call_rules")
    job_type = models.CharField(max_length=100, blank=True)
    alias = models.CharField(max_length=63, blank=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    markup_basis_points = models.PositiveIntegerField(
        default=0, help_text="Added to provider cost: 5000 is 50 %."
    )
    input_nanocredits_per_1k = models.BigIntegerField(default=0)
    cached_nanocredits_per_1k = models.BigIntegerField(default=0)
    output_nanocredits_per_1k = models.BigIntegerField(default=0)
    step_nanocredits = models.BigIntegerField(
        default=1, help_text="The price is rounded, half to even, to a multiple of this."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["version", "job_type", "alias"], name="call_rule_match_unique"
            ),
            models.CheckConstraint(
                condition=Q(step_nanocredits__gte=1, step_nanocredits__lte=MAX_AMOUNT),
                name="call_rule_step_positive",
            ),
            models.CheckConstraint(
                condition=Q(
                    input_nanocredits_per_1k__gte=0,
                    cached_nanocredits_per_1k__gte=0,
                    output_nanocredits_per_1k__gte=0,
                ),
                name="call_rule_prices_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.job_type or 'any job'}, {self.alias or 'any alias'}"


class PlanAssignment(models.Model):
    """Which plan a team, or every team of an organization, is on from a date."""

    plan = models.ForeignKey(PricePlan, models.PROTECT, related_name="assignments")
    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True)
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True)
    effective_from = models.DateTimeField()

    class Meta:
        ordering = ("-effective_from",)
        constraints = [
            models.CheckConstraint(
                condition=Q(team__isnull=False, organization__isnull=True)
                | Q(team__isnull=True, organization__isnull=False),
                name="assignment_has_one_owner",
            ),
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


class Hold(models.Model):
    """Credits set aside. ``expires_at`` is null for a hold that ends with the job that owns it."""

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"
        RELEASED = "released"

    account = models.ForeignKey(Account, models.PROTECT, related_name="holds")
    amount_nanocredits = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    reference = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_nanocredits__gt=0, amount_nanocredits__lte=MAX_AMOUNT),
                name="hold_amount_positive",
            ),
            models.CheckConstraint(
                condition=Q(state="open", closed_at__isnull=True)
                | Q(state__in=["settled", "released"], closed_at__isnull=False),
                name="hold_closed_has_time",
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "expires_at"], condition=Q(state="open"), name="hold_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.reference} ({self.state})"


class Entry(AppendOnly):
    """One immutable ledger line. ``account`` and ``idempotency_key`` are unique together."""

    class Kind(models.TextChoices):
        GRANT = "grant"
        CHARGE = "charge"
        REFUND = "refund"
        ADJUSTMENT = "adjustment"
        EXPIRY = "expiry"

    account = models.ForeignKey(Account, models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount_nanocredits = models.BigIntegerField(help_text="Signed: charges are negative.")
    balance_after_nanocredits = models.BigIntegerField()
    reference = models.CharField(max_length=100, db_index=True)
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=200)
    corrects = models.ForeignKey("self", models.PROTECT, null=True, blank=True)
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, null=True, blank=True)
    price_nano_usd = models.BigIntegerField(
        null=True, blank=True, help_text="A charge's value at its plan version's rate."
    )
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()

    class Meta(AppendOnly.Meta):
        ordering = ("-id",)
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "idempotency_key"], name="entry_idempotency_key_unique"
            ),
            models.CheckConstraint(
                condition=~Q(amount_nanocredits=0), name="entry_amount_not_zero"
            ),
            models.CheckConstraint(
                condition=_within("amount_nanocredits", "balance_after_nanocredits"),
                name="entry_amounts_within_bounds",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["charge", "expiry"], amount_nanocredits__lt=0)
                | Q(kind__in=["grant", "refund"], amount_nanocredits__gt=0)
                | Q(kind="adjustment"),
                name="entry_sign_fits_kind",
            ),
        ]
        indexes = [models.Index(fields=["account", "-id"], name="entry_statement")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class Grant(AppendOnly):
    """The lot that a grant entry brought in: what was paid, and how it is to be consumed."""

    class Kind(models.TextChoices):
        PURCHASE = "purchase"
        PROMOTIONAL = "promotional"
        SUBSCRIPTION = "subscription"
        REFUND = "refund"
        ADJUSTMENT = "adjustment"

    entry = models.OneToOneField(Entry, models.PROTECT, related_name="grant")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    paid_nano_usd = models.BigIntegerField(default=0)
    priority = models.PositiveSmallIntegerField(default=100, help_text="Lower is consumed first.")
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta(AppendOnly.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(paid_nano_usd__gte=0, paid_nano_usd__lte=MAX_AMOUNT),
                name="grant_paid_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.entry_id}"
