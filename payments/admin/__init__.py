"""Payments in the admin: packages, payments, auto top-ups, Stripe's events."""

from payments.admin import packages, records

__all__ = ["packages", "records"]
