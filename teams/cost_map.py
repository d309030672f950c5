"""litellm's bundled cost map, read as a file: a seed for our own unit prices.

Importing litellm takes seconds; its map is plain JSON beside the package, so it is read
as that, never from the network. Figures there are USD per token as JSON numbers: parsed as exact decimals, and a price
that femto-USD cannot hold is refused rather than rounded.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from saas_litellm.base.money import femto
from saas_litellm.base.refusals import Invalid
from teams.prices import MAX_KEY, BadPrice, LongContextTier, Rates, UnitPrices

SOURCE = "litellm bundled cost map"
_FILE = "model_prices_and_context_window_backup.json"
_FIELDS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "audio_input": "input_cost_per_audio_token",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_output": "output_cost_per_audio_token",
}
_TIER = re.compile(r"_above_(\d+)k_tokens\Z")


class CostMapMissing(Exception):
    """The installed litellm has no bundled cost map where it is expected."""


class BadCostMap(Invalid):
    default_message = (
        "That is not a price map: one JSON object in the format of litellm's"
        " model_prices_and_context_window.json, a model's name to its prices."
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the map: its prices, or why it has none that we can use."""

    model: str
    prices: UnitPrices | None
    problem: str = ""


def load(path: Path | None = None) -> dict[str, Mapping[str, Any]]:
    """The map's entries by model name; numbers are Decimal. Raises CostMapMissing."""
    spec = importlib.util.find_spec("litellm")
    if path is None and (spec is None or spec.origin is None):
        raise CostMapMissing("litellm is not installed")
    file = path or Path(str(spec.origin if spec else "")).parent / _FILE
    if not file.exists():
        raise CostMapMissing(f"no {_FILE} beside the installed litellm")
    return parse(file.read_text())


def parse(text: str) -> dict[str, Mapping[str, Any]]:
    """The entries of a map in litellm's format; numbers are Decimal. Raises BadCostMap."""
    try:
        entries = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise BadCostMap from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise BadCostMap
    entries.pop("sample_spec", None)
    return entries


@lru_cache(maxsize=1)
def bundled() -> tuple[Listed, ...]:
    """Every priced model of the installed litellm, read once. Raises CostMapMissing."""
    return tuple(priced_models(load()))


@lru_cache(maxsize=1)
def providers() -> tuple[str, ...]:
    """What litellm calls the providers whose prices it knows."""
    return tuple(sorted({entry.model.split("/", maxsplit=1)[0] for entry in _if_there()}))


def _if_there() -> tuple[Listed, ...]:
    """For what is a help and no more: nothing where the map is missing."""
    try:
        return bundled()
    except CostMapMissing:
        return ()


def suggestions(text: str, *, limit: int = 30) -> list[Listed]:
    """Priced models whose name has every word of the text in it, those that begin with it first."""
    words = text.lower().split()
    found = {
        entry.model: entry
        for entry in _if_there()
        if entry.prices and all(word in entry.model.lower() for word in words)
    }
    ordered = sorted(
        found, key=lambda model: (not model.lower().startswith(text.lower()), len(model), model)
    )
    return [found[model] for model in ordered[:limit]]


# Modes of the map whose prices are per token, and what an alias for them is called.
KINDS = {"chat": "chat", "completion": "chat", "responses": "chat", "embedding": "embedding"}
# Modes that are paid by the unit: the fields that may hold its price, and how many of what they
# price make a unit.
_UNITS = {
    "image_generation": (("output_cost_per_image", "input_cost_per_image"), 1),
    "audio_transcription": (("input_cost_per_second",), 1),
    "audio_speech": (("input_cost_per_character",), 1000),
    "rerank": (("input_cost_per_query",), 1),
}


def priced_models(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Listed]:
    """Every model of the map that is paid by the token, as litellm is called with it."""
    for name, entry in sorted(entries.items()):
        if entry.get("mode") not in {*KINDS, *_UNITS}:
            continue
        provider = _prefix(str(entry.get("litellm_provider", "")))
        model = name if name.startswith(f"{provider}/") else f"{provider}/{name}"
        try:
            if len(model) > MAX_KEY:
                raise BadPrice("its name is too long")
            yield Listed(model[:MAX_KEY], _prices(entry))
        except (ValueError, TypeError, ArithmeticError) as error:
            # BadPrice and InexactAmount among them; a file of somebody's own may hold anything.
            yield Listed(model[:MAX_KEY], None, str(error))


def _prefix(provider: str) -> str:
    """How a model string begins: the map tells some providers apart that a call does not."""
    if provider == "bedrock_converse":
        return "bedrock"
    return provider.split("-", maxsplit=1)[0] if provider.endswith("models") else provider


def _prices(entry: Mapping[str, Any]) -> UnitPrices:
    if entry["mode"] in _UNITS:
        return _by_unit(entry)
    base = _rates(entry)
    suffixes = sorted({match[0] for name in entry if (match := _TIER.search(name))})
    tiers = tuple(
        LongContextTier(
            above_tokens=int(suffix.split("_")[2].rstrip("k")) * 1000,
            rates=_rates({**_plain(entry), **_tier(entry, suffix)}),
        )
        for suffix in suffixes
    )
    per_request = femto(Decimal(entry.get("input_cost_per_request") or 0))
    return UnitPrices(base=base, tiers=tiers, per_request=per_request)


def _by_unit(entry: Mapping[str, Any]) -> UnitPrices:
    """Only where nothing but the unit is paid: tokens of pictures and sound have no known bound."""
    fields, count = _UNITS[entry["mode"]]
    found = [entry[name] for name in fields if entry.get(name)]
    if not found or any(entry.get(name) for name in _FIELDS.values()):
        raise BadPrice("no price by the unit alone")
    return UnitPrices(base=Rates(input=0, output=0), per_unit=femto(Decimal(found[0]) * count))


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("mode", *_FIELDS.values()) if name in entry}


def _tier(entry: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    named = {f"{name}{suffix}": name for name in _FIELDS.values()}
    return {plain: entry[name] for name, plain in named.items() if name in entry}


def _rates(entry: Mapping[str, Any]) -> Rates:
    # An embedding puts no tokens out.
    found = {"output": 0} if entry.get("mode") == "embedding" else {}
    found |= {
        ours: femto(Decimal(entry[theirs]))
        for ours, theirs in _FIELDS.items()
        if entry.get(theirs) is not None
    }
    if "input" not in found or "output" not in found:
        raise BadPrice("no price per input and output token")
    return Rates(**found)
