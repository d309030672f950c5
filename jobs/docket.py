"""The docket: the jobs that one transaction changes, of one call or of many.

``open`` locks their rows; each step is decided in memory on a row under its lock, and ``write`` puts
the steps down with their history and what they tell. With `lifecycle` the only writer of job rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billing import ledger
from jobs import telling
from jobs.models import Call, Job, StatusChange
from jobs.refusals import JobCapExceeded, JobClosed
from saas_litellm.base import clock, rows

Status = Job.Status
# The whole lifecycle.
TRANSITIONS: Mapping[str, frozenset[str]] = {
    Status.PENDING: frozenset(
        {Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    ),
    Status.IN_PROGRESS: frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
# What steps and calls move.
_MOVED = (
    "status",
    "started_at",
    "closed_at",
    "last_activity_at",
    "in_flight",
    "held_nanocredits",
    "held_cost_nano_usd",
    "counted_tokens",
    "base_charged_nanocredits",
    "base_overrun_nanocredits",
    "base_price_nano_usd",
    "successful_calls",
    "failed_calls",
    "total_tokens",
    "total_latency_ms",
    "charged_nanocredits",
    "overrun_nanocredits",
    "price_nano_usd",
    "provider_cost_nano_usd",
)
# What an end may say besides.
_SAID = ("outcome", "error_message", "is_waived", "metadata")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a call sets aside under its job's caps: nanocredits, and nano-USD of provider cost."""

    nanocredits: int
    cost_nano_usd: int


class Docket:
    """Locked jobs by id, and what is to become of them. Lives as long as its transaction."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}
        self._new: list[Job] = []
        self._moved: dict[UUID, Job] = {}
        self._ended: list[Job] = []
        self._history: list[StatusChange] = []
        self._started: list[Job] = []

    @classmethod
    def open(cls, job_ids: Iterable[UUID]) -> Docket:
        """Lock the jobs' rows, by id; one that is not there is left out."""
        return cls.ask(job_ids)()

    @classmethod
    def ask(cls, job_ids: Iterable[UUID]) -> Callable[[], Docket]:
        """``open``, to be sent together with other questions."""
        jobs = rows.ask_locked(Job, set(job_ids))

        def opened() -> Docket:
            docket = cls()
            docket.jobs = jobs()
            return docket

        return opened

    def add(self, job: Job, *, actor: str) -> None:
        """A new job; its hold is saved before the docket is written."""
        self._new.append(job)
        self._record(job, from_status="", to_status=Status.PENDING, actor=actor)

    def require_room(self, job: Job, reservation: Reservation) -> None:
        """Raise JobClosed or JobCapExceeded unless the job admits one more such call."""
        if not job.is_open:
            raise JobClosed
        left = None
        if job.max_nanocredits is not None:
            left = job.max_nanocredits - job.charged_nanocredits - job.held_nanocredits
        if left is not None and reservation.nanocredits > left:
            raise JobCapExceeded(needed=reservation.nanocredits, available=max(0, left))
        most = job.max_provider_cost_nano_usd
        cost = job.provider_cost_nano_usd + job.held_cost_nano_usd + reservation.cost_nano_usd
        if most is not None and cost > most:
            raise JobCapExceeded(
                needed=reservation.nanocredits,
                available=max(0, reservation.nanocredits if left is None else left),
            )

    def reserve(self, job: Job, reservation: Reservation) -> None:
        """Admit a call that there is room for."""
        now = clock.now()
        if job.status == Status.PENDING:
            self._record(
                job,
                from_status=Status.PENDING,
                to_status=Status.IN_PROGRESS,
                actor=f"team:{job.team.slug}",
            )
            job.status, job.started_at = Status.IN_PROGRESS, now
            self._started.append(job)
        job.in_flight += 1
        job.held_nanocredits += reservation.nanocredits
        job.held_cost_nano_usd += reservation.cost_nano_usd
        job.last_activity_at = now
        self._moved[job.pk] = job

    def account_for(
        self,
        call: Call,
        *,
        freed: Reservation | None,
        booked_nano_usd: int = 0,
    ) -> None:
        """Move a finished call into its job's totals.

        ``freed`` is None when an abandoned call settles late: its reservation was given back and
        the call counted then. ``booked_nano_usd`` is the part of its cost that the job has in its
        total already: of earlier attempts, or an estimate.
        """
        job, on_time = self.jobs[call.job_id], freed is not None
        is_success = call.status == Call.Status.SETTLED and not call.error_code
        if freed is not None:
            job.in_flight -= 1
            job.held_nanocredits -= freed.nanocredits
            job.held_cost_nano_usd -= freed.cost_nano_usd
        job.successful_calls += int(is_success)
        job.failed_calls += int(on_time) - int(is_success)
        job.total_tokens += call.total_tokens
        job.total_latency_ms += call.latency_ms
        job.charged_nanocredits += call.charged_nanocredits
        job.overrun_nanocredits += call.overrun_nanocredits
        job.price_nano_usd += call.price_nano_usd
        job.provider_cost_nano_usd += call.provider_cost_nano_usd - booked_nano_usd
        job.last_activity_at = clock.now()
        self._moved[job.pk] = job

    def end(
        self, job: Job, *, status: str, changes: Mapping[str, Any], reason: str, actor: str
    ) -> bool:
        """Close a job; False, and nothing changed, if it cannot be. Only a cancellation may leave
        calls running."""
        if status not in TRANSITIONS[job.status]:
            return False
        if job.in_flight and status != Status.CANCELLED:
            return False
        self._record(job, from_status=job.status, to_status=status, actor=actor, reason=reason)
        job.status = status
        for name, value in changes.items():
            if getattr(job, name) != value:
                setattr(job, name, value)
                if name in _SAID and job not in self._ended:
                    self._ended.append(job)
        self._moved[job.pk] = job
        return True

    def account_for_base(self, job: Job, charge: ledger.Charge) -> None:
        """Move a job's own price into its totals."""
        job.charged_nanocredits += charge.charged_nanocredits
        job.overrun_nanocredits += charge.overrun_nanocredits
        job.price_nano_usd += charge.price_nano_usd
        job.base_charged_nanocredits = charge.charged_nanocredits
        job.base_overrun_nanocredits = charge.overrun_nanocredits
        job.base_price_nano_usd = charge.price_nano_usd
        self._moved[job.pk] = job

    def write(self) -> None:
        """Put it all down; a new job's hold has been saved by then."""
        for job in self._new:
            # A related row that was saved after it was assigned.
            job.hold = job.hold
        rows.insert(self._new)
        new = {job.pk for job in self._new}
        rows.update([job for pk, job in self._moved.items() if pk not in new], _MOVED)
        rows.update(self._ended, _SAID)
        rows.insert(self._history)

    def tell(self) -> None:
        """What is told of it, once it is written."""
        for job in self._new:
            telling.created(job)
        for job in self._started:
            telling.started(job)

    def _record(
        self, job: Job, *, from_status: str, to_status: str, actor: str, reason: str = ""
    ) -> None:
        change = rows.new(
            StatusChange,
            job_id=job.pk,
            from_status=from_status,
            to_status=to_status,
            at=clock.now(),
            reason=reason[:500],
            actor=actor[:200],
        )
        self._history.append(change)


def caps_beyond(job: Job) -> dict[str, int]:
    """What the job's own limits leave beyond everything held and charged, by their names.

    The job is locked, so the answer stays true.
    """
    spoken_for = job.charged_nanocredits + job.held_nanocredits
    limits = {"job_cap": job.max_nanocredits, "quote": job.quote_nanocredits}
    return {name: max(0, limit - spoken_for) for name, limit in limits.items() if limit is not None}
