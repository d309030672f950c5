"""The API's schema where drf-spectacular and pydantic would say something else than we answer, and
what it says beside its paths: the events that are sent to webhook endpoints."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

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


class _Schema(GenerateJsonSchema):
    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """Amounts are JSON numbers, exact ones; pydantic alone would write them as text."""
        return {"type": "number"}

    def encode_default(self, dft: Any) -> Any:
        return float(dft) if isinstance(dft, Decimal) else super().encode_default(dft)


class BodyExtension(PydanticExtension):  # type: ignore[misc] # untyped
    """Bodies and answers that are pydantic models."""

    target_class = BaseModel
    priority = 1

    def map_serializer(self, auto_schema: Any, direction: str) -> Any:
        schema = self.target.model_json_schema(
            ref_template="#/components/schemas/{model}",
            mode="serialization",
            schema_generator=_Schema,
        )
        for name, part in schema.pop("$defs", {}).items():
            auto_schema.registry.register_on_missing(
                ResolvedComponent(
                    name=name, type=ResolvedComponent.SCHEMA, object=name, schema=part
                )
            )
        return schema


def with_webhooks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: a webhook for each type of event."""
    return {**result, "webhooks": {name: _webhook(shape) for name, shape in SHAPES.items()}}


def _webhook(shape: type[Told]) -> dict[str, Any]:
    envelope = Envelope.model_json_schema(mode="serialization", schema_generator=_Schema)
    properties = {
        **envelope["properties"],
        "type": {"const": shape.type},
        "data": shape.model_json_schema(mode="serialization", schema_generator=_Schema),
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
