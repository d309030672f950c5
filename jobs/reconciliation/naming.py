"""Which of our models a name in a provider's export means.

We store litellm's model strings (``openai/gpt-4o``); providers write bare names, dated ones for
calls that used the undated alias, and display names. A comparison has one key for what is the
same model: its bare name in lower case, without its date when the two sides date it differently.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

_DATE = re.compile(r"[-@](?:20\d{2}-\d{2}-\d{2}|20\d{6}|latest)$", re.ASCII)
_DISPLAY_DATE = re.compile(r"-(20\d{2})-(\d{2})-(\d{2})$", re.ASCII)
# Generation 3 has its number first in the id: claude-3-5-sonnet, but claude-sonnet-4-5.
_CLAUDE_3 = re.compile(r"^claude-(opus|sonnet|haiku)-(3(?:-[57])?)(?=-20|$)", re.ASCII)
_OPENAI_NAME = re.compile(r"^(?:gpt-|o\d|chatgpt-|ft:|text-|davinci|babbage|codex)", re.ASCII)
# Whose calls a source speaks of, as litellm's provider prefixes; None: whoever it names.
PROVIDERS: Mapping[str, frozenset[str] | None] = {
    "openai_usage_json": frozenset({"openai", "text-completion-openai"}),
    "openai_costs_json": frozenset({"openai", "text-completion-openai"}),
    "openai_usage_csv": frozenset({"openai", "text-completion-openai"}),
    "openai_costs_csv": frozenset({"openai", "text-completion-openai"}),
    "anthropic_costs_csv": frozenset({"anthropic"}),
    "generic_csv": None,
}


def claude_id(name: str) -> str:
    """The Claude Console's display name as the API's id: Claude Sonnet 4.5, claude-sonnet-4-5."""
    plain = re.sub(r"[ .]+", "-", name.strip().lower())
    plain = _CLAUDE_3.sub(r"claude-\2-\1", plain)
    return _DISPLAY_DATE.sub(r"-\1\2\3", plain) if plain.startswith("claude-") else plain


def line_item_model(line_item: str) -> str:
    """The model of OpenAI's line item: ``gpt-4o-2024-08-06, input`` is of gpt-4o-2024-08-06."""
    return line_item.partition(",")[0].strip() or line_item


def undated(name: str) -> str:
    """The name without its trailing date or ``-latest``."""
    return _DATE.sub("", name)


def provider(model: str) -> str:
    """The litellm provider of a model string; guessed by the name for one without a prefix."""
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix.lower()
    if model.lower().startswith("claude"):
        return "anthropic"
    return "openai" if _OPENAI_NAME.match(model.lower()) else ""


def bare(model: str, *, families: AbstractSet[str]) -> str:
    """Our model string as their names (undated) write it: whole, or without its prefix."""
    whole = model.lower()
    return whole if undated(whole) in families else whole.partition("/")[2] or whole


def keys(*, theirs: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """For each bare name of either side, the key it is compared under.

    A dated name goes by its undated one where a side has that and the two do not list the same
    names: a provider reports the alias's calls under the date it stood for.
    """
    sides: tuple[dict[str, set[str]], dict[str, set[str]]] = (defaultdict(set), defaultdict(set))
    for side, names in zip(sides, (theirs, ours), strict=True):
        for name in names:
            side[undated(name)].add(name)
    made: dict[str, str] = {}
    for family in {*sides[0], *sides[1]}:
        of_theirs, of_ours = sides[0].get(family, set()), sides[1].get(family, set())
        names = of_theirs | of_ours
        is_one = family in names or any(name.endswith("-latest") for name in names)
        is_merged = is_one and of_theirs != of_ours
        made |= {name: family if is_merged else name for name in names}
    return made


def in_scope(models: Iterable[str], *, source: str, families: AbstractSet[str]) -> dict[str, str]:
    """Those of our model strings that an export of this source should have, each with its bare name.

    ``families`` are the export's names, undated. A source that is any provider's speaks of those
    providers of whose models it names one.
    """
    listed = {model: bare(model, families=families) for model in models}
    providers = PROVIDERS[source]
    if providers is None:
        named = (model for model, name in listed.items() if undated(name) in families)
        providers = frozenset(provider(model) for model in named)
    return {model: name for model, name in listed.items() if provider(model) in providers}
