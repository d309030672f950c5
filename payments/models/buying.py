from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from billing.models import Account
from billing.models.bounds import not_negative, positive
from payments import currencies
from saas_litellm.base import shown
from teams.models import Team

currency_validator = RegexValidator(r"^[a-z]{3}$", "Three lower-case letters, as in usd.")


class Package(models.Model):
    """Credits for sale. A payment keeps the figures it was begun with: changing these harms none."""

    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=300, blank=True)
    amount_minor = models.BigIntegerField(
        verbose_name="price",
        validators=[MinValueValidator(1)],
        help_text="In the currency's smallest unit: 4500 is 45.00 USD, or 4,500 JPY.",
    )
    currency = models.CharField(max_length=3, default="usd", validators=[currency_validator])
    nanocredits = models.BigIntegerField(verbose_name="credits", help_text="A decimal number.")
    worth_nano_usd = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="What a sale counts as in the books, which are in USD. Empty for a price in USD.",
    )
    priority = models.PositiveSmallIntegerField(
        default=100, help_text="Of its lots: the lower, the sooner they are drawn."
    )
    lot_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Its credits expire after so many days; empty: never.",
    )
    is_active = models.BooleanField(default=True, help_text="Whether it can be bought.")
    position = models.PositiveSmallIntegerField(default=0, help_text="The lowest comes first.")

    class Meta:
        ordering = ("position", "amount_minor", "pk")
        constraints = [
            models.CheckConstraint(
                condition=positive("amount_minor", "nanocredits"),
                name="package_amounts_positive",
            ),
            models.CheckConstraint(
                condition=(Q(currency="usd", worth_nano_usd__isnull=True))
                | (~Q(currency="usd") & positive("worth_nano_usd")),
                name="package_is_worth_usd",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuses a price in another currency without its worth in USD, and one with two of them."""
        if (self.currency == currencies.USD) != (self.worth_nano_usd is None):
            raise ValidationError(
                {
                    "worth_nano_usd": "Leave this empty: the price is in USD itself."
                    if self.currency == currencies.USD
                    else "Say what a sale counts as in USD: the price is in another currency."
                }
            )

    @property
    def paid_nano_usd(self) -> int:
        """What a sale counts as in the books."""
        if self.worth_nano_usd is not None:
            return self.worth_nano_usd
        return self.amount_minor * currencies.NANO_USD_PER_CENT

    @property
    def price(self) -> str:
        return currencies.shown(self.amount_minor, self.currency)

    @property
    def credits(self) -> str:
        """As people read them."""
        return shown.exact(self.nanocredits)

    def figures(self) -> dict[str, Any]:
        """What a payment keeps of it."""
        return {
            "package": self,
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "nanocredits": self.nanocredits,
            "paid_nano_usd": self.paid_nano_usd,
            "priority": self.priority,
            "lot_days": self.lot_days,
        }


class Customer(models.Model):
    """The owner of a wallet, as Stripe knows it."""

    account = models.OneToOneField(
        Account, models.PROTECT, primary_key=True, related_name="stripe_customer"
    )
    # Stripe makes one customer for it, however often it is asked.
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    stripe_id = models.CharField(max_length=100, null=True, blank=True, unique=True)

    def __str__(self) -> str:
        return self.stripe_id or f"customer {self.account_id}"


class AutoTopUp(models.Model):
    """Buys a package off-session when the balance of its wallet falls below a threshold."""

    account = models.OneToOneField(
        Account, models.PROTECT, primary_key=True, related_name="auto_top_up"
    )
    team = models.ForeignKey(
        Team, models.PROTECT, related_name="+", help_text="Whose managers are told about it."
    )
    package = models.ForeignKey(Package, models.PROTECT, null=True, blank=True, related_name="+")
    threshold_nanocredits = models.BigIntegerField(default=0)
    monthly_ceiling_minor = models.BigIntegerField(
        default=0, help_text="The most it spends in a month (UTC), in the smallest unit."
    )
    is_on = models.BooleanField(default=False)
    payment_method_id = models.CharField(max_length=100, blank=True)
    card = models.CharField(max_length=60, blank=True, help_text="Brand and last digits.")
    card_saved_at = models.DateTimeField(null=True, blank=True)
    # After a decline: how many in a row, and when the next try may be.
    failures = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    needs_person = models.BooleanField(
        default=False, help_text="The bank wants the owner of the card to confirm a payment."
    )
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=not_negative("threshold_nanocredits", "monthly_ceiling_minor"),
                name="auto_top_up_amounts_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(is_on=False) | (Q(package__isnull=False) & ~Q(payment_method_id="")),
                name="auto_top_up_on_can_pay",
            ),
        ]
        indexes = [models.Index(fields=["account"], condition=Q(is_on=True), name="auto_top_up_on")]

    def __str__(self) -> str:
        return f"auto top-up of {self.account}"

    @property
    def state(self) -> str:
        if self.needs_person:
            return "waiting for a payment to be confirmed"
        if self.is_on:
            return "on" if not self.failures else "on, after a decline"
        return "off" if self.payment_method_id else "off, no card saved"
