"""Low balances: an alarm when an account falls below a threshold, once for each crossing.

Crossings are read off the ledger's lines, each of which carries the balance after it, so that a dip
that was topped up again before anyone looked is seen all the same.
"""

from __future__ import annotations

from collections import defaultdict

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from billing import telling
from billing.models import Account, BalanceThreshold, Entry
from saas_litellm.base import alarms, audit, clock, events
from saas_litellm.base.money import MAX_AMOUNT, from_nano
from saas_litellm.base.refusals import Invalid


def replace(*, account: Account, nanocredits: list[int], actor: str) -> list[BalanceThreshold]:
    """Make these the account's thresholds. One that the balance is below already does not fire.

    Raises Invalid for more than ten, a repeated or a negative one.
    """
    if len(nanocredits) > 10 or len(set(nanocredits)) != len(nanocredits):
        raise Invalid("Give up to ten different thresholds.", param="thresholds")
    if any(not 0 <= amount <= MAX_AMOUNT for amount in nanocredits):
        raise Invalid("A threshold is 0 or more credits.", param="thresholds")
    with transaction.atomic():
        kept = BalanceThreshold.objects.filter(account=account)
        before = sorted(kept.values_list("nanocredits", flat=True))
        kept.exclude(nanocredits__in=nanocredits).delete()
        known = set(kept.values_list("nanocredits", flat=True))
        newest = Entry.objects.filter(account=account).order_by("-id").first()
        balance = newest.balance_after_nanocredits if newest else 0
        for amount in set(nanocredits) - known:
            BalanceThreshold.objects.create(
                account=account,
                nanocredits=amount,
                is_below=balance < amount,
                checked_entry_id=newest.pk if newest else 0,
            )
        audit.record(
            actor=actor,
            action="credits.thresholds",
            target=str(account),
            before={"thresholds": [str(from_nano(amount)) for amount in before]},
            after={"thresholds": [str(from_nano(amount)) for amount in sorted(nanocredits)]},
        )
    return list(BalanceThreshold.objects.filter(account=account))


def fire() -> int:
    """Sound each crossing since the last look; returns how many. Any number of workers may run."""
    fired = 0
    by_account: dict[int, list[BalanceThreshold]] = defaultdict(list)
    newest = Entry.objects.filter(account=OuterRef("account")).order_by("-id").values("pk")[:1]
    behind = BalanceThreshold.objects.annotate(newest=Subquery(newest)).filter(
        checked_entry_id__lt=F("newest")
    )
    for threshold in behind.select_related("account__team", "account__organization"):
        by_account[threshold.account_id].append(threshold)
    for account_id, thresholds in by_account.items():
        since = min(threshold.checked_entry_id for threshold in thresholds)
        lines = list(
            Entry.objects.filter(account=account_id, pk__gt=since)
            .order_by("id")
            .values_list("pk", "balance_after_nanocredits")
        )
        fired += sum(_cross(threshold, lines) for threshold in thresholds)
    return fired


def _cross(threshold: BalanceThreshold, lines: list[tuple[int, int]]) -> int:
    seen = [line for line in lines if line[0] > threshold.checked_entry_id]
    if not seen:
        return 0
    is_below, crossings = threshold.is_below, 0
    for _, balance in seen:
        crossings += int(not is_below and balance < threshold.nanocredits)
        is_below = balance < threshold.nanocredits
    left = from_nano(seen[-1][1])
    with transaction.atomic():
        claimed = BalanceThreshold.objects.filter(
            pk=threshold.pk, checked_entry_id=threshold.checked_entry_id
        ).update(
            is_below=is_below,
            checked_entry_id=seen[-1][0],
            fired_at=clock.now() if crossings else threshold.fired_at,
        )
        if not claimed:
            return 0
        if telling.is_heard(events.CreditsLow, threshold.account):
            for _ in range(crossings):
                telling.of_wallet(
                    events.CreditsLow,
                    threshold.account_id,
                    object_id=f"account:{threshold.account_id}",
                    threshold=from_nano(threshold.nanocredits),
                    balance=left,
                )
    for _ in range(crossings):
        alarms.sound(
            kind="credits.low",
            subject=f"{threshold.account} below {from_nano(threshold.nanocredits)}",
            detail=f"{left} credits left",
        )
    return crossings
