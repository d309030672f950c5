"""Who buys what: the founder's job types, price plans and customers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from saas_litellm.base.money import femto
from teams.prices import Rates, UnitPrices


@dataclass(frozen=True, slots=True)
class JobType:
    """``prompt`` and ``output`` are ranges of tokens of one call, ``calls`` of calls in a job."""

    name: str
    alias: str
    calls: tuple[int, int]
    prompt: tuple[int, int]
    output: tuple[int, int]
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """``daily_jobs`` of an average team at the end of the history, on a weekday.

    ``rush``: how many times that the named customers have; a platform's largest are far from average.
    """

    days: int
    teams: int
    daily_jobs: float
    rush: int = 1
    # A ledger grows by more than work: each team pays a fee for its seat each day.
    has_daily_fee: bool = False


SIZES = {
    "small": Size(days=90, teams=14, daily_jobs=5.0),
    "medium": Size(days=180, teams=300, daily_jobs=0.9),
    # About 1 million calls and 5 million ledger entries; the busiest team makes one call in twenty.
    "large": Size(days=400, teams=10_000, daily_jobs=0.145, rush=200, has_daily_fee=True),
}

# Meetings are long and sold too cheaply: the loss that the reports are to find.
JOB_TYPES = (
    JobType(
        "contract_review", "smart", (3, 5), (4_000, 14_000), (500, 1_500), "find risky clauses"
    ),
    JobType("support_reply", "fast", (1, 2), (600, 2_500), (120, 350), "draft a reply"),
    JobType(
        "meeting_summary", "smart", (1, 2), (20_000, 60_000), (500, 1_200), "summarise a transcript"
    ),
    JobType("invoice_extraction", "fast", (1, 1), (1_500, 5_000), (150, 400), "read the fields"),
    JobType("translation", "fast", (2, 5), (1_000, 3_000), (1_000, 3_000), "translate a section"),
)

# The demo model answers for all of them, so that every alias works without a key. USD per token.
DEPLOYMENTS: dict[str, tuple[tuple[str, UnitPrices], ...]] = {
    "smart": (
        (
            "demo/smart-large",
            UnitPrices(
                base=Rates(
                    input=femto("0.0000025"),
                    cached_read=femto("0.00000025"),
                    output=femto("0.00001"),
                )
            ),
        ),
        (
            "demo/smart-reserve",
            UnitPrices(base=Rates(input=femto("0.000003"), output=femto("0.000015"))),
        ),
    ),
    "fast": (
        (
            "demo/fast-small",
            UnitPrices(
                base=Rates(
                    input=femto("0.00000015"),
                    cached_read=femto("0.000000015"),
                    output=femto("0.0000006"),
                )
            ),
        ),
    ),
}

PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "per-job": (
        "Per job",
        {
            "job_rules": [
                {"job_type": "contract_review", "credits": "18"},
                {"job_type": "support_reply", "credits": "1.5"},
                {"job_type": "meeting_summary", "credits": "1"},
                {"job_type": "invoice_extraction", "credits": "0.8"},
                {"job_type": "translation", "credits": "4"},
                {"credits": "1"},
            ]
        },
    ),
    "cost-plus": (
        "Cost plus 60 %",
        {"call_rules": [{"kind": "markup", "markup_percent": "60"}]},
    ),
    "by-token": (
        "By token",
        {
            "call_rules": [
                {
                    "kind": "tokens",
                    "alias": "smart",
                    "input_credits_per_1k": "0.05",
                    "cached_credits_per_1k": "0.012",
                    "output_credits_per_1k": "0.2",
                },
                {
                    "kind": "tokens",
                    "input_credits_per_1k": "0.02",
                    "cached_credits_per_1k": "0.008",
                    "output_credits_per_1k": "0.06",
                },
            ]
        },
    ),
}
# What a founder considers, to try in *What if*.
NEXT_PRICES: dict[str, Any] = {
    "job_rules": [
        {"job_type": "contract_review", "credits": "18"},
        {"job_type": "support_reply", "credits": "1.5"},
        {"job_type": "meeting_summary", "credits": "2.5"},
        {"job_type": "invoice_extraction", "credits": "0.8"},
        {"job_type": "translation", "credits": "4"},
        {"credits": "1"},
    ]
}


@dataclass(frozen=True, slots=True)
class Buyer:
    """A team: its plan, how busy it is beside the average, and what it buys in which share.

    ``habit``: steady tops up in time, late runs dry before it does, left has stopped working.
    """

    organization: str
    name: str
    plan: str
    busy: float
    shares: tuple[int, int, int, int, int]
    habit: str = "steady"


NAMED = (
    Buyer("Northwind Legal", "Contracts", "per-job", 2.2, (8, 0, 1, 0, 1)),
    Buyer("Northwind Legal", "Litigation", "per-job", 1.0, (6, 0, 3, 0, 1)),
    Buyer("Northwind Legal", "Back office", "per-job", 0.6, (0, 1, 2, 6, 1)),
    Buyer("Brightdesk", "Support EMEA", "per-job", 2.6, (0, 9, 0, 0, 1)),
    Buyer("Brightdesk", "Support Americas", "per-job", 1.9, (0, 9, 1, 0, 0)),
    Buyer("Halden Insurance", "Claims", "by-token", 1.4, (3, 1, 1, 5, 0)),
    Buyer("Halden Insurance", "Broker desk", "per-job", 0.8, (1, 4, 4, 1, 0), habit="late"),
    Buyer("Fjord Travel", "Guest care", "per-job", 1.1, (0, 6, 0, 1, 3)),
    Buyer("Fjord Travel", "Content", "by-token", 0.7, (0, 0, 1, 0, 9)),
    Buyer("Marlow & Finch", "Board meetings", "per-job", 0.9, (0, 0, 9, 0, 1)),
    Buyer("Marlow & Finch", "Advisory", "cost-plus", 0.5, (5, 1, 3, 0, 1), habit="late"),
    Buyer("Tidal Commerce", "Shop", "per-job", 1.5, (0, 7, 0, 2, 1)),
    Buyer("Tidal Commerce", "Suppliers", "cost-plus", 0.4, (2, 0, 0, 8, 0)),
    Buyer("Quillon Press", "Rights", "per-job", 0.6, (4, 0, 0, 1, 5), habit="left"),
)
_PLACES = ("Alder", "Birch", "Cedar", "Delta", "Elm", "Fern", "Glen", "Harbour", "Iris", "Juniper")
_TRADES = (
    "Accounting",
    "Bank",
    "Clinics",
    "Energy",
    "Freight",
    "Hotels",
    "Law",
    "Media",
    "Schools",
    "Studios",
)
_ROOMS = ("Operations", "Sales", "Service", "Research", "Finance")


def buyers(size: Size) -> list[Buyer]:
    """The named ones first, then as many alike as it takes, always the same."""
    made = [replace(buyer, busy=buyer.busy * size.rush) for buyer in NAMED[: size.teams]]
    for number in range(size.teams - len(made)):
        like = NAMED[number % len(NAMED)]
        company, room = divmod(number, len(_ROOMS))
        turn, company = divmod(company, len(_PLACES) * len(_TRADES))
        name = f"{_PLACES[company % 10]} {_TRADES[company // 10]}" + (f" {turn + 1}" * bool(turn))
        made.append(
            Buyer(
                organization=name,
                name=_ROOMS[room],
                plan=like.plan,
                busy=like.busy,
                shares=like.shares,
                habit=like.habit if number % 5 == 0 else "steady",
            )
        )
    return made
