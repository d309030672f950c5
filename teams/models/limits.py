"""Limits of a minute, and of calls in flight, as columns of whoever they bind."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models


def _limit(help_text: str) -> models.PositiveIntegerField[int | None, int | None]:
    return models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text=help_text
    )


class RateLimited(models.Model):
    """Requests and tokens in any sixty seconds; empty: unlimited."""

    requests_per_minute = _limit("In any 60 seconds; empty: unlimited.")
    tokens_per_minute = _limit("Prompt and output, in any 60 seconds; empty: unlimited.")

    class Meta:
        abstract = True


class Limited(RateLimited):
    """The same, and how many calls may run at once."""

    calls_in_flight = _limit("Calls at the same time; empty: unlimited.")

    class Meta:
        abstract = True
