from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from billing.models.accounts import Account
from billing.models.bounds import not_negative, positive, within
from billing.models.plans import PlanVersion
from saas_litellm.base.models import AppendOnly


class Entry(AppendOnly):
    """One immutable ledger line. ``account`` and ``idempotency_key`` are unique together."""

    class Kind(models.TextChoices):
        GRANT = "grant"
        CHARGE = "charge"
        REFUND = "refund"
        ADJUSTMENT = "adjustment"
        EXPIRY = "expiry"
        CARRIED = "carried", "carried forward"

    # Without an index of its own: entry_statement begins with it.
    account = models.ForeignKey(Account, models.PROTECT, related_name="entries", db_index=False)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount_nanocredits = models.BigIntegerField(help_text="Signed: charges are negative.")
    balance_after_nanocredits = models.BigIntegerField()
    reference = models.CharField(max_length=100)
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=200)
    corrects = models.ForeignKey("self", models.PROTECT, null=True, blank=True)
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, null=True, blank=True)
    price_nano_usd = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="A charge's value at its plan version's rate; what a refund takes back is negative.",
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
                condition=within("amount_nanocredits", "balance_after_nanocredits"),
                name="entry_amounts_within_bounds",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["charge", "expiry"], amount_nanocredits__lt=0)
                | Q(kind__in=["grant", "refund"], amount_nanocredits__gt=0)
                | Q(kind__in=["adjustment", "carried"]),
                name="entry_sign_fits_kind",
            ),
        ]
        indexes = [
            # Its last columns let a period of a busy account be found and summed within the index.
            models.Index(
                fields=["account", "-id", "created_at", "amount_nanocredits"],
                name="entry_statement",
            ),
            # Where a month begins, without a walk from the ledger's end.
            models.Index(fields=["account", "created_at"], name="entry_moment"),
            models.Index(fields=["reference"], name="entry_reference"),
            # For operators, who look across accounts; nearly all lines are charges.
            models.Index(fields=["-created_at", "-id"], name="entry_newest"),
            models.Index(fields=["kind", "-id"], condition=~Q(kind="charge"), name="entry_of_kind"),
        ]

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
                condition=not_negative("paid_nano_usd"), name="grant_paid_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.entry_id}"


class Lot(models.Model):
    """What is left of a grant, as far as the account's fold has come."""

    grant = models.OneToOneField(Grant, models.PROTECT, primary_key=True, related_name="lot")
    account = models.ForeignKey(Account, models.PROTECT, related_name="lots")
    amount_nanocredits = models.BigIntegerField()
    remaining_nanocredits = models.BigIntegerField()
    paid_nano_usd = models.BigIntegerField(default=0)
    priority = models.PositiveSmallIntegerField()
    expires_at = models.DateTimeField(null=True, blank=True)
    # A refund gives nothing back to a lot that has expired: it makes a new one.
    is_expired = models.BooleanField(default=False)

    class Meta:
        ordering = ("account", "priority", F("expires_at").asc(nulls_last=True), "grant__entry_id")
        constraints = [
            models.CheckConstraint(
                condition=positive("amount_nanocredits")
                & Q(remaining_nanocredits__gte=0)
                & Q(remaining_nanocredits__lte=F("amount_nanocredits")),
                name="lot_remaining_within_amount",
            )
        ]
        indexes = [
            models.Index(
                fields=["account"], condition=Q(remaining_nanocredits__gt=0), name="lot_live"
            ),
            models.Index(
                fields=["expires_at"], condition=Q(remaining_nanocredits__gt=0), name="lot_expiring"
            ),
        ]

    def __str__(self) -> str:
        return f"lot {self.grant_id}"


class Draw(AppendOnly):
    """What one entry took from a lot (positive) or gave back to it (negative)."""

    class Kind(models.TextChoices):
        CHARGE = "charge"
        REFUND = "refund"
        EXPIRY = "expiry"
        REPAYMENT = "repayment", "repayment of debt"
        ADJUSTMENT = "adjustment"
        TRANSFER = "transfer", "moved to a refund lot"
        PAID_BACK = "paid_back", "its purchase was paid back"

    lot = models.ForeignKey(Lot, models.PROTECT, related_name="draws")
    entry = models.ForeignKey(Entry, models.PROTECT, related_name="draws")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    amount_nanocredits = models.BigIntegerField()
    # What was paid for these credits: lots paid for are earned share by share, to the nano-USD.
    paid_nano_usd = models.BigIntegerField()
    at = models.DateTimeField(help_text="When the entry was written.")

    class Meta(AppendOnly.Meta):
        ordering = ("id",)
        constraints = [
            models.CheckConstraint(condition=~Q(amount_nanocredits=0), name="draw_not_zero"),
        ]
        indexes = [
            models.Index(fields=["-at", "-id"], name="draw_newest"),
            models.Index(
                fields=["kind", "-at", "-id"], condition=~Q(kind="charge"), name="draw_of_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.amount_nanocredits} from {self.lot_id}"


class Fold(models.Model):
    """How far an account's entries are attributed to lots, and what no lot could cover."""

    account = models.OneToOneField(Account, models.PROTECT, primary_key=True, related_name="fold")
    entry_id = models.BigIntegerField(default=0, help_text="The last entry attributed.")
    debt_nanocredits = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=not_negative("debt_nanocredits"), name="fold_debt_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"fold of {self.account_id} at {self.entry_id}"


class Loss(AppendOnly):
    """Credits that should have been taken and were not there: the founder's loss, booked openly.

    A negative line is a loss that came back: a dispute that was won after all.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="losses")
    entry = models.ForeignKey(Entry, models.PROTECT, null=True, blank=True, related_name="+")
    amount_nanocredits = models.BigIntegerField()
    reference = models.CharField(max_length=100)
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta(AppendOnly.Meta):
        ordering = ("-id",)
        verbose_name_plural = "losses"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "idempotency_key"], name="loss_idempotency_key_unique"
            ),
            models.CheckConstraint(
                condition=within("amount_nanocredits") & ~Q(amount_nanocredits=0),
                name="loss_amount_not_zero",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanocredits} not taken: {self.reason}"


class RevenueDay(models.Model):
    """Sums over the lines and draws of one day that is over; ``billing.revenue`` says what they mean.

    No line is written into such a day any more, and folding has gone past it, so it never changes.
    """

    day = models.DateField(primary_key=True)
    sold_nano_usd = models.BigIntegerField(default=0)
    earned_nano_usd = models.BigIntegerField(default=0)
    breakage_nano_usd = models.BigIntegerField(default=0)
    refunded_nano_usd = models.BigIntegerField(default=0)
    sold_nanocredits = models.BigIntegerField(default=0)
    promotional_nanocredits = models.BigIntegerField(default=0)
    consumed_nanocredits = models.BigIntegerField(default=0)
    expired_nanocredits = models.BigIntegerField(default=0)
    refunded_nanocredits = models.BigIntegerField(default=0)
    charged_at_plan_rates_nano_usd = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.day}"
