"""The API reference, from the OpenAPI schema: a page for each part of the paths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from tests.reference.tables import code, prose, slug, table

Schema = dict[str, Any]
# The first of these that a path begins with names its page; any other path has a page of its
# first part.
PARTS: tuple[tuple[str, str, str], ...] = (
    ("/v1/", "v1", "For clients of OpenAI and Anthropic"),
    ("/api/jobs/{job_id}/waive", "credits", ""),
    ("/api/jobs", "jobs", "Jobs and calls"),
    ("/api/teams/{team_id}/jobs", "jobs", ""),
    ("/api/teams/{team_id}/usage", "jobs", ""),
    ("/api/teams/{team_id}/plan", "plans", ""),
    ("/api/plans", "plans", "Price plans"),
    ("/api/credits", "credits", "Credits and budgets"),
    ("/api/stripe", "credits", ""),
    ("/api/budgets", "credits", ""),
    ("/api/reconciliations", "reports", ""),
    ("/api/reports", "reports", "Reports and reconciliation"),
)
TITLES = {part: title for _, part, title in PARTS if title}
METHODS = ("get", "post", "put", "patch", "delete")
WHO = {"teamKey": "a team's key", "operatorKey": "an operator's key or session"}
_LIMITS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "not empty",
    "maxLength": "at most {} characters",
    "minItems": "not empty",
    "maxItems": "at most {}",
}


def schema() -> Schema:
    made = SchemaGenerator().get_schema(request=None, public=True)
    read: Schema = json.loads(OpenApiJsonRenderer().render(made, renderer_context={}))
    return read


def operations(of: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Method, path, operation; in the order of a job's life, then by path."""
    order = ["create", "llm-call", "llm-call-stream", "complete", "cancel"]

    def rank(path: str) -> tuple[int, str]:
        last = path.rpartition("/")[2]
        return (order.index(last) if last in order else len(order), path)

    for path in sorted(of["paths"], key=rank):
        for method in METHODS:
            if method in of["paths"][path]:
                yield method.upper(), path, of["paths"][path][method]


def pages() -> dict[str, str]:
    whole = schema()
    parts: dict[str, list[tuple[str, str, Schema]]] = {}
    for method, path, operation in operations(whole):
        parts.setdefault(_part(path), []).append((method, path, operation))
    return {f"api-{part}.md": _page(part, found, whole) for part, found in parts.items()}


def _part(path: str) -> str:
    named = (part for prefix, part, _ in PARTS if path.startswith(prefix))
    return next(named, path.strip("/").split("/")[1])


def _page(part: str, found: list[tuple[str, str, Schema]], whole: Schema) -> str:
    shapes = whole["components"]["schemas"]
    title = TITLES.get(part, part.replace("-", " ").capitalize())
    overview = table(
        ["", "path", "does"],
        [[m, code(path), f"[{op['summary']}](#{slug(op['summary'])})"] for m, path, op in found],
    )
    wanted: list[str] = []
    named = Counter(ref for *_, operation in found for ref in _refs(operation))
    # What several operations of the page take or answer stands once, at its end.
    shared = {ref for ref, times in named.items() if times > 1}
    sections = [_operation(*one, shapes, shared, wanted) for one in found]
    # The list grows while shapes name others.
    sections.extend(_shape(name, shapes[name], wanted) for name in wanted)
    top = f"# API: {title}\n\nKeys, errors and what all paths share: [the API](../api.md).\n\n"
    return top + overview + "\n" + "\n".join(sections)


def _operation(
    method: str,
    path: str,
    operation: Schema,
    shapes: Schema,
    shared: set[str],
    wanted: list[str],
) -> str:
    keys = [WHO[name] for need in operation.get("security", []) for name in need]
    who = " or ".join(keys) or "no key: it is signed"
    lines = [
        f"## {operation['summary']}\n",
        f"`{method} {path}` with {who}. {prose(operation.get('description', ''))}\n",
    ]
    for place in ("path", "query", "header"):
        given = [p for p in operation.get("parameters", []) if p["in"] == place]
        if given and place != "path":
            rows = [
                [code(p["name"]), _type(p["schema"], wanted), prose(p.get("description", ""))]
                for p in given
            ]
            lines.append(table([place, "type", ""], rows))
    body = _json(operation.get("requestBody", {}))
    if body:
        lines.append(_whole("field", body, shapes, shared, wanted))
    for status, answer in operation["responses"].items():
        if status != "default":
            lines.append(_answer(status, answer, shapes, shared, wanted))
    return "\n".join(lines)


def _json(carrier: Schema) -> Schema:
    found: Schema = carrier.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _refs(operation: Schema) -> Iterator[str]:
    for carrier in (operation.get("requestBody", {}), *operation["responses"].values()):
        if ref := _json(carrier).get("$ref"):
            yield ref


def _whole(head: str, given: Schema, shapes: Schema, shared: set[str], wanted: list[str]) -> str:
    if given.get("$ref") in shared:
        return f"{'Body' if head == 'field' else 'Answer'}: {_type(given, wanted)}.\n"
    return _fields(head, _resolved(given, shapes), wanted)


def _answer(
    status: str, answer: Schema, shapes: Schema, shared: set[str], wanted: list[str]
) -> str:
    kinds = answer.get("content", {})
    told = prose(answer.get("description", ""))
    if "application/json" not in kinds:
        return f"Answers {status}, {' or '.join(map(code, kinds)) or 'empty'}. {told}\n"
    rest = "".join(f", or {code(kind)}" for kind in kinds if kind != "application/json")
    heading = f"Answers {status}{rest}. {told}".strip() + "\n"
    return heading + "\n" + _whole("answer", _json(answer), shapes, shared, wanted)


def _fields(head: str, shape: Schema, wanted: list[str]) -> str:
    if "properties" not in shape:
        return f"{head.capitalize()}: {_type(shape, wanted)}.\n"
    needed = set(shape.get("required", []))
    rows = []
    for name, field in shape["properties"].items():
        mark = " \\*" if name in needed and head == "field" else ""
        rows.append([code(name) + mark, _type(field, wanted), _meaning(field)])
    note = "\n\\* required\n" if head == "field" and needed else ""
    return table([head, "type", ""], rows) + note


def _shape(name: str, shape: Schema, wanted: list[str]) -> str:
    told = prose(shape.get("description", ""))
    fields = _fields("field", shape, wanted)
    return f"## {name}\n\n{told}\n\n{fields}" if told else f"## {name}\n\n{fields}"


def _type(field: Schema, wanted: list[str]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if name not in wanted:
            wanted.append(name)
        return f"[{name}](#{slug(name)})"
    for many in ("anyOf", "oneOf", "allOf"):
        if many in field:
            return " or ".join(dict.fromkeys(_type(one, wanted) for one in field[many]))
    if "enum" in field:
        return ", ".join(code(json.dumps(one)) for one in field["enum"])
    if "const" in field:
        return code(json.dumps(field["const"]))
    kind = str(field.get("type", "any"))
    if kind == "array":
        return f"array of {_type(field.get('items', {}), wanted)}"
    extra = field.get("additionalProperties")
    if kind == "object" and isinstance(extra, dict):
        return f"object of {_type(extra, wanted)}"
    return f"{kind} ({field['format']})" if "format" in field else kind


def _meaning(field: Schema) -> str:
    told = [prose(field["description"]).rstrip(".")] if "description" in field else []
    if field.get("default") not in (None, "", [], {}):
        told.append(f"default {code(json.dumps(field['default']))}")
    for one in (field, *field.get("anyOf", [])):
        told += [text.format(one[name]) for name, text in _LIMITS.items() if name in one]
        told += [f"matches {code(one['pattern'])}"] if "pattern" in one else []
    return "; ".join(told)


def _resolved(shape: Schema, shapes: Schema) -> Schema:
    found: Schema = shapes[shape["$ref"].rpartition("/")[2]] if "$ref" in shape else shape
    return found
