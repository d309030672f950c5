"""Closed months whose charges were moved out of the ledger; ``billing.ledger.archive`` says how."""

from __future__ import annotations

from django.db import models

from billing.models.accounts import Account
from billing.models.plans import PlanVersion
from saas_litellm.base.models import AppendOnly


class ArchivedMonth(models.Model):
    """A month of the ledger that was archived, and what its charges added up to."""

    month = models.DateField(primary_key=True)
    lines = models.BigIntegerField(help_text="How many charges were moved.")
    amount_nanocredits = models.BigIntegerField(help_text="Their sum: charges are negative.")
    price_nano_usd = models.BigIntegerField()
    archived_at = models.DateTimeField()
    actor = models.CharField(max_length=200)

    class Meta:
        ordering = ("-month",)

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class ArchivedEntry(AppendOnly):
    """A charge of an archived month, as it stood in the ledger, with what it drew from lots."""

    id = models.BigIntegerField(primary_key=True, help_text="The number it had in the ledger.")
    archived = models.ForeignKey(
        ArchivedMonth, models.PROTECT, related_name="entries", db_column="month", db_index=False
    )
    # Without an index of its own: the unique key begins with it.
    account = models.ForeignKey(Account, models.PROTECT, related_name="+", db_index=False)
    amount_nanocredits = models.BigIntegerField(help_text="Signed: charges are negative.")
    balance_after_nanocredits = models.BigIntegerField()
    reference = models.CharField(max_length=100)
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200)
    idempotency_key = models.CharField(max_length=200)
    plan_version = models.ForeignKey(
        PlanVersion, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    price_nano_usd = models.BigIntegerField(null=True, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    draws = models.JSONField(
        default=list, help_text="Lot, nanocredits and nano-USD of each draw, in order."
    )

    class Meta(AppendOnly.Meta):
        ordering = ("id",)
        verbose_name_plural = "archived entries"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "idempotency_key"], name="archived_key_unique"
            )
        ]

    def __str__(self) -> str:
        return f"charge {self.reference}"
