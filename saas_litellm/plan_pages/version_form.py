"""The form of a plan version: from a spec and back, with nothing lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import QueryDict
from pydantic import ValidationError

from billing.plan_specs import CallRuleSpec, JobRuleSpec, RuleSpec, VersionSpec
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages.rows import CallRow, CallRows, JobRows, Number, Row


class VersionFields(forms.Form):
    """What holds for all jobs; ``number`` and ``opened`` make saving twice the same as once."""

    use_required_attribute = False
    credits_per_usd = Number("Credits per USD", help_text="10 make a credit worth $0.10.")
    monthly_minimum_credits = Number(
        "Each team pays at least, credits a month", help_text="Empty: no minimum."
    )
    partial_share_percent = Number(
        "A partly done job pays, %", places=2, help_text="Outcome partial. Empty: 100."
    )
    none_share_percent = Number(
        "A job that achieved nothing pays, %", places=2, help_text="Outcome none. Empty: 100."
    )
    margin_floor_percent = Number(
        "Alarm when a team's margin is below, %", places=2, help_text="Of 30 days. Empty: never."
    )
    number = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=1)
    opened = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)


class VersionForm:
    """The fields and rows together. Bound to what was sent, or filled from a spec."""

    def __init__(
        self,
        sent: QueryDict | None = None,
        *,
        spec: VersionSpec | None = None,
        hidden: Mapping[str, Any] | None = None,
    ) -> None:
        spec = spec or VersionSpec()
        self.version = VersionFields(sent, initial=_version_initial(spec) | dict(hidden or {}))
        self.job_rules: Any = JobRows(
            sent, prefix="job", initial=[_initial(rule) for rule in spec.job_rules]
        )
        self.call_rules: Any = CallRows(
            sent, prefix="call", initial=[_call_initial(rule) for rule in spec.call_rules]
        )
        self.errors: list[str] = []
        # Whether a field is marked, or something is said in ``errors``.
        self.is_wrong = False

    @property
    def visible(self) -> list[forms.BoundField]:
        return self.version.visible_fields()

    @property
    def hidden(self) -> list[forms.BoundField]:
        return self.version.hidden_fields()

    def spec(self) -> VersionSpec | None:
        """What was sent, as a spec; None when a field is wrong, which then says so."""
        parts = (self.version, self.job_rules, self.call_rules)
        if not all(part.is_valid() for part in parts):
            self.is_wrong = True
            self.errors += [*self.job_rules.non_form_errors(), *self.call_rules.non_form_errors()]
            return None
        given = {
            name: value
            for name, value in self.version.cleaned_data.items()
            if name not in {"number", "opened"} and value is not None
        }
        given["job_rules"] = [row.given for row in self._kept("job_rules")]
        given["call_rules"] = [row.given for row in self._kept("call_rules")]
        try:
            return VersionSpec(**given)
        except ValidationError as error:
            for wrong in error.errors():
                self._object(wrong["loc"], _plainly(wrong))
            return None

    def refuse(self, refusal: Refusal) -> None:
        """Show what the domain refused beside the rule that it is about."""
        self._object((refusal.param or "").split("."), refusal.message)

    def _kept(self, name: str) -> list[Row]:
        return [row for row in getattr(self, name).forms if row.is_kept]

    def _object(self, place: Any, message: str) -> None:
        """``place`` leads into the spec: ("call_rules", 0, "tiers", 1, "credits")."""
        self.is_wrong = True
        name, *within = place
        if name in {"job_rules", "call_rules"} and within:
            row = self._kept(name)[int(within[0])]
            _mark(row, [str(part) for part in within[1:]], message)
        elif name in self.version.fields:
            self.version.add_error(name, message)
        else:
            self.errors.append(message)


def grown(sent: QueryDict) -> QueryDict:
    """What was sent, with room for one more rule of each sort and two more tiers in each rule."""
    more = sent.copy()
    rules = _count(more, "call")
    for number in range(rules + 1):
        more[f"call-{number}-tiers-TOTAL_FORMS"] = str(_count(more, f"call-{number}-tiers") + 2)
        more.setdefault(f"call-{number}-tiers-INITIAL_FORMS", "0")
    more["call-TOTAL_FORMS"] = str(rules + 1)
    more["job-TOTAL_FORMS"] = str(_count(more, "job") + 1)
    return more


def _count(sent: QueryDict, prefix: str) -> int:
    text = sent.get(f"{prefix}-TOTAL_FORMS") or ""
    return min(int(text), 200) if text.isdecimal() else 0


def _mark(row: Row, within: list[str], message: str) -> None:
    if within[:1] == ["tiers"] and isinstance(row, CallRow) and len(within) > 2:
        tier = row.kept_tiers[int(within[1])]
        tier.add_error(within[2] if within[2] in tier.fields else None, message)
    elif within and within[0] in row.fields:
        row.add_error(within[0], message)
    else:
        row.add_error(None, message)


def _version_initial(spec: VersionSpec) -> dict[str, Any]:
    said = _said(spec, VersionSpec)
    return {**said, "credits_per_usd": spec.credits_per_usd}


def _initial(rule: RuleSpec) -> dict[str, Any]:
    said = _said(rule, type(rule))
    if isinstance(rule, JobRuleSpec):
        said |= {"kind": rule.kind, "credits": rule.credits}
        # An own word for what is usual anyway would only be noise.
        usual = "delivered" if rule.kind == "package" else "free"
        said |= {"failed_jobs": "" if rule.failed_jobs == usual else rule.failed_jobs or ""}
    return said


def _call_initial(rule: CallRuleSpec) -> dict[str, Any]:
    said = _initial(rule)
    said["failed_jobs"] = "" if rule.failed_jobs == "delivered" else rule.failed_jobs or ""
    said["tiers"] = [{**_said(tier, type(tier)), "credits": tier.credits} for tier in rule.tiers]
    return said


def _said(spec: Any, kind: Any) -> dict[str, Any]:
    """The columns that differ from what an empty field means."""
    return {
        name: getattr(spec, name)
        for name, field in kind.model_fields.items()
        if name not in {"job_rules", "call_rules", "tiers"}
        and getattr(spec, name) != field.get_default()
    }


def _plainly(wrong: Any) -> str:
    """A sentence for what pydantic found."""
    bounds = wrong.get("ctx", {})
    match wrong["type"]:
        case "missing":
            return "Fill this in."
        case "greater_than":
            return f"It must be more than {bounds['gt']}."
        case "greater_than_equal":
            return f"It must be at least {bounds['ge']}."
        case "less_than_equal":
            return f"It must be at most {bounds['le']:,}."
        case _:
            return str(wrong["msg"])
