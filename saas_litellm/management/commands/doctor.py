from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from saas_litellm.base import shown
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.observing import doctor

_MARKS = {"ok": "ok  ", "look": "look", "act": "ACT "}


class Command(OperatorCommand):
    help = (
        "Look at settings, database, clock, Redis, worker, ledger, credentials, prices and people;"
        " say what to do. Fails when something must be done."
    )

    def operate(self, **options: Any) -> None:
        found = doctor.examine()
        acts = sum(finding.state == "act" for finding in found)
        looks = sum(finding.state == "look" for finding in found)
        lines = []
        for finding in found:
            lines.append(f"{_MARKS[finding.state]}  {finding.about}: {finding.says}")
            if finding.do:
                lines.append(f"      → {finding.do}")
        lines.append(f"{acts} to act on, {looks} to look at.")
        self.answer("\n".join(lines), findings=[asdict(finding) for finding in found])
        if acts:
            raise CommandError(f"{shown.counted(acts, 'finding')} to act on.")
