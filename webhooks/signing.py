"""Signatures as Standard Webhooks has them, by its own library."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
from standardwebhooks import Webhook

from saas_litellm.base import http
from saas_litellm.base.models import Event

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def message_of(event: Event) -> dict[str, Any]:
    """What is sent of an event."""
    return {
        "id": str(event),
        "type": event.type,
        "timestamp": event.created_at,
        "data": orjson.Fragment(event.data),
    }


def body_of(event: Event) -> bytes:
    """The message as bytes: the same at each attempt, its numbers exact."""
    return http.encode(message_of(event))


def headers_of(
    event: Event, body: bytes, *, secrets_: Iterable[str], at: datetime
) -> dict[str, str]:
    """Headers that say which message it is, when it is sent (UTC), and that it is ours."""
    signatures = [
        Webhook(secret).sign(msg_id=str(event), timestamp=at, data=body.decode())
        for secret in secrets_
    ]
    return {
        "content-type": "application/json",
        "user-agent": "Webhooks/1",
        "webhook-id": str(event),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
