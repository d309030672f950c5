from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.encryption import Undecryptable
from teams import credentials


class Command(OperatorCommand):
    help = "Re-encrypt every provider credential under the first of ENCRYPTION_KEYS."

    def operate(self, **options: Any) -> None:
        try:
            count = credentials.rotate_all(actor=self.actor)
        except Undecryptable as error:
            raise CommandError(f"{error}; nothing was changed.") from error
        self.answer(f"Re-encrypted {count} credentials.", count=count)
