"""Limits of one process, in memory."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from saas_litellm.base.limiter.rules import WINDOW_SECONDS, Admission, Kind, Rule, Standing


class LocalLimiter:
    """Counts in dicts under a lock, for the embedded mode and while Redis is away."""

    def __init__(
        self, *, window: int = WINDOW_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = window
        self._now = now
        self._lock = threading.Lock()
        self._buckets: dict[str, dict[int, int]] = defaultdict(dict)
        self._leases: dict[str, dict[str, float]] = defaultdict(dict)
        self._swept_at = now()

    async def admit(
        self, rules: tuple[Rule, ...], *, tokens: int, ticket: str, lease_seconds: int
    ) -> Admission:
        with self._lock:
            now = self._now()
            self._sweep(now)
            refused, retry = None, 0.0
            for rule in rules:
                wait = self._wait(rule, _need(rule, tokens), now)
                if wait is not None and refused is None:
                    refused, retry = rule, wait
            if refused is None:
                self._count(rules, tokens, ticket, now, lease_seconds)
            return Admission(
                ticket=ticket,
                tokens=tokens,
                second=int(now),
                standings=tuple(self._standing(rule, now) for rule in rules),
                refused=refused,
                retry_after_seconds=retry,
            )

    async def correct(self, admission: Admission, *, tokens: int, requests: int) -> None:
        added = {Kind.TOKENS: tokens, Kind.REQUESTS: requests}
        with self._lock:
            for standing in admission.standings:
                key, kind = standing.rule.key, standing.rule.kind
                if kind is Kind.IN_FLIGHT:
                    self._leases[key].pop(admission.ticket, None)
                    continue
                buckets = self._buckets[key]
                if admission.second in buckets:
                    buckets[admission.second] = max(0, buckets[admission.second] + added[kind])

    def _count(
        self, rules: tuple[Rule, ...], tokens: int, ticket: str, now: float, lease: int
    ) -> None:
        for rule in rules:
            if rule.kind is Kind.IN_FLIGHT:
                self._leases[rule.key][ticket] = now + lease
                continue
            buckets = self._buckets[rule.key]
            buckets[int(now)] = buckets.get(int(now), 0) + _need(rule, tokens)

    def _wait(self, rule: Rule, need: int, now: float) -> float | None:
        """Seconds until the rule has room; None when it has."""
        used = self._used(rule, now)
        if used + need <= rule.limit:
            return None
        if rule.kind is Kind.IN_FLIGHT:
            return 1.0
        room = rule.limit - used
        for second, count in sorted(self._buckets[rule.key].items()):
            room += count
            if room >= need:
                return second + self._window + 1 - now
        return float(self._window)

    def _used(self, rule: Rule, now: float) -> int:
        if rule.kind is Kind.IN_FLIGHT:
            leases = self._leases[rule.key]
            for ticket in [ticket for ticket, until in leases.items() if until <= now]:
                del leases[ticket]
            return len(leases)
        buckets = self._buckets[rule.key]
        for second in [second for second in buckets if second < int(now) - self._window]:
            del buckets[second]
        return sum(buckets.values())

    def _standing(self, rule: Rule, now: float) -> Standing:
        left = max(0, rule.limit - self._used(rule, now))
        newest = (
            max(self._buckets[rule.key], default=None) if rule.kind is not Kind.IN_FLIGHT else None
        )
        reset = 0.0 if newest is None else newest + self._window + 1 - now
        return Standing(rule=rule, remaining=left, reset_seconds=reset)

    def _sweep(self, now: float) -> None:
        """Forget, once a window, the keys that nobody uses any more."""
        if now < self._swept_at + self._window:
            return
        self._swept_at = now
        for key, buckets in list(self._buckets.items()):
            if not buckets or max(buckets) < int(now) - self._window:
                del self._buckets[key]
        for key, leases in list(self._leases.items()):
            if not any(until > now for until in leases.values()):
                del self._leases[key]


def _need(rule: Rule, tokens: int) -> int:
    return tokens if rule.kind is Kind.TOKENS else 1
