"""The work: a job is one business operation, a call one LLM call in it, an attempt one request to
one deployment. A cost line is what an attempt cost the founder; it never changes a charge.

Job rows are written by ``jobs/lifecycle.py``, calls and their rows by ``jobs/calls.py``. The rest
is derived from them: profit by day (``jobs/rollups.py``), quotes, shadow prices, reconciliations.
"""

from __future__ import annotations

from jobs.models.attempts import Attempt, CostLine
from jobs.models.books import (
    CostDay,
    PlatformDay,
    ProfitDay,
    Quote,
    Reconciliation,
    ReconciliationLine,
    RollupDay,
    Shadow,
    ShadowDay,
)
from jobs.models.payloads import Payload
from jobs.models.work import Call, Job, StatusChange

__all__ = [
    "Attempt",
    "Call",
    "CostDay",
    "CostLine",
    "Job",
    "Payload",
    "PlatformDay",
    "ProfitDay",
    "Quote",
    "Reconciliation",
    "ReconciliationLine",
    "RollupDay",
    "Shadow",
    "ShadowDay",
    "StatusChange",
]
