from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.encryption import Undecryptable
from webhooks import endpoints


class Command(OperatorCommand):
    help = "Re-encrypt every webhook secret under the first of ENCRYPTION_KEYS."

    def operate(self, **options: Any) -> None:
        try:
            count = endpoints.reseal_all(actor=self.actor)
        except Undecryptable as error:
            raise CommandError(f"{error}; nothing was changed.") from error
        self.answer(f"Re-encrypted {count} secrets.", count=count)
