"""Hold + settle pairs per second on one PostgreSQL: `python -m benchmarks money`.

A pair is what a call does to the money: one transaction that takes a hold and one that settles it
with its entry. Over many wallets, and on one that everybody uses.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks import scratch

SECONDS = 5.0
WALLETS = 1000
PROCESSES = (1, 2, 4, 8)


def run() -> dict[str, Any]:
    """Pairs per second by "wallets/processes". Raises RuntimeError when a wallet is wrong after."""
    # Spawned processes read the environment, and Django is set up once in each.
    spawning = multiprocessing.get_context("spawn")
    with scratch.database() as url, ProcessPoolExecutor(1, mp_context=spawning) as apart:
        accounts, version_id = apart.submit(_prepare, url).result()
        found: dict[str, float] = {}
        for wallets, processes in itertools.product((WALLETS, 1), PROCESSES):
            pairs = _run(url, accounts[:wallets], version_id, processes)
            found[f"{wallets}/{processes}"] = pairs / SECONDS
            print(f"{wallets} wallets, {processes} processes: {pairs / SECONDS:.0f} pairs/s")
        apart.submit(_verify).result()
    return found


def markdown(figures: dict[str, Any]) -> str:
    lines = [
        f"| hold + settle pairs/s | {' | '.join(f'{n} processes' for n in PROCESSES)} |",
        f"|---|{'---|' * len(PROCESSES)}",
    ]
    for wallets, title in ((WALLETS, f"{WALLETS} wallets"), (1, "one hot wallet")):
        cells = " | ".join(f"{figures[f'{wallets}/{n}']:.0f}" for n in PROCESSES)
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


def best(figures: dict[str, float], wallets: int) -> float:
    return max(figures[f"{wallets}/{n}"] for n in PROCESSES)


def _prepare(url: str) -> tuple[list[int], int]:
    scratch.set_up(url)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from billing import ledger, plans
    from teams.models import Organization, Team

    organization = Organization.objects.create(slug="bench", name="bench")
    teams = Team.objects.bulk_create(
        [Team(slug=f"t{n}", name="t", organization=organization) for n in range(WALLETS)]
    )
    accounts = []
    for team in teams:
        account = ledger.account_of(team)
        ledger.grant(
            account=account, amount_nanocredits=10**15, actor="bench", idempotency_key="bench"
        )
        accounts.append(account.pk)
    return accounts, plans.ensure_preset("consumption_usd").pk


def _run(url: str, accounts: list[int], version_id: int, processes: int) -> int:
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=((url, accounts, version_id), n, gate, results))
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    total: int = sum(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def _work(job: tuple[str, list[int], int], number: int, gate: Any, results: Any) -> None:
    url, accounts, version_id = job
    scratch.set_up(url)
    from django.db import transaction

    from billing import ledger

    names = (f"{number}:{time.time_ns()}:{n}" for n in itertools.count())
    chosen = itertools.cycle(accounts[number:] + accounts[:number])

    def pair(account_id: int, reference: str) -> None:
        with transaction.atomic():
            held = ledger.hold(
                account_id=account_id,
                amount_nanocredits=1000,
                reference=reference,
                expires_at=None,
            )
        with transaction.atomic():
            ledger.settle(
                account_id=account_id,
                held=held,
                bill=ledger.Bill(
                    price_nanocredits=700,
                    nanocredits_per_usd=10**10,
                    plan_version_id=version_id,
                    reference=reference,
                    reason="bench",
                    actor="bench",
                    labels={"team": "bench"},
                ),
            )

    pair(next(chosen), next(names))
    gate.wait()
    ends, done = time.monotonic() + SECONDS, 0
    while time.monotonic() < ends:
        pair(next(chosen), next(names))
        done += 1
    results.put(done)


def _verify() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM billing_account a WHERE held_nanocredits <> 0 OR"
            " balance_nanocredits <> (SELECT sum(amount_nanocredits) FROM billing_entry e"
            " WHERE e.account_id = a.id)"
        )
        wrong = cursor.fetchone()[0]
    connection.close()
    if wrong:
        raise RuntimeError(f"{wrong} wallets whose entries do not add up")
