from __future__ import annotations

from typing import Any

from saas_litellm import worker
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Do one round of the worker's chores, now: sweep, expire, refill, fold, roll up."

    def operate(self, **options: Any) -> None:
        done = worker.sweep() | worker.work_outside()
        lines = [f"{name}: {count}" for name, count in done.items()] or ["Nothing was due."]
        self.answer("\n".join(lines), **{name.replace(" ", "_"): n for name, n in done.items()})
