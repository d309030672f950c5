"""Test this deployment: one real and paid call of a few tokens, and what came of it.

The page is async: it waits for the provider on the event loop, as calls do, while no thread of the
database's pool, no connection and no transaction waits with it. A page's hidden key makes a second
click show the first one's result. Both what was about to be asked and what came of it are audited.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import asdict
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import close_old_connections, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views import View

from jobs import probing
from jobs.probing import Finding, Probe
from saas_litellm.base import audit, idempotency
from saas_litellm.base.admin import actor
from saas_litellm.base.bridge import in_database
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.money import from_nano
from teams.models import Deployment

TIMEOUT_SECONDS = 30.0
PERMISSION = "teams.change_deployment"
_RUNNING = (
    "This test is running already. Load the page of the first click, or test again in a while."
)
# Tests on their way. One goes on though its reader left: what it found is told to the breaker.
_tests: set[asyncio.Task[Finding]] = set()


class TrialView(View):
    """GET says what the test costs at most, POST makes it."""

    async def get(self, request: HttpRequest, deployment_id: int) -> HttpResponse:
        return await in_database(_confirmation, request, deployment_id)

    async def post(self, request: HttpRequest, deployment_id: int) -> HttpResponse:
        begun = await in_database(_begin, request, deployment_id)
        if isinstance(begun, HttpResponse):
            return begun
        # Middleware may have read the session in this request's own thread.
        await sync_to_async(close_old_connections)()
        task = asyncio.create_task(_finish(*begun))
        _tests.add(task)
        task.add_done_callback(_tests.discard)
        finding = await asyncio.shield(task)
        return await in_database(_result, request, begun[0].deployment, asdict(finding))


def _confirmation(request: HttpRequest, deployment_id: int) -> HttpResponse:
    refused = _refused(request)
    if refused is not None:
        return refused
    return _page(request, _deployment(deployment_id))


def _begin(request: HttpRequest, deployment_id: int) -> HttpResponse | tuple[Probe, Claim, str]:
    """The probe to make and its claim; or the answer, where there is nothing left to ask."""
    refused = _refused(request)
    if refused is not None:
        return refused
    deployment = _deployment(deployment_id)
    key = request.POST.get("idempotency_key", "")[:120]
    if not key:
        return _page(request, deployment, error="The page is incomplete. Load it again.")
    claim = idempotency.claim_of(
        caller=actor(request), act=f"deployment.test {deployment_id}", key=key
    )
    probe = probing.prepare(deployment)
    if probe.sheet is None:
        return _page(request, deployment, error=f"It cannot be tested: {probe.problem}.")
    earlier = _earlier(request, deployment, claim)
    if earlier is not None:
        return earlier
    try:
        with transaction.atomic():
            idempotency.take(claim)
            _record(request, deployment, "deployment.test", at_most_usd=_most(probe))
    except idempotency.InProgress:
        return _page(request, deployment, error=_RUNNING)
    return probe, claim, actor(request)


def _earlier(request: HttpRequest, deployment: Deployment, claim: Claim) -> HttpResponse | None:
    """What an earlier click of the same page found, or that it is not back yet."""
    record = idempotency.find(claim)
    if record is None:
        return None
    kept = idempotency.opened(record)
    if kept is None:
        return _page(request, deployment, error=_RUNNING)
    return _result(request, deployment, json.loads(kept))


async def _finish(probe: Probe, claim: Claim, by: str) -> Finding:
    await probing.ask(probe, timeout_seconds=TIMEOUT_SECONDS)
    return await in_database(_conclude, probe, claim, by)


def _conclude(probe: Probe, claim: Claim, by: str) -> Finding:
    finding = probing.conclude(probe)
    told = asdict(finding)
    with transaction.atomic():
        idempotency.keep(claim, json.dumps(told))
        del told["deployment"], told["advice"]
        audit.record(
            actor=by,
            action="deployment.tested",
            target=f"deployment:{probe.deployment}",
            after=told,
        )
    return finding


def _record(request: HttpRequest, deployment: Deployment, action: str, **detail: Any) -> None:
    audit.record(actor=actor(request), action=action, target=f"deployment:{deployment}", **detail)


def _refused(request: HttpRequest) -> HttpResponse | None:
    """The sign-in page for strangers. Raises PermissionDenied for operators without the right."""
    if not admin.site.has_permission(request):
        return redirect_to_login(request.get_full_path(), "admin:login")
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    return None


def _deployment(deployment_id: int) -> Deployment:
    rows = Deployment.objects.select_related("alias", "credential", "health")
    return get_object_or_404(rows, pk=deployment_id)


def _most(probe: Probe) -> str:
    return f"{from_nano(probing.most_nano_usd(probe))}"


def _page(
    request: HttpRequest,
    deployment: Deployment,
    *,
    error: str = "",
    finding: dict[str, Any] | None = None,
) -> HttpResponse:
    probe = probing.prepare(deployment)
    context = {
        **admin.site.each_context(request),
        "title": f"Test {deployment}",
        "deployment": deployment,
        "problem": probe.problem,
        "most": _most(probe),
        "seconds": round(TIMEOUT_SECONDS),
        "key": f"admin:{uuid.uuid4()}",
        "error": error,
        "finding": finding,
    }
    return render(request, "admin/deployment_test.html", context)


def _result(request: HttpRequest, deployment: Deployment, finding: dict[str, Any]) -> HttpResponse:
    return _page(request, deployment, finding=finding)
