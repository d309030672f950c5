"""The version form's rows: a rule or a tier each, as many as there are, some of them empty.

A rule's row counts once it says how it charges. Text stays text here; ``VersionSpec`` says what is
allowed, and its objections come back to the field.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from django import forms

from saas_litellm.base.money import plain

MOST_RULES = 200
MOST_TIERS = 50


class Number(forms.CharField):
    """A decimal with a point; empty: not said. ``kinds``: which rules it matters to."""

    def __init__(self, label: str, *, places: int = 9, kinds: str = "", **more: Any) -> None:
        self.places, self.kinds = places, kinds
        widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        super().__init__(label=label, required=False, max_length=40, widget=widget, **more)

    def prepare_value(self, value: Any) -> Any:
        return f"{plain(value):f}" if isinstance(value, Decimal) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            number = Decimal(text)
            is_exact = number.is_finite() and number == round(number, self.places)
        except (InvalidOperation, ValueError) as error:
            raise forms.ValidationError("Give a number, like 1250.5.") from error
        if not number.is_finite():
            raise forms.ValidationError("Give a number, like 1250.5.")
        if not is_exact:
            raise forms.ValidationError(f"At most {self.places} decimal places.")
        return plain(number)


class Text(forms.CharField):
    def __init__(self, label: str, *, options: str, longest: int, placeholder: str) -> None:
        self.kinds = ""
        attrs = {"list": options, "placeholder": placeholder, "autocomplete": "off"}
        widget = forms.TextInput(attrs=attrs)
        super().__init__(label=label, required=False, max_length=longest, widget=widget)


class Choice(forms.ChoiceField):
    def __init__(
        self, label: str, choices: list[tuple[str, str]], *, kinds: str = "", **more: Any
    ) -> None:
        self.kinds = kinds
        super().__init__(label=label, choices=choices, required=False, **more)


class YesNo(forms.BooleanField):
    def __init__(self, label: str, *, kinds: str = "") -> None:
        self.kinds = kinds
        super().__init__(label=label, required=False)


class Row(forms.Form):
    """``given`` is what was said, by the names of the spec; what was left empty is not in it."""

    main: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    use_required_attribute = False

    @property
    def is_kept(self) -> bool:
        """Whether this row is a rule; asked of a valid one."""
        return bool(self.cleaned_data.get("kind")) and not self.cleaned_data.get("DELETE")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        is_rule = "kind" in self.fields and not given.get("kind") and "kind" not in self.errors
        typed = [n for n, field in self.fields.items() if isinstance(field, Number | Text)]
        if is_rule and any(given.get(name) is not None and given[name] != "" for name in typed):
            self.add_error("kind", "Say how they are charged, or remove this row.")
        return given

    @property
    def main_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.main]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.more]

    @property
    def is_more_open(self) -> bool:
        """Whether what is folded away says something, or is wrong."""
        return any(
            self[name].errors or self[name].value() not in {None, "", False, self[name].initial}
            if self.is_bound
            else bool(self.initial.get(name))
            for name in self.more
        )

    @property
    def given(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if name != "DELETE" and value not in {None, ""}
        }


class TierRow(Row):
    up_to = Number("Up to", help_text="Empty: without end.")
    credits = Number("Credits each")
    flat_credits = Number("Once, credits")
    main = ("up_to", "credits", "flat_credits")


class _Tiers(forms.BaseFormSet):  # type: ignore[type-arg]
    def add_prefix(self, index: Any) -> str:
        # The template of a tier stands inside the template of a rule, which has __prefix__.
        return super().add_prefix("__tier__" if index == "__prefix__" else index)


TierRows = forms.formset_factory(
    TierRow, formset=_Tiers, extra=2, max_num=MOST_TIERS, absolute_max=MOST_TIERS
)

_ROUNDING = "Each price becomes a multiple of this. Empty: not rounded."
_FLOOR = "Of the job's price, what provider cost must leave you. Empty: not watched."
_FAILED = [
    ("", "as usual"),
    ("free", "nothing"),
    ("delivered", "what was delivered"),
]


class JobRow(Row):
    """One job price."""

    job_type = Text("Jobs of type", options="job-types", longest=100, placeholder="every other job")
    kind = Choice(
        "are charged",
        [
            ("", "— no price here —"),
            ("flat", "a fixed price per completed job"),
            ("minimum", "by their calls, but at least"),
            ("package", "per started package of tokens"),
        ],
    )
    credits = Number("Credits")
    package_tokens = Number(
        "Tokens in a package", places=0, kinds="package", help_text="Empty: 1,000."
    )
    max_provider_cost_usd = Number(
        "Its calls may cost you at most, USD", kinds="flat", help_text="Empty: 1 USD."
    )
    failed_jobs = Choice(
        "A failed job pays",
        _FAILED,
        help_text="As usual: nothing; for packages what was delivered.",
    )
    rounding_credits = Number("Round to, credits", help_text=_ROUNDING)
    margin_floor_percent = Number("Margin to keep, %", places=2, help_text=_FLOOR)
    floor_refuses = YesNo("Refuse calls that would break that margin, not only flag them")
    main = ("job_type", "kind", "credits", "package_tokens")
    more = (
        "max_provider_cost_usd",
        "failed_jobs",
        "rounding_credits",
        "margin_floor_percent",
        "floor_refuses",
    )

    @property
    def given(self) -> dict[str, Any]:
        given = super().given
        if "package_tokens" in given:
            given["package_tokens"] = int(given["package_tokens"])
        return given


class CallRow(Row):
    """One call price, with its tiers."""

    job_type = Text(
        "Calls of job type", options="job-types", longest=100, placeholder="every other job"
    )
    alias = Text("to model", options="aliases", longest=63, placeholder="every other model")
    kind = Choice(
        "are charged",
        [
            ("", "— no price here —"),
            ("markup", "their provider cost and a markup"),
            ("tokens", "by their tokens"),
            ("tiered", "by tiers of the month"),
        ],
    )
    markup_percent = Number("Markup, %", places=2, kinds="markup")
    input_credits_per_1k = Number("Credits per 1,000 tokens in", kinds="tokens")
    cached_credits_per_1k = Number("per 1,000 cached", kinds="tokens")
    output_credits_per_1k = Number("per 1,000 out", kinds="tokens")
    unit_credits = Number(
        "per image, second, 1,000 characters or search",
        kinds="tokens",
        help_text="Empty: such calls are refused.",
    )
    metric = Choice(
        "Tiers count",
        [("tokens", "tokens"), ("jobs", "jobs"), ("cost", "USD of provider cost")],
        kinds="tiered",
        initial="tokens",
        help_text="A tier's credits are per 1,000 tokens, per job or per USD.",
    )
    mode = Choice(
        "A tier prices",
        [("graduated", "its own part (graduated)"), ("volume", "the whole month (volume)")],
        kinds="tiered",
        initial="graduated",
    )
    included = Number("Free each month", kinds="tiered", help_text="In what the tiers count.")
    minimum_credits = Number("At least, credits a call")
    cache_hit_percent = Number("A cached answer costs, %", places=2, help_text="Empty: nothing.")
    failed_jobs = Choice("A failed job pays", _FAILED, help_text="As usual: calls that delivered.")
    rounding_credits = Number("Round to, credits", help_text=_ROUNDING)
    margin_floor_percent = Number("Margin to keep, %", places=2, help_text=_FLOOR)
    floor_refuses = YesNo("Refuse calls that would break that margin, not only flag them")
    clamp_output = YesNo("Ask for less output when credits run short, instead of refusing")
    main = (
        "job_type",
        "alias",
        "kind",
        "markup_percent",
        "input_credits_per_1k",
        "cached_credits_per_1k",
        "output_credits_per_1k",
        "unit_credits",
        "metric",
        "mode",
        "included",
    )
    more = (
        "minimum_credits",
        "cache_hit_percent",
        "failed_jobs",
        "rounding_credits",
        "margin_floor_percent",
        "floor_refuses",
        "clamp_output",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tiers = TierRows(
            self.data if self.is_bound else None,
            prefix=f"{self.prefix}-tiers",
            initial=self.initial.get("tiers"),
        )

    @property
    def kept_tiers(self) -> list[Any]:
        """The rows of tiers that say something; asked of valid ones."""
        return [row for row in self.tiers.forms if row.given]

    def is_valid(self) -> bool:
        """Tiers of a row that is none, or no longer, are not looked at."""
        return super().is_valid() and (not self.is_kept or bool(self.tiers.is_valid()))

    @property
    def given(self) -> dict[str, Any]:
        return {**super().given, "tiers": [row.given for row in self.kept_tiers]}


JobRows = forms.formset_factory(
    JobRow, extra=1, can_delete=True, max_num=MOST_RULES, absolute_max=MOST_RULES
)
CallRows = forms.formset_factory(
    CallRow, extra=1, can_delete=True, max_num=MOST_RULES, absolute_max=MOST_RULES
)
