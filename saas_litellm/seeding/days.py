"""The days of the customers: who asked for what, when, and what went wrong.

All chance comes from one seeded generator: the same size on the same day is the same company.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from billing.models import Grant
from jobs.models import Job
from jobs.usage import Usage
from saas_litellm.base.money import NANO
from saas_litellm.seeding import lines, market
from saas_litellm.seeding.books import Book, Errand, Said
from saas_litellm.seeding.founding import Customer, Shop
from saas_litellm.seeding.lines import Line
from saas_litellm.seeding.market import JobType, Size
from saas_litellm.seeding.rows import Rows

WELCOME = 50 * NANO
SEAT_FEE = NANO // 100
# Credits and what they are sold for, in USD: a credit is worth 0.10, and larger packages less.
PACKAGES = ((100, 10), (500, 48), (2_000, 185), (10_000, 880), (50_000, 4_200))
_WEEKEND = 0.25
_LATE_DAYS = 3
_LEFT_DAYS = 35


class History:
    """From ``began`` (midnight, UTC) to ``until``, one day at a time."""

    def __init__(self, shop: Shop, size: Size, *, began: datetime, until: datetime) -> None:
        self._shop, self._size = shop, size
        self._began, self._until = began, until
        self._chance = Random(20)  # noqa: S311 - a made-up history, always the same

    def days(self, rows: Rows) -> Iterator[int]:
        """Put each day's rows down; yields the number of the day, for whoever shows progress."""
        for day in range(self._size.days + 1):
            written: list[Line] = []
            for customer in self._shop.customers:
                written += self._top_up(customer, day)
                written += self._work(customer, day, rows)
                if self._size.has_daily_fee and day < self._size.days:
                    # At the very end of the day: it must not come before what pays for it.
                    at = self._midnight(day) + timedelta(hours=23, minutes=59)
                    written.append(lines.fee(customer, at=at, nanocredits=SEAT_FEE))
            lines.enter(rows, written)
            yield day

    def _midnight(self, day: int) -> datetime:
        return self._began + timedelta(days=day)

    def _top_up(self, customer: Customer, day: int) -> Iterator[Line]:
        """Before the day's work, so that the day never runs below zero."""
        at = self._midnight(day) + timedelta(seconds=self._chance.randrange(60, 18_000))
        if at > self._until:
            return
        if day == 0:
            yield lines.grant(
                customer,
                at=at,
                nanocredits=WELCOME,
                paid_nano_usd=0,
                kind=Grant.Kind.PROMOTIONAL,
                reason="Welcome credits",
            )
            at += timedelta(minutes=1)
        is_late = customer.buyer.habit == "late"
        daily = customer.spent_nanocredits // max(1, day)
        wanted = daily * (_LATE_DAYS if is_late else 12) + (5 if is_late else 20) * NANO
        ends_soon = is_late and day > self._size.days - _LATE_DAYS
        if customer.left_nanocredits >= wanted or ends_soon or self._has_left(customer, day):
            return
        credits_, usd = next(
            (
                package
                for package in PACKAGES
                if package[0] * NANO >= wanted * (1 if is_late else 2)
            ),
            PACKAGES[-1],
        )
        yield lines.grant(
            customer,
            at=at,
            nanocredits=credits_ * NANO,
            paid_nano_usd=usd * NANO,
            kind=Grant.Kind.PURCHASE,
            reason=f"Package of {credits_:,} credits",
        )

    def _has_left(self, customer: Customer, day: int) -> bool:
        return customer.buyer.habit == "left" and day > self._size.days - _LEFT_DAYS

    def _work(self, customer: Customer, day: int, rows: Rows) -> Iterator[Line]:
        left = customer.left_nanocredits
        for _ in range(self._how_many(customer, day)):
            book = Book(self._errand(customer, day))
            # What the platform would have refused for want of credits has left no trace.
            if book.errand.ends_at < self._until and book.nanocredits <= left:
                left -= book.nanocredits
                customer.spent_nanocredits += book.nanocredits
                yield from book.write(rows)

    def _how_many(self, customer: Customer, day: int) -> int:
        if self._has_left(customer, day):
            return 0
        growth = 0.35 + 0.65 * day / self._size.days
        weekday = _WEEKEND if self._midnight(day).weekday() >= 5 else 1.0
        wanted = self._size.daily_jobs * customer.buyer.busy * growth * weekday
        wanted *= 0.6 + 0.8 * self._chance.random()
        whole, part = divmod(wanted, 1)
        return int(whole) + (self._chance.random() < part)

    def _errand(self, customer: Customer, day: int) -> Errand:
        chance = self._chance
        job_type = chance.choices(market.JOB_TYPES, weights=customer.buyer.shares)[0]
        # Seven to seven, most of it around one o'clock.
        second = int(chance.triangular(7 * 3600, 19 * 3600, 13 * 3600))
        starts_at = self._midnight(day) + timedelta(
            seconds=second, microseconds=chance.randrange(10**6)
        )
        calls = list(self._calls(job_type, starts_at))
        is_delivered = any(said.is_delivered for said in calls)
        ended = chance.choices(
            (Job.Status.COMPLETED, Job.Status.FAILED, Job.Status.CANCELLED), weights=(96, 3, 1)
        )[0]
        return Errand(
            id=self._uuid(),
            customer=customer,
            job_type=job_type,
            served=self._shop.aliases[job_type.alias],
            calls=calls,
            status=ended if is_delivered else Job.Status.FAILED,
            starts_at=starts_at,
            ends_at=calls[-1].ends_at + timedelta(milliseconds=chance.randrange(40, 900)),
            user_id=f"user-{chance.randrange(1, 30)}",
            metadata={"document_id": f"doc-{chance.randrange(1, 5_000)}", "channel": "app"},
        )

    def _calls(self, job_type: JobType, starts_at: datetime) -> Iterator[Said]:
        chance = self._chance
        moment = starts_at + timedelta(milliseconds=chance.randrange(5, 200))
        for _ in range(chance.randint(*job_type.calls)):
            output = chance.randint(*job_type.output)
            failure = chance.choices(("", "rate_limited", "server_error"), weights=(970, 18, 12))[0]
            is_rescued = bool(failure) and job_type.alias == "smart" and chance.random() < 0.85
            is_delivered = not failure or is_rescued
            took = timedelta(milliseconds=500 + output * chance.randint(6, 12))
            yield Said(
                id=self._uuid(),
                usage=self._usage(job_type, output) if is_delivered else Usage(),
                starts_at=moment,
                ends_at=moment + took,
                is_stream=chance.random() < 0.4,
                failure=failure,
                is_rescued=is_rescued,
            )
            moment += took + timedelta(milliseconds=chance.randrange(50, 2_500))

    def _usage(self, job_type: JobType, output: int) -> Usage:
        chance = self._chance
        prompt = chance.randint(*job_type.prompt)
        cached = prompt * chance.randrange(20, 70) // 100 if chance.random() < 0.3 else 0
        # Some streams end without the provider's own figures.
        source = "estimate" if chance.random() < 0.004 else "provider"
        return Usage(
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=output,
            source=source,  # type: ignore[arg-type]
        )

    def _uuid(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128), version=4)
