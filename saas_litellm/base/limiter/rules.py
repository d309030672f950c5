"""What is limited, and how a request stands against it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

WINDOW_SECONDS = 60


class Kind(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    IN_FLIGHT = "in_flight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """At most ``limit`` of a kind, for everything that shares the scope (``team:12``)."""

    scope: str
    kind: Kind
    limit: int

    @property
    def key(self) -> str:
        return f"{self.scope}:{self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one rule leaves after a decision, and in how many seconds all of it is free again."""

    rule: Rule
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A decision on a request. ``refused`` is the rule that was full; None when it counts."""

    ticket: str
    tokens: int
    second: int
    standings: tuple[Standing, ...]
    refused: Rule | None = None
    retry_after_seconds: float = 0.0


class Backend(Protocol):
    async def admit(
        self, rules: tuple[Rule, ...], *, tokens: int, ticket: str, lease_seconds: int
    ) -> Admission: ...

    async def correct(self, admission: Admission, *, tokens: int, requests: int) -> None:
        """Add to the counts in the admission's second (negative: take back), end its lease."""
        ...
