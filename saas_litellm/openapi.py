"""What the schema says beside its paths: the events that are sent to webhook endpoints."""

from __future__ import annotations

from typing import Any

from saas_litellm.base.events import SHAPES, Envelope, Told

_SIGNED = [
    {
        "name": name,
        "in": "header",
        "required": True,
        "schema": {"type": "string"},
        "description": about,
    }
    for name, about in (
        ("webhook-id", "The event's id; the same whenever it is sent again."),
        ("webhook-timestamp", "When it was sent, in seconds since 1970."),
        ("webhook-signature", "Standard Webhooks signatures, one for each secret: v1,..."),
    )
]


def with_webhooks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: a webhook for each type of event."""
    return {**result, "webhooks": {name: _webhook(shape) for name, shape in SHAPES.items()}}


def _webhook(shape: type[Told]) -> dict[str, Any]:
    envelope = Envelope.model_json_schema(mode="serialization")
    properties = {
        **envelope["properties"],
        "type": {"const": shape.type},
        "data": shape.model_json_schema(mode="serialization"),
    }
    about = shape.about if shape.is_for_teams else f"{shape.about} For operators only."
    return {
        "post": {
            "operationId": f"event_{shape.type.replace('.', '_')}",
            "summary": shape.type,
            "description": about,
            "tags": ["events"],
            "parameters": _SIGNED,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            **envelope,
                            "properties": properties,
                            "required": [*envelope["required"], "data"],
                        }
                    }
                },
            },
            "responses": {"2XX": {"description": "Taken. Anything else is tried again."}},
        }
    }
