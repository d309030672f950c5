"""Job endpoints of a team: everything but the LLM calls themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from billing import exhaustion
from jobs import closing, lifecycle, metering, presentation, quotes, reports
from jobs.lifecycle import NewJob
from jobs.models import Job
from jobs.schemas import (
    CancelJob,
    CompleteJob,
    CreateJob,
    ListJobs,
    PatchMetadata,
    QuoteJob,
    UsageQuery,
    plain,
)
from saas_litellm.base.bridge import after_commit_in_loop
from saas_litellm.base.money import InexactAmount, nano
from saas_litellm.base.refusals import Invalid
from saas_litellm.base.standing import Memory, NotRemembered
from teams.api import Caller, endpoint, path_team


def owner_slug(path: Mapping[str, Any]) -> str | None:
    """The owner of the job in the path, for the open local demo."""
    job = Job.objects.select_related("team").filter(pk=path["job_id"]).first()
    return job.team.slug if job else None


def asked_job(
    caller: Caller,
    body: CreateJob,
    metadata: Mapping[str, Any],
    *,
    is_single: bool = False,
    memory: Memory | None = None,
) -> NewJob:
    """Raises Invalid for metadata over 16 KiB, a cap finer than a nanocredit or a strange quote."""
    lifecycle.check_metadata(metadata)
    try:
        cap = None if body.max_credits is None else nano(body.max_credits)
    except InexactAmount as error:
        raise Invalid("max_credits has more than 9 decimal places.", param="max_credits") from error
    if body.quote_id and memory is not None and not memory.may_ask:
        raise NotRemembered
    return NewJob(
        team=caller.team,
        api_key=caller.api_key,
        job_type=body.job_type,
        user_id=body.user_id,
        external_task_id=body.external_task_id,
        metadata=metadata,
        max_nanocredits=cap,
        is_reserving=body.reserve,
        is_single=is_single,
        quote=quotes.find(team=caller.team, quote_id=body.quote_id, job_type=body.job_type)
        if body.quote_id
        else None,
        actor=caller.actor,
    )


@endpoint(
    "POST",
    body=CreateJob,
    answer=presentation.CreatedJob,
    status=201,
    refused=exhaustion.tell,
    summary="Create a job",
)
def create_job(caller: Caller, body: CreateJob) -> dict[str, Any]:
    """Open a job. A flat price or a minimum is set aside now; with ``reserve`` the whole cap is."""
    return presentation.created(lifecycle.enter(asked_job(caller, body, body.metadata)))


@endpoint("POST", body=QuoteJob, answer=presentation.QuoteView, summary="Quote a job's price")
def quote_job(caller: Caller, body: QuoteJob) -> dict[str, Any]:
    """Expected, p95 and worst case from the team's own jobs of that type; p95 is a promise."""
    quote = quotes.give(
        team=caller.team,
        job_type=body.job_type,
        model=body.model,
        messages=plain(body.messages),
        expected_calls=body.expected_calls,
    )
    return presentation.quoted(quote)


@endpoint(
    "POST",
    body=CompleteJob,
    answer=presentation.ClosedJob,
    owner_slug=owner_slug,
    summary="Complete a job, or call it failed",
)
def complete_job(caller: Caller, body: CompleteJob, job_id: UUID) -> dict[str, Any]:
    """Close a job whose calls have all ended; the same status again answers the same."""
    job = lifecycle.find(team=caller.team, job_id=job_id)
    job = closing.close(
        job=job,
        status=body.status,
        actor=caller.actor,
        metadata=body.metadata,
        error_message=body.error_message,
        outcome=body.outcome,
    )
    return presentation.closed(job)


@endpoint(
    "POST",
    body=CancelJob,
    answer=presentation.ClosedJob,
    owner_slug=owner_slug,
    summary="Cancel a job",
)
def cancel_job(caller: Caller, body: CancelJob, job_id: UUID) -> dict[str, Any]:
    """Close a job at once; running calls stop within 2 s and settle what they delivered."""
    job = lifecycle.find(team=caller.team, job_id=job_id)
    job = closing.close(
        job=job,
        status=Job.Status.CANCELLED,
        actor=caller.actor,
        error_message=body.reason,
    )
    after_commit_in_loop(metering.stop_job, job.pk)
    return presentation.closed(job)


@endpoint("GET", answer=presentation.JobView, owner_slug=owner_slug, summary="Show a job")
def show_job(caller: Caller, job_id: UUID) -> dict[str, Any]:
    """The job, its metadata, totals and status history."""
    return presentation.whole(lifecycle.find(team=caller.team, job_id=job_id))


@endpoint(
    "PATCH",
    body=PatchMetadata,
    answer=presentation.MetadataView,
    owner_slug=owner_slug,
    summary="Merge into a job's metadata",
)
def patch_metadata(caller: Caller, body: PatchMetadata, job_id: UUID) -> dict[str, Any]:
    """A shallow merge; 16 KiB in all."""
    job = lifecycle.find(team=caller.team, job_id=job_id)
    job = lifecycle.merge_metadata(job=job, metadata=body.metadata)
    return {"job_id": job.pk, "metadata": job.metadata, "updated_at": job.last_activity_at}


@endpoint("GET", answer=presentation.CostsView, owner_slug=owner_slug, summary="Show a job's costs")
def show_costs(caller: Caller, job_id: UUID) -> dict[str, Any]:
    """Credits and USD price per call and in sum."""
    job = lifecycle.find(team=caller.team, job_id=job_id)
    return {
        "job_id": job.pk,
        "status": job.status,
        "costs": presentation.costs_of(job),
        "calls": presentation.call_costs_of(job),
    }


@endpoint("GET", query=ListJobs, answer=presentation.JobList, summary="List a team's jobs")
def list_jobs(caller: Caller, query: ListJobs, team_id: str) -> dict[str, Any]:
    """Newest first; ``metadata.KEY=value`` filters on text values of the metadata."""
    jobs, cursor = reports.job_page(team=path_team(caller, team_id), query=query)
    return {"jobs": [presentation.listed(job) for job in jobs], "next_cursor": cursor}


@endpoint("GET", query=UsageQuery, answer=presentation.UsageView, summary="Show a team's usage")
def show_usage(caller: Caller, query: UsageQuery, team_id: str) -> dict[str, Any]:
    """Jobs, calls, tokens and credits of a period (default: this month), by when jobs began."""
    return reports.usage(team=path_team(caller, team_id), query=query)
