from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import CommandParser

from jobs import refunds
from jobs.models import Call, Job
from saas_litellm.base.commands import OperatorCommand
from saas_litellm.base.money import from_nano, nano
from saas_litellm.base.refusals import NotFound
from teams import operators


class Command(OperatorCommand):
    help = "Give back a closed job's or a call's charge, in part or whole."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--job", type=uuid.UUID)
        what.add_argument("--call", type=uuid.UUID)
        parser.add_argument("--credits", help="Default: all that is left.")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--by", help="The operator who refunds; their rights and limit count.")
        parser.add_argument("--idempotency-key", help="The same key again refunds nothing more.")

    def operate(self, **options: Any) -> None:
        by = operators.named(options["by"]) if options["by"] else None
        named: dict[str, Any] = {
            "nanocredits": nano(options["credits"]) if options["credits"] else None,
            "reason": options["reason"],
            "actor": by.actor if by else self.actor,
            "operator": by,
            "idempotency_key": options["idempotency_key"] or f"refund:{uuid.uuid4()}",
        }
        if options["job"]:
            job = Job.objects.filter(pk=options["job"]).first()
            if job is None:
                raise NotFound("There is no job with this id.")
            entries = refunds.refund_job(job=job, **named)
        else:
            call = Call.objects.select_related("job").filter(pk=options["call"]).first()
            if call is None:
                raise NotFound("There is no call with this id.")
            entries = [refunds.refund_call(call=call, **named)]
        total = from_nano(sum(entry.amount_nanocredits for entry in entries))
        self.answer(f"Gave back {total} credits.", credits=total)
