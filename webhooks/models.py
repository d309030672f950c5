"""Endpoints, their secrets, and what was sent to them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from saas_litellm.base.models import Event
from teams.models import Team


class Endpoint(models.Model):
    """An address that hears events: a team's own, or without a team the operators'."""

    team = models.ForeignKey(Team, models.PROTECT, null=True, blank=True, related_name="endpoints")
    url = models.CharField("URL", max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    types = models.JSONField(help_text="The types of events that it hears.")
    is_active = models.BooleanField(default=True)
    disabled_reason = models.CharField(
        max_length=200, blank=True, help_text="Why it was switched off by itself."
    )
    created_at = models.DateTimeField()
    # Its health. A lease is what lets one worker at a time write to it.
    failures = models.PositiveIntegerField(default=0, help_text="One after the other, by now.")
    failing_since = models.DateTimeField(null=True, blank=True)
    resting_until = models.DateTimeField(null=True, blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    last_failure_at = models.DateTimeField(null=True, blank=True)
    leased_by = models.CharField(max_length=32, blank=True)
    leased_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"endpoint {self.pk} of {self.team or 'the platform'}"

    @property
    def listener(self) -> str:
        """Its name in the outbox."""
        return f"endpoint:{self.pk}"


class Secret(models.Model):
    """What an endpoint's messages are signed with; an older one goes on beside the newest."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="secrets")
    ciphertext = models.TextField(editable=False)
    created_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"secret {self.pk}"


class Delivery(models.Model):
    """One event on its way to one endpoint."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    class Cause(models.TextChoices):
        EVENT = "event"
        TEST = "test"
        RESEND = "resend", "sent again"

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, models.CASCADE, related_name="+")
    cause = models.CharField(max_length=6, choices=Cause.choices, default=Cause.EVENT)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(help_text="Not tried before.")
    gives_up_at = models.DateTimeField()
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "deliveries"
        permissions = (("resend_delivery", "Can send events again"),)
        constraints = [
            models.CheckConstraint(
                condition=Q(status="pending", finished_at=None)
                | Q(status__in=["delivered", "failed"], finished_at__isnull=False),
                name="delivery_finished_or_pending",
            )
        ]
        indexes = [
            models.Index(
                fields=["endpoint", "id"], condition=Q(status="pending"), name="delivery_pending"
            ),
            models.Index(fields=["endpoint", "-id"], name="delivery_list"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.endpoint}"


class Attempt(models.Model):
    """One request. Without an end, its worker died over it."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    started_at = models.DateTimeField()
    milliseconds = models.PositiveIntegerField(null=True, blank=True)
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    failure = models.CharField(max_length=200, blank=True)
    excerpt = models.CharField(
        max_length=500, blank=True, help_text="How the answer's body begins."
    )

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.delivery_id}"
