"""E-mails to a team's managers about payments that need them. Call these outside of transactions."""

from __future__ import annotations

import smtplib

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse

from payments.models import AutoTopUp, Payment
from saas_litellm.base import alarms
from teams import members
from teams.models import MemberRole, Membership


def confirm(top_up: AutoTopUp, payment: Payment) -> None:
    """The bank asks for a person: with a link to where the payment is made by hand."""
    _send(top_up, payment, subject="A payment needs you", template="payments/mail/confirm.txt")


def switched_off(top_up: AutoTopUp, payment: Payment) -> None:
    """The card was declined too often, and credits are no longer bought by themselves."""
    _send(
        top_up,
        payment,
        subject="Auto top-up is switched off",
        template="payments/mail/switched_off.txt",
    )


def _send(top_up: AutoTopUp, payment: Payment, *, subject: str, template: str) -> None:
    found = Membership.objects.filter(
        team=top_up.team, role=MemberRole.MANAGER, user__is_active=True
    ).exclude(user__email="")
    addresses = sorted(set(found.values_list("user__email", flat=True)))
    if not addresses or not members.is_mail_set_up():
        return
    given = {
        "top_up": top_up,
        "payment": payment,
        "portal_name": settings.PORTAL_NAME,
        "link": settings.PUBLIC_URL + reverse("portal:auto_top_up", args=[top_up.team.slug]),
    }
    for address in addresses:
        try:
            send_mail(
                f"{subject}: {top_up.team.name}",
                render_to_string(template, given),
                None,
                [address],
            )
        except (OSError, smtplib.SMTPException) as error:
            alarms.sound(kind="mail.failed", subject="payments", detail=type(error).__name__)
            return
