"""Unit prices of one model: integers in femto-USD (10^-15 USD) per token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import transaction
from django.db.models import Min

from saas_litellm.base import audit, clock
from saas_litellm.base.refusals import Invalid
from teams.models import Deployment, UnitPrice

# A token never costs a whole US dollar; a higher figure is a slip of the unit.
MAX_RATE = 10**15
MAX_KEY = 200
# An import's audit row names so many models; the versions themselves say the rest.
MAX_NAMED = 200


class BadPrice(ValueError):
    """Prices that cannot be right: negative, absurd, or without input and output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Femto-USD per token of each kind; None means "as the kind it belongs to"."""

    input: int
    output: int
    cached_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    reasoning: int | None = None
    audio_output: int | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            rate = getattr(self, name)
            if rate is None and name not in {"input", "output"}:
                continue
            if not isinstance(rate, int) or isinstance(rate, bool) or not 0 <= rate <= MAX_RATE:
                raise BadPrice(f"{name}: {rate!r} is not a price in femto-USD per token")

    @property
    def dearest_input(self) -> int:
        kinds = (self.cached_read, self.cache_write, self.cache_write_1h, self.audio_input)
        return max(self.input, *(rate or 0 for rate in kinds))

    @property
    def dearest_output(self) -> int:
        return max(self.output, self.reasoning or 0, self.audio_output or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContextTier:
    """Rates of the *whole* request once its prompt is longer than ``above_tokens``."""

    above_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrices:
    """A price sheet: base rates, long-context tiers, and a fee per request in femto-USD.

    ``per_unit``: femto-USD per image, second of audio, 1,000 characters of speech or search, for
    models that are paid so; None for those that are not.
    """

    base: Rates
    tiers: tuple[LongContextTier, ...] = field(default=())
    per_request: int = 0
    per_unit: int | None = None

    def __post_init__(self) -> None:
        if self.per_unit is not None and not 0 <= self.per_unit <= 1000 * MAX_RATE:
            raise BadPrice(f"per_unit: {self.per_unit!r} is not a price in femto-USD")

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates of a request with that many prompt tokens: its highest tier exceeded."""
        rates, reached = self.base, -1
        for tier in self.tiers:
            if prompt_tokens > tier.above_tokens > reached:
                rates, reached = tier.rates, tier.above_tokens
        return rates

    def as_json(self) -> dict[str, Any]:
        return dict(_as_json(self))

    @classmethod
    def from_json(cls, stored: Any) -> UnitPrices:
        """Raises BadPrice for anything that is not what ``as_json`` writes."""
        try:
            return cls(
                base=Rates(**stored["base"]),
                tiers=tuple(
                    LongContextTier(
                        above_tokens=int(tier["above_tokens"]), rates=Rates(**tier["rates"])
                    )
                    for tier in stored.get("tiers", ())
                ),
                per_request=int(stored.get("per_request", 0)),
                per_unit=stored.get("per_unit"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadPrice(f"not a price sheet: {error}") from error

    @property
    def fingerprint(self) -> str:
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@lru_cache(maxsize=4096)
def _as_json(sheet: UnitPrices) -> dict[str, Any]:
    """Kept: every call writes its sheet down, and sheets are few."""
    return {
        "base": _present(sheet.base),
        "tiers": [
            {"above_tokens": tier.above_tokens, "rates": _present(tier.rates)}
            for tier in sorted(sheet.tiers, key=lambda tier: tier.above_tokens)
        ],
        "per_request": sheet.per_request,
        **({} if sheet.per_unit is None else {"per_unit": sheet.per_unit}),
    }


def publish(
    *, price_key: str, prices: UnitPrices, source: str, effective_from: datetime | None = None
) -> UnitPrice | None:
    """Add a version, in effect from a moment (now when None); None when the one then in effect
    says the same."""
    now = clock.now()
    moment = effective_from or now
    standing = in_effect(price_key, at=moment)
    if standing is not None and standing.fingerprint == prices.fingerprint:
        return None
    row: UnitPrice = UnitPrice.objects.create(
        price_key=price_key,
        rates=prices.as_json(),
        source=source,
        fingerprint=prices.fingerprint,
        effective_from=moment,
        created_at=now,
    )
    return row


def set_by_hand(
    *, price_key: str, prices: UnitPrices, actor: str, effective_from: datetime | None = None
) -> UnitPrice | None:
    """Publish what an operator says, audited; None when it changes nothing.

    Raises Invalid for a model that cannot be one and for a moment that is over: what calls have
    cost by then is booked.
    """
    if not price_key or len(price_key) > MAX_KEY or price_key.split() != [price_key]:
        raise Invalid(f"{price_key!r} is not the name of a model.", param="price_key")
    if effective_from is not None and effective_from < clock.now():
        raise Invalid("A price begins now or later, never in the past.", param="effective_from")
    with transaction.atomic():
        before = in_effect(price_key, at=effective_from or clock.now())
        row = publish(
            price_key=price_key, prices=prices, source=actor, effective_from=effective_from
        )
        if row is not None:
            audit.record(
                actor=actor,
                action="prices.set",
                target=f"price:{price_key}",
                before=before.rates if before else None,
                after=row.rates,
                effective_from=row.effective_from.isoformat(),
            )
    return row


def import_sheets(
    sheets: Mapping[str, UnitPrices], *, source: str, actor: str
) -> tuple[list[str], list[str]]:
    """Publish those that differ from what is in effect: the keys added, and those changed.

    One transaction with its audit row; sheets that say the same change nothing and leave none.
    """
    with transaction.atomic():
        known = {key: row.fingerprint for key, row in current(list(sheets)).items()}
        added = sorted(set(sheets) - set(known))
        changed = sorted(
            key for key, sheet in sheets.items() if known.get(key, "") != sheet.fingerprint
        )
        changed = [key for key in changed if key in known]
        if added or changed:
            publish_all({key: sheets[key] for key in [*added, *changed]}, source=source)
            audit.record(
                actor=actor,
                action="prices.import",
                target="unit prices",
                source=source,
                added=len(added),
                changed=len(changed),
                models=[*added, *changed][:MAX_NAMED],
            )
    return added, changed


def in_effect(price_key: str, *, at: datetime) -> UnitPrice | None:
    """The version of one key that is in effect at a moment."""
    rows = UnitPrice.objects.filter(price_key=price_key, effective_from__lte=at)
    return rows.order_by("-effective_from", "-id").first()


def keys_in_use() -> set[str]:
    """Where the prices of every deployment stand, switched on or not."""
    rows = Deployment.objects.order_by().values_list("price_key", "model").distinct()
    return {price_key or model for price_key, model in rows}


def current(price_keys: list[str]) -> dict[str, UnitPrice]:
    """The version in effect now of each key that has one, in one query for up to 500 keys."""
    found: dict[str, UnitPrice] = {}
    # SQLite takes so many parameters and no more; calls ask for a handful.
    for start in range(0, len(price_keys), 500):
        rows = UnitPrice.objects.filter(
            price_key__in=price_keys[start : start + 500], effective_from__lte=clock.now()
        ).order_by("effective_from", "id")
        found |= {row.price_key: row for row in rows}
    return found


def next_change(price_keys: Sequence[str], *, after: datetime) -> datetime | None:
    """When the next planned version of one of these keys takes effect."""
    planned = UnitPrice.objects.filter(price_key__in=price_keys[:500], effective_from__gt=after)
    moment: datetime | None = planned.aggregate(first=Min("effective_from"))["first"]
    return moment


def _present(rates: Rates) -> dict[str, int]:
    return {name: rate for name, rate in asdict(rates).items() if rate is not None}


RATE_NAMES = tuple(rate.name for rate in fields(Rates))


def current_all() -> dict[str, UnitPrice]:
    """The version in effect now of every key there is."""
    rows = UnitPrice.objects.filter(effective_from__lte=clock.now()).order_by(
        "effective_from", "id"
    )
    return {row.price_key: row for row in rows}


def publish_all(sheets: Mapping[str, UnitPrices], *, source: str) -> None:
    """Add a version of each sheet, in effect from now, in one statement."""
    now = clock.now()
    UnitPrice.objects.bulk_create(
        UnitPrice(
            price_key=price_key,
            rates=sheet.as_json(),
            source=source,
            fingerprint=sheet.fingerprint,
            effective_from=now,
            created_at=now,
        )
        for price_key, sheet in sheets.items()
    )
