"""What one provider request consumed, in tokens, counted apart where prices differ."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

UsageSource = Literal["provider", "estimate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one provider request; every part is within its whole.

    ``prompt_tokens`` includes cached reads, cache writes and audio input;
    ``completion_tokens`` includes reasoning and audio output. ``cache_write_tokens``
    includes the writes with the one-hour lifetime.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    # Thousandths of an image, a second of audio, 1,000 characters of speech, or a search.
    milliunits: int = 0
    source: UsageSource = "provider"

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Usage:
        return cls(**stored)

    @classmethod
    def checked(cls, **counts: Any) -> Usage:
        """Build a Usage from a provider's own figures, which are not to be trusted.

        Negative and missing counts become 0; parts that exceed their whole are cut to it
        (cached reads first, then cache writes, then audio), so no token is priced twice.
        """
        source = counts.pop("source", "provider")
        n = {name: max(0, int(value or 0)) for name, value in counts.items()}
        prompt, completion = n.get("prompt_tokens", 0), n.get("completion_tokens", 0)
        cached = min(n.get("cached_tokens", 0), prompt)
        written = min(n.get("cache_write_tokens", 0), prompt - cached)
        reasoning = min(n.get("reasoning_tokens", 0), completion)
        return cls(
            prompt_tokens=prompt,
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=min(n.get("cache_write_1h_tokens", 0), written),
            audio_input_tokens=min(n.get("audio_input_tokens", 0), prompt - cached - written),
            completion_tokens=completion,
            reasoning_tokens=reasoning,
            audio_output_tokens=min(n.get("audio_output_tokens", 0), completion - reasoning),
            source=source,
        )


_NAMES = tuple(field.name for field in fields(Usage))
