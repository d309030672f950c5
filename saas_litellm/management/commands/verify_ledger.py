from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from saas_litellm import verification
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Check every invariant of the money; exit 1 and name the rows that break one."

    def operate(self, **options: Any) -> None:
        violations = verification.check()
        if self.is_json:
            self.answer("", violations=[str(violation) for violation in violations])
        for violation in violations if not self.is_json else ():
            self.stdout.write(str(violation))
        if violations:
            raise CommandError(f"{len(violations)} violations.")
        if not self.is_json:
            self.answer("The ledger is clean.")
