"""Management of reconciliations: compare an export, look at the lines, book corrections."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from jobs.models import Reconciliation, ReconciliationLine
from jobs.reconciliation import compare
from jobs.reconciliation.figures import shown
from saas_litellm.base.refusals import Invalid, NotFound
from teams.api import Body
from teams.operator_api import management
from teams.operators import Operator


class Reconcile(Body):
    filename: str = Field(min_length=1, max_length=200)
    content: str = Field(min_length=1, description="The export's text, JSON or CSV.")
    threshold_percent: Decimal = Field(Decimal(1), strict=False, ge=0, le=1000)


class Correct(Body):
    reason: str = Field(min_length=1, max_length=500)


class ReconciliationView(BaseModel):
    id: int
    source: str
    lines: list[dict[str, Any]]


class ReconciliationList(BaseModel):
    reconciliations: list[dict[str, Any]]


class CorrectionView(BaseModel):
    cost_line: int
    line: dict[str, Any]


@management(
    "POST",
    permission="jobs.add_reconciliation",
    body=Reconcile,
    answer=ReconciliationView,
    status=201,
    summary="Compare a provider's export with our calls",
)
def reconcile(operator: Operator, body: Reconcile) -> dict[str, Any]:
    """By model and UTC day; a file that is not entirely understood is refused whole."""
    points = body.threshold_percent * 100
    if points != int(points):
        raise Invalid("At most two decimal places.", param="threshold_percent")
    made = compare.reconcile(
        content=body.content.encode(),
        filename=body.filename,
        actor=operator.actor,
        threshold_basis_points=int(points),
    )
    return _whole(made)


@management(
    "GET",
    permission="jobs.view_reconciliation",
    answer=ReconciliationList,
    summary="List reconciliations",
)
def list_reconciliations(operator: Operator) -> dict[str, Any]:
    """Newest first."""
    return {
        "reconciliations": [
            {
                "id": row.pk,
                "source": row.source,
                "filename": row.filename,
                "first_day": row.first_day,
                "last_day": row.last_day,
                "created_at": row.created_at,
            }
            for row in Reconciliation.objects.all()[:200]
        ]
    }


@management(
    "GET",
    permission="jobs.view_reconciliation",
    answer=ReconciliationView,
    summary="Show a reconciliation",
)
def show_reconciliation(operator: Operator, reconciliation_id: int) -> dict[str, Any]:
    """Its lines, with the calls that may explain those beyond the threshold."""
    made = Reconciliation.objects.filter(pk=reconciliation_id).first()
    if made is None:
        raise NotFound("There is no such reconciliation.")
    return _whole(made)


@management(
    "POST",
    permission="jobs.add_costline",
    body=Correct,
    answer=CorrectionView,
    summary="Book a line's variance as a cost correction",
)
def correct(operator: Operator, body: Correct, line_id: int) -> dict[str, Any]:
    """Once for each line; no customer's wallet moves."""
    line = ReconciliationLine.objects.select_related("reconciliation").filter(pk=line_id).first()
    if line is None:
        raise NotFound("There is no such line.")
    booked = compare.correct(line=line, actor=operator.actor, reason=body.reason)
    line.refresh_from_db()
    return {"cost_line": booked.pk, "line": shown(line)}


def _whole(made: Reconciliation) -> dict[str, Any]:
    lines = []
    for line in made.lines.select_related("reconciliation"):
        calls = compare.explain(line) if line.is_beyond_threshold else []
        lines.append({**shown(line), "explaining_calls": [str(call.pk) for call in calls[:5]]})
    return {"id": made.pk, "source": made.source, "lines": lines}
