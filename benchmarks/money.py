"""Hold + settle pairs per second on one PostgreSQL: `python -m benchmarks money`.

A pair is what a call does to the money: one transaction that takes a hold and one that settles it
with its entry. Over many wallets, and on one that everybody uses; each pair in transactions of its
own, and in those that so many share, as calls that wait at the same time do.
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
TOGETHER = (1, 32)


def run() -> dict[str, Any]:
    """Pairs per second by "wallets/together/processes". Raises RuntimeError when a wallet is wrong
    after."""
    # Spawned processes read the environment, and Django is set up once in each.
    spawning = multiprocessing.get_context("spawn")
    with scratch.database() as url, ProcessPoolExecutor(1, mp_context=spawning) as apart:
        accounts, version_id = apart.submit(_prepare, url).result()
        found: dict[str, float] = {}
        for wallets, size, processes in itertools.product((WALLETS, 1), TOGETHER, PROCESSES):
            pairs = _run((url, accounts[:wallets], version_id, size), processes)
            found[f"{wallets}/{size}/{processes}"] = pairs / SECONDS
            print(
                f"{wallets} wallets, {size} together, {processes} processes:"
                f" {pairs / SECONDS:.0f} pairs/s",
                flush=True,
            )
        apart.submit(_verify).result()
    return found


def markdown(figures: dict[str, Any]) -> str:
    lines = [
        f"| hold + settle pairs/s | {' | '.join(f'{n} processes' for n in PROCESSES)} |",
        f"|---|{'---|' * len(PROCESSES)}",
    ]
    titles = ((WALLETS, f"{WALLETS} wallets"), (1, "one hot wallet"))
    for (wallets, title), size in itertools.product(titles, TOGETHER):
        cells = " | ".join(f"{figures[f'{wallets}/{size}/{n}']:.0f}" for n in PROCESSES)
        how = "each alone" if size == 1 else f"{size} together"
        lines.append(f"| {title}, {how} | {cells} |")
    return "\n".join(lines)


def best(figures: dict[str, float], wallets: int) -> float:
    """In transactions that calls share."""
    return max(figures[f"{wallets}/{TOGETHER[-1]}/{n}"] for n in PROCESSES)


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


def _run(job: tuple[str, list[int], int, int], processes: int) -> int:
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work, args=(job, n, gate, results)) for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    total: int = sum(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


def _work(job: tuple[str, list[int], int, int], number: int, gate: Any, results: Any) -> None:
    url, accounts, version_id, size = job
    scratch.set_up(url)
    from django.db import transaction

    from billing import ledger

    names = (f"{number}:{time.time_ns()}:{n}" for n in itertools.count())
    chosen = itertools.cycle(accounts[number:] + accounts[:number])

    def bill(reference: str) -> ledger.Bill:
        return ledger.Bill(
            price_nanocredits=700,
            nanocredits_per_usd=10**10,
            plan_version_id=version_id,
            reference=reference,
            reason="bench",
            actor="bench",
            labels={"team": "bench"},
        )

    def pairs() -> None:
        wanted = [(next(chosen), next(names)) for _ in range(size)]
        with transaction.atomic():
            book = ledger.Book.open(account_ids=[pk for pk, _ in wanted])
            holds = [
                book.hold(account_id=pk, amount_nanocredits=1000, reference=name, expires_at=None)
                for pk, name in wanted
            ]
            book.write()
        with transaction.atomic():
            book = ledger.Book.open(account_ids=[pk for pk, _ in wanted])
            for (pk, name), held in zip(wanted, holds, strict=True):
                book.settle(account_id=pk, held=held, bill=bill(name))
            book.write()

    pairs()
    gate.wait()
    ends, done = time.monotonic() + SECONDS, 0
    while time.monotonic() < ends:
        pairs()
        done += size
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
