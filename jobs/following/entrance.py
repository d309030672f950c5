"""Who follows a job, and what they are sent first. Sync."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from jobs import lifecycle
from jobs.following import looking
from jobs.following.looking import Step
from jobs.views import owner_slug
from saas_litellm.base.refusals import Invalid
from teams.api import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Of an allowed reader: its team, what is sent at once, and the step it then knows."""

    team_slug: str
    first: tuple[Step, ...]
    known: Step


def enter(signed: Signature, job_id: UUID, last_id: int | None) -> Opening:
    """With ``last_id`` what came after that step, else the present status alone.

    Raises Unauthenticated and its kin, and NotFound for a stranger's job as for none.
    """
    caller = signed.caller(team_slug=None, owner_slug=lambda: owner_slug({"job_id": job_id}))
    job = lifecycle.find(team=caller.team, job_id=job_id)
    steps = looking.steps_of(job)
    missed = steps[-1:] if last_id is None else [step for step in steps if step.id > last_id]
    return Opening(team_slug=caller.team.slug, first=tuple(missed), known=steps[-1])


def last_id_of(text: str | None) -> int | None:
    """Raises Invalid for what is no id of a step."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("The last event id is the id of a frame, a number.", param="last_event_id")
    return int(text)
