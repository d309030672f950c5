"""Lots: which credits were spent. Folded from the ledger off the hot path.

An account's entries are attributed to its lots in the order of their ids, up to a cursor. Ids of
one account grow in the order of commit, because each entry is written under the account's lock, so
the same entries always give the same lots. Consumption draws by priority, then earliest expiry,
then age; what no lot covers is debt, which the next credits repay first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import F, Max, OuterRef, Q, Subquery, Sum

from billing.models import Account, Draw, Entry, Fold, Grant, Lot
from saas_litellm.base.money import divide_half_even

REFUND_LOT_LIFETIME = timedelta(days=30)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Folding:
    """An account's lots and debt while its entries are gone over."""

    account_id: int
    debt: int
    lots: dict[int, Lot]
    # What each charge drew from each lot, less what refunds restored, in the order of drawing.
    drawn: dict[int, dict[int, int]]
    draws: list[Draw] = field(default_factory=list)

    def live(self) -> list[Lot]:
        """Lots with something left, in the order of consumption.

        A lot's age is its entry's: a refund's lot is made by whichever fold comes first.
        """
        return sorted(
            (lot for lot in self.lots.values() if lot.remaining_nanocredits > 0),
            key=lambda lot: (lot.priority, lot.expires_at or _NEVER, lot.grant.entry_id),
        )

    def apply(self, entry: Entry) -> None:
        if entry.kind == Entry.Kind.REFUND:
            self._restore(entry)
        elif entry.kind == Entry.Kind.EXPIRY:
            self._expire(entry)
        elif entry.amount_nanocredits > 0:
            self._bring_in(entry, entry.grant)
        else:
            self._consume(entry)

    def _bring_in(self, entry: Entry, grant: Grant) -> None:
        lot = self._new_lot(entry, grant, entry.amount_nanocredits)
        repaid = min(self.debt, lot.remaining_nanocredits)
        if repaid:
            self.debt -= repaid
            self._draw(lot, entry, Draw.Kind.REPAYMENT, repaid)

    def _consume(self, entry: Entry) -> None:
        is_charge = entry.kind == Entry.Kind.CHARGE
        wanted = -entry.amount_nanocredits
        kind = Draw.Kind.CHARGE if is_charge else Draw.Kind.ADJUSTMENT
        lots = self.live()
        if not is_charge and entry.corrects_id is not None:
            # A purchase that was paid back: what it brought goes first.
            kind = Draw.Kind.PAID_BACK
            lots.sort(key=lambda lot: lot.grant.entry_id != entry.corrects_id)
        for lot in lots:
            taken = min(wanted, lot.remaining_nanocredits)
            if taken == 0:
                break
            self._draw(lot, entry, kind, taken)
            wanted -= taken
            if is_charge:
                self.drawn[entry.pk][lot.grant_id] = taken
        self.debt += wanted

    def _expire(self, entry: Entry) -> None:
        lot = next(lot for lot in self.lots.values() if lot.grant.entry_id == entry.corrects_id)
        self._draw(lot, entry, Draw.Kind.EXPIRY, -entry.amount_nanocredits)
        lot.is_expired = True

    def _restore(self, entry: Entry) -> None:
        """Debt first, then the lots that the charge drew, last drawn first.

        What came from a lot that has expired since becomes a lot of its own, for 30 days; what
        came from none (debt, repaid since) becomes one that never expires.
        """
        left = entry.amount_nanocredits
        repaid = min(self.debt, left)
        self.debt -= repaid
        left -= repaid
        drawn = self.drawn[entry.corrects_id or 0]
        from_expired, paid = 0, 0
        for lot_id in reversed(list(drawn)):
            lot, given = self.lots[lot_id], min(left, drawn[lot_id])
            if given == 0:
                continue
            left -= given
            drawn[lot_id] -= given
            if _is_over(lot, entry.created_at):
                from_expired += given
                paid += self._move_out(lot, entry, given)
            else:
                self._draw(lot, entry, Draw.Kind.REFUND, -given)
        if from_expired or left:
            expires_at = None if left else entry.created_at + REFUND_LOT_LIFETIME
            grant = Grant.objects.create(
                entry=entry, kind=Grant.Kind.REFUND, paid_nano_usd=paid, expires_at=expires_at
            )
            self._new_lot(entry, grant, from_expired + left)

    def _move_out(self, lot: Lot, entry: Entry, amount: int) -> int:
        """Un-earn a part of an expired lot and move it on; returns what had been paid for it."""
        drawn = lot.amount_nanocredits - lot.remaining_nanocredits
        paid = _paid_share(lot, drawn) - _paid_share(lot, drawn - amount)
        for kind, sign in ((Draw.Kind.REFUND, -1), (Draw.Kind.TRANSFER, 1)):
            self.draws.append(
                Draw(
                    lot=lot,
                    entry=entry,
                    kind=kind,
                    amount_nanocredits=sign * amount,
                    paid_nano_usd=sign * paid,
                    at=entry.created_at,
                )
            )
        return paid

    def _new_lot(self, entry: Entry, grant: Grant, amount: int) -> Lot:
        lot = Lot(
            grant=grant,
            account_id=self.account_id,
            amount_nanocredits=amount,
            remaining_nanocredits=amount,
            paid_nano_usd=grant.paid_nano_usd,
            priority=grant.priority,
            expires_at=grant.expires_at,
        )
        self.lots[grant.pk] = lot
        return lot

    def _draw(self, lot: Lot, entry: Entry, kind: str, amount: int) -> None:
        before = lot.amount_nanocredits - lot.remaining_nanocredits
        lot.remaining_nanocredits -= amount
        self.draws.append(
            Draw(
                lot=lot,
                entry=entry,
                kind=kind,
                amount_nanocredits=amount,
                paid_nano_usd=_paid_share(lot, before + amount) - _paid_share(lot, before),
                at=entry.created_at,
            )
        )


def fold(account: Account) -> Folding:
    """Attribute every entry written so far, and store how far that came."""
    with transaction.atomic():
        Fold.objects.bulk_create([Fold(account=account)], ignore_conflicts=True)
        # The lock makes one fold at a time; nobody who charges or grants waits for it.
        Fold.objects.filter(pk=account.pk).update(entry_id=F("entry_id"))
        cursor = Fold.objects.get(pk=account.pk)
        entries = list(
            Entry.objects.filter(account=account, pk__gt=cursor.entry_id)
            .select_related("grant")
            .order_by("id")
        )
        folding = _begun(cursor, entries)
        for entry in entries:
            folding.apply(entry)
        if entries:
            _store(folding, entries[-1].pk)
    return folding


def live_lots(account: Account) -> list[Lot]:
    """The account's lots with something left, up to date, in the order of consumption."""
    if is_behind(account):
        fold(account)
    return kept_lots(account)


def is_behind(account: Account) -> bool:
    """Whether some entries are not attributed to lots yet; the worker does it within a round."""
    newest = Entry.objects.filter(account=account).aggregate(newest=Max("id"))["newest"] or 0
    return not Fold.objects.filter(pk=account.pk, entry_id__gte=newest).exists()


def kept_lots(account: Account) -> list[Lot]:
    """The same as far as the last fold came, for whoever only looks: it writes nothing."""
    return list(
        Lot.objects.filter(account=account, remaining_nanocredits__gt=0)
        .select_related("grant__entry")
        .order_by("priority", F("expires_at").asc(nulls_last=True), "grant__entry_id")
    )


def fold_all(account_ids: Iterable[int] | None = None) -> int:
    """Fold every account (of these) with entries beyond its cursor; returns how many it folded."""
    newest = Entry.objects.filter(account=OuterRef("pk")).order_by("-id").values("pk")[:1]
    # An index look-up for each account: the ledger itself is not gone through.
    accounts = Account.objects.annotate(newest=Subquery(newest)).filter(
        Q(fold=None, newest__isnull=False) | Q(fold__entry_id__lt=F("newest"))
    )
    if account_ids is not None:
        accounts = accounts.filter(pk__in=account_ids)
    behind = list(accounts)
    for account in behind:
        fold(account)
    return len(behind)


def _begun(cursor: Fold, entries: Iterable[Entry]) -> Folding:
    """The stored state, with every lot that one of these entries may touch."""
    refunded = {entry.corrects_id for entry in entries if entry.kind == Entry.Kind.REFUND}
    drawn: dict[int, dict[int, int]] = defaultdict(dict)
    net = (
        Draw.objects.filter(
            Q(entry__in=refunded, kind=Draw.Kind.CHARGE)
            | Q(entry__corrects__in=refunded, kind=Draw.Kind.REFUND)
        )
        .order_by("id")
        .values_list("entry_id", "entry__corrects_id", "kind", "lot_id", "amount_nanocredits")
    )
    for entry_id, corrects_id, kind, lot_id, amount in net:
        charge = drawn[entry_id if kind == Draw.Kind.CHARGE else corrects_id]
        charge[lot_id] = charge.get(lot_id, 0) + amount
    expired = [e.corrects_id for e in entries if e.kind == Entry.Kind.EXPIRY]
    touched = {lot_id for charge in drawn.values() for lot_id in charge}
    lots = Lot.objects.filter(
        Q(remaining_nanocredits__gt=0) | Q(pk__in=touched) | Q(grant__entry__in=expired),
        account=cursor.account_id,
    ).select_related("grant")
    return Folding(
        cursor.account_id, cursor.debt_nanocredits, {lot.grant_id: lot for lot in lots}, drawn
    )


def _store(folding: Folding, last_entry_id: int) -> None:
    changed = {draw.lot.grant_id for draw in folding.draws}
    for lot in folding.lots.values():
        if lot._state.adding or lot.grant_id in changed:
            lot.save()
    Draw.objects.bulk_create(folding.draws)
    Fold.objects.filter(pk=folding.account_id).update(
        entry_id=last_entry_id, debt_nanocredits=folding.debt
    )


def _is_over(lot: Lot, moment: datetime) -> bool:
    return lot.is_expired or (lot.expires_at is not None and lot.expires_at <= moment)


def _paid_share(lot: Lot, drawn: int) -> int:
    """Nano-USD paid for the first ``drawn`` credits of a lot: shares add up to the whole."""
    return divide_half_even(lot.paid_nano_usd * drawn, lot.amount_nanocredits)


def outstanding(account: Account) -> tuple[int, int]:
    """Σ remaining of the stored lots, and the stored debt, in nanocredits."""
    total = Lot.objects.filter(account=account).aggregate(total=Sum("remaining_nanocredits"))
    debt = Fold.objects.filter(pk=account.pk).values_list("debt_nanocredits", flat=True).first()
    return int(total["total"] or 0), debt or 0
