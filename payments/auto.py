"""Auto top-ups: one charge per need, one in flight per wallet, and never more than the ceiling.

A charge is a row before Stripe hears of it, and its id is the idempotency key there. Whoever dies
between asking Stripe and booking the answer leaves an open row: the next round finds out what came
of it, and asks again with the same key only where Stripe knows of nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, Sum

from billing.models import Account
from payments import checkout, customers, settlement, stripe_api
from payments.models import AutoTopUp, Customer, Package, Payment
from payments.refusals import NoCard, StripeAway, StripeRefused
from payments.stripe_api import Declined, Session
from saas_litellm.base import alarms, audit, clock
from saas_litellm.base.money import MAX_AMOUNT, from_nano
from saas_litellm.base.refusals import Invalid
from teams.models import Organization, Team

AT_ONCE = 200
# For so long a charge is asked for again, well within the day that Stripe keeps its key.
ASKS_FOR = timedelta(hours=1)


def configure(
    *,
    team: Team,
    account: Account,
    package: Package,
    threshold_nanocredits: int,
    monthly_ceiling_minor: int,
    is_on: bool,
    actor: str,
) -> AutoTopUp:
    """Buy ``package`` when the balance falls below the threshold, up to the ceiling in a month.

    Switching it on forgets earlier declines. Raises PaymentsOff, Invalid, NoCard.
    """
    stripe_api.require_on()
    if not 0 <= threshold_nanocredits <= MAX_AMOUNT:
        raise Invalid("A threshold is 0 or more credits.", param="threshold")
    if not package.amount_minor <= monthly_ceiling_minor <= MAX_AMOUNT:
        raise Invalid("The monthly ceiling is below the package's price.", param="monthly_ceiling")
    with transaction.atomic():
        top_up, _ = AutoTopUp.objects.get_or_create(account=account, defaults={"team": team})
        _lock(top_up)
        top_up.refresh_from_db()
        if is_on and not top_up.payment_method_id:
            raise NoCard
        before = _written(top_up)
        if is_on and not top_up.is_on:
            top_up.failures, top_up.next_try_at, top_up.last_error = 0, None, ""
        top_up.team, top_up.package, top_up.is_on = team, package, is_on
        top_up.threshold_nanocredits = threshold_nanocredits
        top_up.monthly_ceiling_minor = monthly_ceiling_minor
        top_up.needs_person = top_up.needs_person and is_on
        top_up.save()
        audit.record(
            actor=actor,
            action="auto_top_up.set",
            target=f"auto_top_up:{account.pk}",
            before=before,
            after=_written(top_up),
        )
    return top_up


def switch_off(*, top_up: AutoTopUp, actor: str) -> None:
    """From now on nothing is begun; a charge in flight is still booked."""
    with transaction.atomic():
        if AutoTopUp.objects.filter(pk=top_up.pk, is_on=True).update(
            is_on=False, needs_person=False
        ):
            audit.record(
                actor=actor,
                action="auto_top_up.off",
                target=f"auto_top_up:{top_up.pk}",
                before={"is_on": True},
                after={"is_on": False},
            )


def keep_card(session: Session) -> bool:
    """The card that a set-up session saved; an older session's does not replace a newer one's."""
    customer = Customer.objects.filter(key=session.customer_key).first()
    card = stripe_api.saved_card(session.setup_intent_id) if session.setup_intent_id else None
    if customer is None or card is None:
        return False
    saved_at = datetime.fromtimestamp(session.created, tz=clock.now().tzinfo)
    with transaction.atomic():
        kept = (
            AutoTopUp.objects.filter(pk=customer.pk)
            .filter(Q(card_saved_at=None) | Q(card_saved_at__lt=saved_at))
            .update(
                payment_method_id=card.payment_method_id,
                card=card.name[:60],
                card_saved_at=saved_at,
                failures=0,
                next_try_at=None,
                needs_person=False,
                last_error="",
            )
        )
        if kept:
            audit.record(
                actor=settlement.ACTOR,
                action="auto_top_up.card",
                target=f"auto_top_up:{customer.pk}",
                after={"card": card.name},
            )
    return True


def charge_due() -> int:
    """Finish what is in flight, then charge every wallet that needs it; returns how many moved.

    While Stripe does not answer, the rest waits for the next round.
    """
    if not stripe_api.is_on():
        return 0
    done = 0
    try:
        in_flight = Payment.objects.filter(kind=Payment.Kind.AUTO, state=Payment.State.OPEN)
        for payment in in_flight.select_related("account", "team")[:AT_ONCE]:
            done += int(finish(payment))
        for top_up in _due()[:AT_ONCE]:
            begun = begin(top_up)
            if begun is not None:
                done += 1
                finish(begun)
    except StripeAway:
        alarms.sound(kind="stripe.away", subject="auto top-ups", detail="Stripe does not answer.")
    return done


def begin(top_up: AutoTopUp) -> Payment | None:
    """The row of one charge, if it is needed now and the ceiling lets it; None if not."""
    now = clock.now()
    with transaction.atomic():
        if not _lock(top_up, now=now):
            return None
        top_up = AutoTopUp.objects.select_related("package", "team__organization", "account").get(
            pk=top_up.pk
        )
        auto = Payment.objects.filter(account=top_up.account_id, kind=Payment.Kind.AUTO)
        # First whether one is open, then the balance: one that is booked in between raises it.
        if auto.filter(state=Payment.State.OPEN).exists():
            return None
        balance = Account.objects.get(pk=top_up.account_id).balance_nanocredits
        package = top_up.package
        if package is None or balance >= top_up.threshold_nanocredits:
            return None
        if not _is_at_work(top_up.team):
            return None
        stopped_by = _obstacle(top_up, package, auto, now)
        if stopped_by:
            _stop(top_up, stopped_by)
            return None
        return Payment.objects.create(
            account=top_up.account,
            team=top_up.team,
            kind=Payment.Kind.AUTO,
            payment_method_id=top_up.payment_method_id,
            created_by="worker",
            created_at=now,
            **package.figures(),
        )


def finish(payment: Payment) -> bool:
    """Bring an open charge as far as it goes; whether it has come to an end. Raises StripeAway."""
    if payment.intent_id:
        return _has_ended(settlement.settle(payment.intent_id))
    customer_id = customers.stripe_id_of(payment.account)
    age = clock.now() - payment.created_at
    since = int((payment.created_at - ASKS_FOR).timestamp())
    if age > timedelta(seconds=1):
        intent_id = stripe_api.intent_of(
            customer_id=customer_id, payment_id=str(payment.pk), since=since
        )
        if intent_id:
            return _has_ended(settlement.settle(intent_id))
    if age > ASKS_FOR:
        return settlement.fail(
            payment, code="abandoned", message="Stripe could not be asked in time."
        )
    return _charge(payment, customer_id, since)


def _charge(payment: Payment, customer_id: str, since: int) -> bool:
    try:
        intent_id = stripe_api.charge_saved_card(
            {
                "amount": payment.amount_minor,
                "currency": payment.currency,
                "customer": customer_id,
                "payment_method": payment.payment_method_id,
                "metadata": checkout.metadata_of(payment),
            },
            key=f"auto-{payment.pk}",
        )
    except Declined as declined:
        if declined.intent_id:
            settlement.settle(declined.intent_id)
        return settlement.fail(payment, code=declined.code, message=declined.message) or True
    except StripeRefused as refused:
        intent_id = stripe_api.intent_of(
            customer_id=customer_id, payment_id=str(payment.pk), since=since
        )
        if not intent_id:
            return settlement.fail(payment, code="refused", message=refused.message)
    return _has_ended(settlement.settle(intent_id))


def _has_ended(payment: Payment | None) -> bool:
    return payment is not None and payment.state != Payment.State.OPEN


def _due() -> list[AutoTopUp]:
    now = clock.now()
    return list(
        AutoTopUp.objects.filter(
            Q(next_try_at=None) | Q(next_try_at__lte=now),
            is_on=True,
            needs_person=False,
            team__status=Team.Status.ACTIVE,
            team__organization__status=Organization.Status.ACTIVE,
            account__balance_nanocredits__lt=F("threshold_nanocredits"),
        )
    )


def _is_at_work(team: Team) -> bool:
    """Whoever was paused, by a dispute perhaps, is not charged."""
    is_open = team.organization.status == Organization.Status.ACTIVE
    return is_open and team.status == Team.Status.ACTIVE


def _lock(top_up: AutoTopUp, *, now: datetime | None = None) -> int:
    """The row's lock, by an UPDATE that changes nothing; with ``now``, only if it may be charged."""
    mine = AutoTopUp.objects.filter(pk=top_up.pk)
    if now is not None:
        mine = mine.filter(
            Q(next_try_at=None) | Q(next_try_at__lte=now), is_on=True, needs_person=False
        )
    return mine.update(failures=F("failures"))


def _obstacle(top_up: AutoTopUp, package: Package, auto: object, now: datetime) -> str:
    if not package.is_active:
        return "The package is no longer sold."
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    spent = auto.filter(  # type: ignore[attr-defined]
        created_at__gte=month,
        currency=package.currency,
        state__in=(Payment.State.OPEN, Payment.State.PAID),
    ).aggregate(total=Sum("amount_minor"))["total"]
    if (spent or 0) + package.amount_minor > top_up.monthly_ceiling_minor:
        return f"The ceiling of {now:%B %Y} is reached."
    return ""


def _stop(top_up: AutoTopUp, why: str) -> None:
    """Say it once: on the top-up, and to the operator."""
    if AutoTopUp.objects.filter(pk=top_up.pk).exclude(last_error=why).update(last_error=why):
        alarms.sound(kind="auto_top_up.stopped", subject=str(top_up.account), detail=why)


def _written(top_up: AutoTopUp) -> dict[str, object]:
    return {
        "package": str(top_up.package) if top_up.package_id else None,
        "threshold": str(from_nano(top_up.threshold_nanocredits)),
        "monthly_ceiling_minor": top_up.monthly_ceiling_minor,
        "is_on": top_up.is_on,
    }
