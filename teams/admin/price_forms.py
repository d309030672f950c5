"""Unit prices as people write them: USD per million tokens, or per unit, in a form."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from saas_litellm.base import clock
from saas_litellm.base.admin import PageForm
from saas_litellm.base.money import InexactAmount, femto, from_femto, plain
from teams.models import Alias
from teams.prices import RATE_NAMES, BadPrice, Rates, UnitPrices

UNITS = {
    Alias.Kind.IMAGE: "USD per image",
    Alias.Kind.TRANSCRIPTION: "USD per second of audio",
    Alias.Kind.SPEECH: "USD per 1,000 characters",
    Alias.Kind.RERANK: "USD per search",
}
_LABELS = {
    "input": ("Input", "What the provider charges for a million tokens of prompt."),
    "output": ("Output", "For a million tokens of answer."),
    "cached_read": ("Cached input", "Prompt read from the provider's cache. Empty: as input."),
    "cache_write": ("Cache write", "Prompt written to its cache. Empty: as input."),
    "cache_write_1h": ("Cache write, one hour", "Empty: as cache write."),
    "audio_input": ("Audio input", "Empty: as input."),
    "reasoning": ("Reasoning", "Empty: as output."),
    "audio_output": ("Audio output", "Empty: as output."),
}


class UsdField(forms.CharField):
    """USD as an exact decimal in the form, femto-USD in the code; ``per``: of how many tokens."""

    def __init__(self, *, per: int = 1, **kwargs: Any) -> None:
        attrs = {"inputmode": "decimal", "autocomplete": "off"}
        super().__init__(widget=UnfoldAdminTextInputWidget(attrs=attrs), **kwargs)
        self.per = per

    def prepare_value(self, value: Any) -> Any:
        return str(plain(from_femto(value) * self.per)) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            amount = Decimal(text)
            if not amount.is_finite() or amount < 0:
                raise forms.ValidationError("A price is 0 or more.")
            return femto(amount / self.per)
        except InvalidOperation as error:
            raise forms.ValidationError(f"{text} is not a number. Write 2.50.") from error
        except InexactAmount as error:
            places = 15 if self.per == 1 else 9
            raise forms.ValidationError(f"At most {places} decimal places.") from error


class PriceForm(PageForm):
    """The prices of one model. ``kind``: the kind of the aliases it serves, or None if unknown."""

    def __init__(
        self, *args: Any, kind: str | None, standing: UnitPrices | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.standing = standing
        self.is_by_unit = kind in Alias.BY_UNIT
        if kind is None or not self.is_by_unit:
            for name, (label, help_text) in _LABELS.items():
                is_needed = kind is not None and name in {"input", "output"}
                self.fields[name] = UsdField(
                    per=10**6, label=label, help_text=help_text, required=is_needed
                )
            self.fields["per_request"] = UsdField(
                label="USD per request",
                required=False,
                help_text="Only for providers that charge for each request besides its tokens.",
            )
        if kind is None or self.is_by_unit:
            self.fields["per_unit"] = UsdField(
                label=UNITS.get(Alias.Kind(kind), "") if kind else "USD per unit",
                required=kind is not None,
                help_text=""
                if kind
                else "For what is paid by the image, the second of audio, 1,000 characters or the"
                " search. Leave empty for a model that is paid by tokens.",
            )
        if standing is not None and standing.tiers:
            self.fields["keep_tiers"] = forms.BooleanField(
                required=False,
                initial=True,
                widget=UnfoldBooleanSwitchWidget,
                label="Keep the prices of long prompts as they are",
            )
        self.fields["effective_from"] = forms.DateTimeField(
            required=False,
            label="In effect from (UTC)",
            widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
            help_text="Empty: at once, for every call from then on. What was called before keeps"
            " its price.",
        )

    def clean_effective_from(self) -> Any:
        moment = self.cleaned_data["effective_from"]
        if moment is not None and moment < clock.now():
            raise forms.ValidationError("A price begins now (leave it empty) or later.")
        return moment

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        per_unit = cleaned.get("per_unit")
        rates: dict[str, Any] = {name: cleaned.get(name) for name in RATE_NAMES}
        if per_unit is None and None in {rates["input"], rates["output"]}:
            raise forms.ValidationError("Say what input and output cost; 0 where it is free.")
        try:
            cleaned["sheet"] = UnitPrices(
                base=Rates(
                    **{**rates, "input": rates["input"] or 0, "output": rates["output"] or 0}
                ),
                tiers=self.standing.tiers if self.standing and cleaned.get("keep_tiers") else (),
                per_request=cleaned.get("per_request") or 0,
                per_unit=per_unit,
            )
        except BadPrice as error:
            raise forms.ValidationError(
                "A price is below 1 USD a token (1,000,000 a million)."
            ) from error
        return cleaned


def initial(sheet: UnitPrices) -> dict[str, Any]:
    """A sheet as the form's fields."""
    rates = {name: getattr(sheet.base, name) for name in RATE_NAMES}
    return {**rates, "per_unit": sheet.per_unit, "per_request": sheet.per_request or None}
