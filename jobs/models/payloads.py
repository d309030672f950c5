from __future__ import annotations

from django.db import models

from jobs.models.work import Call


class Payload(models.Model):
    """What a call asked and what it was answered, sealed, for teams that want it kept."""

    call = models.OneToOneField(Call, models.PROTECT, related_name="payload", primary_key=True)
    ciphertext = models.TextField(help_text="JSON of request and answer, encrypted.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"payload of {self.call_id}"
