"""Pictures, transcripts, speech and rankings: what is paid by the unit and not by the token.

Each maker takes what is asked (``media``), allow-listed ``params``, and the units estimated
beforehand, which stand where the provider does not tell how many it counted.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jobs.gateway.library import asked
from jobs.gateway.types import FailureKind, Media, ProviderFailure, Target
from jobs.usage import Usage

# A minute, or sixty searches.
_SLIP = 60_000
_TRANSCRIPT_FIELDS = ("text", "language", "duration", "segments", "words")


async def picture(
    *, target: Target, media: Mapping[str, Any], params: Mapping[str, Any], milliunits: int
) -> Media:
    """Pictures as base64: an address would name the provider. Raises ProviderFailure."""
    # Models of this family know no other format, and refuse to be asked for it.
    form = {} if "gpt-image" in target.model else {"response_format": "b64_json"}
    response = await asked("aimage_generation", target, {**media, **params, **form})
    rows = [_plain(row) for row in getattr(response, "data", None) or ()]
    if not rows or not all(row.get("b64_json") for row in rows):
        raise ProviderFailure(FailureKind.GARBLED, detail="an answer without pictures")
    kept = ("b64_json", "revised_prompt")
    parts = [{name: row[name] for name in kept if row.get(name)} for row in rows]
    return Media(parts=parts, usage=Usage(milliunits=1000 * len(parts)))


async def transcript(
    *, target: Target, media: Mapping[str, Any], params: Mapping[str, Any], milliunits: int
) -> Media:
    """What was said, by the seconds that the provider counted. Raises ProviderFailure."""
    response = await asked("atranscription", target, {**media, **params})
    told = _plain(response)
    if not isinstance(told.get("text"), str):
        raise ProviderFailure(FailureKind.GARBLED, detail="an answer without a transcript")
    seconds = _plain(told.get("usage")).get("seconds") or told.get("duration")
    part = {name: told[name] for name in _TRANSCRIPT_FIELDS if told.get(name) is not None}
    return Media(parts=[part], usage=_counted(seconds, milliunits))


async def speech(
    *, target: Target, media: Mapping[str, Any], params: Mapping[str, Any], milliunits: int
) -> Media:
    """Sound, by the characters it was made of. Raises ProviderFailure."""
    response = await asked("aspeech", target, {**media, **params})
    sound = bytes(getattr(response, "content", b"") or b"")
    form = str(response.response.headers.get("content-type", ""))
    if not sound or form.startswith(("text/", "application/json")):
        raise ProviderFailure(FailureKind.GARBLED, detail="an answer without sound")
    part = {"audio": base64.b64encode(sound).decode()}
    return Media(parts=[part], usage=Usage(milliunits=milliunits))


async def ranking(
    *, target: Target, media: Mapping[str, Any], params: Mapping[str, Any], milliunits: int
) -> Media:
    """The documents' places and scores, by the searches billed. Raises ProviderFailure."""
    response = await asked("arerank", target, {**media, **params})
    told = _plain(response)
    try:
        parts = [
            {"index": int(row["index"]), "relevance_score": float(row["relevance_score"])}
            for row in told["results"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ProviderFailure(FailureKind.GARBLED, detail=repr(error)) from error
    if not parts or not all(0 <= part["index"] < len(media["documents"]) for part in parts):
        raise ProviderFailure(FailureKind.GARBLED, detail="a ranking of other documents")
    billed = _plain(_plain(told.get("meta")).get("billed_units")).get("search_units")
    usage = _counted(billed, milliunits)
    return Media(parts=parts, usage=usage, provider_request_id=str(told.get("id") or ""))


def _counted(units: Any, estimated: int) -> Usage:
    """The provider's count in thousandths, rounded up; the estimate where it is none.

    A figure far beyond the estimate, which is from above, is a slip: nobody is charged for it.
    """
    try:
        counted = -int(-float(units) * 1000 // 1) if units else 0
    except (TypeError, ValueError, OverflowError):
        counted = 0
    if not 0 < counted <= 4 * estimated + _SLIP:
        return Usage(milliunits=estimated, source="estimate")
    return Usage(milliunits=counted)


def _plain(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    return given.model_dump() if hasattr(given, "model_dump") else {}


Maker = Callable[..., Awaitable[Media]]
# By the kind of alias that asks.
MAKERS: Mapping[str, Maker] = {
    "image": picture,
    "transcription": transcript,
    "speech": speech,
    "rerank": ranking,
}
