"""The API's schema where drf-spectacular and pydantic would say something else than we answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.contrib.pydantic import PydanticExtension
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


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
