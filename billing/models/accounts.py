from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.bounds import ONE_OWNER, not_negative, positive, within
from teams.models import Organization, Team


class Account(models.Model):
    """The wallet of one team or of one organization; only `billing.ledger` changes it."""

    team = models.OneToOneField(Team, models.PROTECT, null=True, blank=True)
    organization = models.OneToOneField(Organization, models.PROTECT, null=True, blank=True)
    balance_nanocredits = models.BigIntegerField(default=0)
    held_nanocredits = models.BigIntegerField(default=0)
    credit_limit_nanocredits = models.BigIntegerField(
        default=0, help_text="How far below zero a postpaid account may go."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(condition=ONE_OWNER, name="account_has_one_owner"),
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
                condition=within(
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


class Hold(models.Model):
    """Credits set aside. ``expires_at`` is null for a hold that ends with the job that owns it.

    A hold may draw on a *pool*, the hold of its job: ``drawn`` of its amount came from there, and
    what a settlement leaves of that goes back there. A pool's amount is what is left in it.
    """

    class State(models.TextChoices):
        OPEN = "open"
        SETTLED = "settled"
        RELEASED = "released"

    account = models.ForeignKey(Account, models.PROTECT, related_name="holds")
    amount_nanocredits = models.BigIntegerField()
    pool = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="+")
    drawn_nanocredits = models.BigIntegerField(default=0)
    budget_period_ids = models.JSONField(
        default=list, blank=True, help_text="The budget periods it counts in, whatever the clock."
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    reference = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.CheckConstraint(
                condition=not_negative("amount_nanocredits"), name="hold_amount_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(drawn_nanocredits__gte=0)
                & Q(drawn_nanocredits__lte=F("amount_nanocredits")),
                name="hold_drawn_within_amount",
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


class Pace(models.Model):
    """How fast an account has spent of late: whole days, so it is worked out once a day."""

    account = models.OneToOneField(Account, models.PROTECT, primary_key=True, related_name="pace")
    as_of = models.DateField(help_text="The days before this one.")
    mean_nanocredits = models.BigIntegerField(help_text="A day.")
    fastest_nanocredits = models.BigIntegerField()
    slowest_nanocredits = models.BigIntegerField()
    basis_days = models.PositiveSmallIntegerField()

    class Meta:
        indexes = [models.Index(fields=["as_of"], name="pace_age")]

    def __str__(self) -> str:
        return f"pace of {self.account_id}"


class RecurringGrant(models.Model):
    """Credits granted again and again: an auto-refill up to a cap, or a subscription's share."""

    class Period(models.TextChoices):
        DAILY = "daily"
        WEEKLY = "weekly"
        MONTHLY = "monthly"

    class Kind(models.TextChoices):
        PROMOTIONAL = "promotional"
        SUBSCRIPTION = "subscription"

    account = models.ForeignKey(Account, models.PROTECT, related_name="recurring_grants")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    period = models.CharField(max_length=8, choices=Period.choices)
    amount_nanocredits = models.BigIntegerField()
    paid_nano_usd = models.BigIntegerField(default=0)
    cap_nanocredits = models.BigIntegerField(
        null=True, blank=True, help_text="Fill the balance up to this at most."
    )
    lot_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Each grant expires after so many days; empty: never."
    )
    priority = models.PositiveSmallIntegerField(default=100)
    starts_at = models.DateTimeField(help_text="The first one; a month keeps to its day.")
    next_at = models.DateTimeField()
    occurrence = models.PositiveIntegerField(default=0)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(
                condition=positive("amount_nanocredits") & not_negative("paid_nano_usd"),
                name="recurring_grant_amounts_sensible",
            ),
            models.CheckConstraint(
                condition=Q(cap_nanocredits__isnull=True) | positive("cap_nanocredits"),
                name="recurring_grant_cap_positive",
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(is_active=True), name="recurring_due")
        ]

    def __str__(self) -> str:
        return f"{self.period} {self.kind} for {self.account}"


class BalanceThreshold(models.Model):
    """Say so when the balance falls below this: once for each crossing."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="thresholds")
    nanocredits = models.BigIntegerField()
    is_below = models.BooleanField(default=False)
    checked_entry_id = models.BigIntegerField(default=0)
    fired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("account", "-nanocredits")
        constraints = [
            models.UniqueConstraint(fields=["account", "nanocredits"], name="threshold_once"),
            models.CheckConstraint(condition=within("nanocredits"), name="threshold_within_bounds"),
        ]

    def __str__(self) -> str:
        return f"{self.account} below {self.nanocredits}"
