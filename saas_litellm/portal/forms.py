"""What the teams' forms share: a hidden key, so that a second click does nothing more."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from django import forms

from saas_litellm.base import idempotency
from saas_litellm.base.money import nano
from saas_litellm.portal.access import Visit

Made = TypeVar("Made")


class ActForm(forms.Form):
    """A form that makes something."""

    idempotency_key = forms.CharField(
        widget=forms.HiddenInput, max_length=120, initial=lambda: f"portal:{uuid.uuid4()}"
    )


class CreditsField(forms.DecimalField):
    """Credits in the form, nanocredits in the code."""

    def __init__(self, **kwargs: Any) -> None:
        least = Decimal("0.000000001")
        super().__init__(min_value=least, max_digits=18, decimal_places=9, **kwargs)

    def clean(self, value: Any) -> Any:
        credits_ = super().clean(value)
        return None if credits_ is None else nano(credits_)


def once(visit: Visit, form: ActForm, work: Callable[[], Made]) -> Made | None:
    """What the work made, or None when this very form was sent before."""
    made, _ = idempotency.once(_claim(visit, form), work, lambda _made: "")
    return made  # type: ignore[no-any-return]


def forget(visit: Visit, form: ActForm) -> None:
    """What the form made was undone, so the same form may be sent again."""
    idempotency.release(_claim(visit, form))


def _claim(visit: Visit, form: ActForm) -> idempotency.Claim:
    key = form.cleaned_data["idempotency_key"]
    return idempotency.claim_of(caller=visit.actor, act=visit.request.path, key=key)
