"""What is asked of the database: where jobs stand, and the steps that readers have not been sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from jobs.models import Job, StatusChange

_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a job's life, as its owner may see it."""

    id: int
    status: str
    said: Mapping[str, Any]

    @property
    def is_last(self) -> bool:
        return self.status not in Job.OPEN


def steps_of(job: Job) -> list[Step]:
    """All so far, the present one last."""
    return [_step(row) for row in job.history.order_by("id")] or [_without_history(job)]


def news(known: Mapping[UUID, Iterable[str]]) -> dict[UUID, list[Step]]:
    """The steps of those jobs that have moved on from a status that some reader knows.

    One statement for up to 500 jobs, and one more where there is news.
    """
    ids = list(known)
    moved: list[UUID] = []
    for first in range(0, len(ids), _AT_ONCE):
        found = Job.objects.filter(pk__in=ids[first : first + _AT_ONCE])
        moved += [
            job_id
            for job_id, status in found.order_by().values_list("pk", "status")
            if set(known[job_id]) != {status}
        ]
    steps: dict[UUID, list[Step]] = defaultdict(list)
    for first in range(0, len(moved), _AT_ONCE):
        rows = StatusChange.objects.filter(job__in=moved[first : first + _AT_ONCE])
        for row in rows.order_by("id"):
            steps[row.job_id].append(_step(row))
    return steps


def _step(row: StatusChange) -> Step:
    return Step(
        id=row.pk,
        status=row.to_status,
        said={
            "job_id": row.job_id,
            "from": row.from_status or None,
            "status": row.to_status,
            "at": row.at,
            "reason": row.reason,
        },
    )


def _without_history(job: Job) -> Step:
    said = {"job_id": job.pk, "from": None, "status": job.status, "at": job.created_at}
    return Step(id=0, status=job.status, said={**said, "reason": ""})
