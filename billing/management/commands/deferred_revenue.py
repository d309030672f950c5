from __future__ import annotations

from typing import Any

from billing import revenue
from saas_litellm.base.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Show sold, earned, expired and outstanding credits by month, in USD."

    def operate(self, **options: Any) -> None:
        months = [month.as_json() for month in revenue.deferred()]
        names = [
            "opening_usd",
            "sold_usd",
            "earned_usd",
            "breakage_usd",
            "refunded_usd",
            "closing_usd",
        ]
        lines = ["month    " + "".join(f"{name.removesuffix('_usd'):>14}" for name in names)]
        lines += [
            f"{month['month']:9}" + "".join(f"{month[name]!s:>14}" for name in names)
            for month in months
        ]
        self.answer("\n".join([*lines, revenue.RECONCILES]), months=months)
