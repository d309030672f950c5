from __future__ import annotations

from typing import Any

from saas_litellm import worker
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Close calls whose process died and jobs that went idle, once, now."

    def operate(self, **options: Any) -> None:
        swept = worker.sweep()
        self.answer(
            f"Abandoned {swept.abandoned_calls} calls, expired {swept.expired_jobs} jobs.",
            abandoned_calls=swept.abandoned_calls,
            expired_jobs=swept.expired_jobs,
        )
