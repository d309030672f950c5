from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from saas_litellm.base import shown


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{self.model.__name__} rows are never changed: add a new one.")

    def delete(self) -> NoReturn:
        raise TypeError(f"{self.model.__name__} rows are never deleted.")


class AppendOnly(models.Model):
    """Rows that are written once. Database triggers refuse an UPDATE by any other way in."""

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"{type(self).__name__} rows are never changed: add a new one.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} rows are never deleted.")


class AuditEntry(AppendOnly):
    """Who did what to which object, and why: written in the transaction of the change itself."""

    created_at = models.DateTimeField(db_index=True)
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200, db_index=True)
    reason = models.CharField(max_length=500, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True, help_text="Where it came from.")
    before = models.JSONField(null=True, blank=True, help_text="What changed, as it was.")
    after = models.JSONField(null=True, blank=True, help_text="What changed, as it is.")
    detail = models.JSONField(default=dict, blank=True)

    class Meta(AppendOnly.Meta):
        verbose_name_plural = "audit entries"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"


class Alarm(models.Model):
    """Something an operator should look at; repeated sightings count up on one row."""

    kind = models.CharField(max_length=60)
    subject = models.CharField(max_length=200)
    detail = models.CharField(max_length=1000, blank=True)
    sightings = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    alerted_at = models.DateTimeField(
        null=True, blank=True, help_text="When operators were last told, outside of the admin."
    )
    alerted_sightings = models.PositiveIntegerField(
        default=0, help_text="How many of its sightings they were told of."
    )
    next_alert_at = models.DateTimeField(
        null=True, blank=True, help_text="Not before; empty: at once."
    )

    class Meta:
        ordering = ("-last_seen_at",)
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], name="alarm_kind_subject_unique")
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}"


class Event(models.Model):
    """Something that happened, written in the transaction in which it did (``outbox``).

    Only the position is given later, once it can be seen.
    """

    type = models.CharField(max_length=40)
    team_id = models.BigIntegerField(null=True, blank=True)
    organization_id = models.BigIntegerField(null=True, blank=True)
    object_id = models.CharField(max_length=60)
    data = models.TextField(help_text="What it says: JSON as it is sent, its numbers exact.")
    key = models.CharField(
        max_length=100, null=True, blank=True, unique=True, help_text="Said once under this key."
    )
    created_at = models.DateTimeField(db_index=True)
    position = models.BigIntegerField(null=True, blank=True, unique=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["id"], condition=models.Q(position=None), name="event_unread")
        ]

    def __str__(self) -> str:
        return f"evt_{self.pk}"


class Listener(models.Model):
    """Somebody for whom events are written down: a team's, or without a team everybody's."""

    name = models.CharField(max_length=60, unique=True)
    team_id = models.BigIntegerField(null=True, blank=True)
    organization_id = models.BigIntegerField(null=True, blank=True)
    types = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Outbox(models.Model):
    """The one row whose lock lets one reader at a time give events their positions."""

    position = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"up to {self.position}"


class Standing(models.Model):
    """The one row that says whether what calls are admitted by is still as it was (``standing``)."""

    stamp = models.BigIntegerField(help_text="Another at random after each change.")

    def __str__(self) -> str:
        return f"{self.stamp}"


class LedgerCheck(models.Model):
    """One run over every row of the books, and what it found."""

    started_at = models.DateTimeField()
    seconds = models.FloatField()
    findings = models.PositiveIntegerField(help_text="Rows that break an invariant; 0: clean.")
    examples = models.JSONField(default=list, blank=True, help_text="The first of them.")

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {shown.counted(self.findings, 'finding')}"


class Heartbeat(models.Model):
    """When something that runs beside the web processes last did."""

    name = models.CharField(max_length=60, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%d %H:%M:%S}"


class IdempotencyRecord(models.Model):
    """The first request with an idempotency key, and, once it is done, what answered it."""

    scope = models.CharField(max_length=64, unique=True, help_text="Caller, path and key, hashed.")
    fingerprint = models.CharField(max_length=64, help_text="What was asked, hashed.")
    reference = models.CharField(max_length=60, blank=True, help_text="The work it started.")
    is_done = models.BooleanField(default=False)
    ciphertext = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.reference or self.scope[:12]
