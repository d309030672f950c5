from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q

from billing.models import Account, Entry
from billing.models.bounds import not_negative, positive
from payments import currencies
from payments.models.buying import Package
from saas_litellm.base import shown
from teams.models import Team


class Payment(models.Model):
    """One purchase of a package: begun here, paid at Stripe, and mirrored in the ledger."""

    class Kind(models.TextChoices):
        CHECKOUT = "checkout"
        LINK = "link", "payment link"
        AUTO = "auto", "auto top-up"

    class State(models.TextChoices):
        OPEN = "open"
        PAID = "paid"
        FAILED = "failed"
        ENDED = "ended", "ended unpaid"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="payments", db_index=False)
    team = models.ForeignKey(Team, models.PROTECT, related_name="payments")
    package = models.ForeignKey(Package, models.PROTECT, related_name="payments")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    # The offer, as it was when this began.
    amount_minor = models.BigIntegerField(help_text="In the currency's smallest unit.")
    currency = models.CharField(max_length=3)
    nanocredits = models.BigIntegerField()
    paid_nano_usd = models.BigIntegerField(help_text="What it counts as in the books.")
    priority = models.PositiveSmallIntegerField()
    lot_days = models.PositiveSmallIntegerField(null=True, blank=True)
    saves_card = models.BooleanField(
        default=False, help_text="Paying it saves the card for the auto top-up."
    )
    # Stripe's side, as last looked at.
    url = models.TextField(blank=True, help_text="Where it is paid.")
    session_id = models.CharField(max_length=255, blank=True, db_index=True)
    link_id = models.CharField(max_length=255, blank=True)
    intent_id = models.CharField(max_length=255, null=True, blank=True, unique=True)
    charge_id = models.CharField(max_length=255, blank=True)
    payment_method_id = models.CharField(max_length=100, blank=True)
    receipt_url = models.TextField(blank=True)
    card = models.CharField(max_length=60, blank=True)
    received_minor = models.BigIntegerField(default=0)
    returned_minor = models.BigIntegerField(default=0, help_text="Refunded or withdrawn again.")
    failure_code = models.CharField(max_length=100, blank=True)
    failure = models.CharField(max_length=300, blank=True)
    # The ledger's side.
    entry = models.OneToOneField(
        Entry, models.PROTECT, null=True, blank=True, related_name="payment"
    )
    taken_nanocredits = models.BigIntegerField(default=0, help_text="Taken back, and not returned.")
    lost_nanocredits = models.BigIntegerField(
        default=0, help_text="Should have been taken back and was spent."
    )
    version = models.PositiveIntegerField(default=0, editable=False)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.CheckConstraint(
                condition=positive("amount_minor", "nanocredits")
                & not_negative("paid_nano_usd", "received_minor"),
                name="payment_amounts_sensible",
            ),
            models.CheckConstraint(
                condition=Q(returned_minor__gte=0, returned_minor__lte=F("received_minor")),
                name="payment_returned_within_received",
            ),
            models.CheckConstraint(
                condition=Q(
                    taken_nanocredits__gte=0,
                    lost_nanocredits__gte=0,
                    nanocredits__gte=F("taken_nanocredits") + F("lost_nanocredits"),
                ),
                name="payment_taken_back_within_bought",
            ),
            models.CheckConstraint(
                condition=Q(state="paid", entry__isnull=False, paid_at__isnull=False)
                | (~Q(state="paid") & Q(entry__isnull=True, paid_at__isnull=True)),
                name="payment_paid_has_entry",
            ),
            # One charge in flight at a time, whatever number of workers there is.
            models.UniqueConstraint(
                fields=["account"],
                condition=Q(kind="auto", state="open"),
                name="payment_one_auto_in_flight",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at"], name="payment_of_account"),
            models.Index(fields=["-created_at", "-id"], name="payment_newest"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def price(self) -> str:
        return currencies.shown(self.amount_minor, self.currency)

    @property
    def credits(self) -> str:
        """As people read them."""
        return shown.exact(self.nanocredits)

    @property
    def reference(self) -> str:
        """What its ledger lines carry."""
        return f"payment:{self.pk}"

    @property
    def reversed_nanocredits(self) -> int:
        return self.taken_nanocredits + self.lost_nanocredits


class Reversal(models.Model):
    """Money of a payment that went back, or may: a refund or a dispute, as Stripe has it."""

    class Kind(models.TextChoices):
        REFUND = "refund"
        DISPUTE = "dispute"

    payment = models.ForeignKey(Payment, models.PROTECT, related_name="reversals")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    stripe_id = models.CharField(max_length=255, unique=True)
    amount_minor = models.BigIntegerField()
    status = models.CharField(max_length=40)
    reason = models.CharField(max_length=100, blank=True)
    has_told = models.CharField(
        max_length=40, blank=True, help_text="The status that an alarm was sounded for."
    )
    has_paused = models.BooleanField(default=False, help_text="It has paused the team, once.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("created_at", "pk")

    def __str__(self) -> str:
        return f"{self.kind} {self.stripe_id}"


class StripeEvent(models.Model):
    """A webhook's delivery. What it is about is asked of Stripe: of the event its ids are kept."""

    class State(models.TextChoices):
        RECEIVED = "received"
        APPLIED = "applied"
        IGNORED = "ignored"
        FAILED = "failed"

    event_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=100)
    object_id = models.CharField(max_length=255, blank=True)
    intent_id = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RECEIVED)
    error = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    payment = models.ForeignKey(
        Payment, models.PROTECT, null=True, blank=True, related_name="events"
    )
    created_at = models.DateTimeField(help_text="When it happened, by Stripe's clock.")
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=Q(state__in=["received", "failed"]),
                name="stripe_event_to_try",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
