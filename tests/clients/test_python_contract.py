"""The Python client and the platform agree: fields, codes, and what each code is raised as."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

import pytest
from pydantic import BaseModel

from saas_litellm_client import _refusals, _requests, answers, errors, options
from saas_litellm_client._requests import Request
from saas_litellm_client.errors import ApiError
from tests.clients import codes
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

JOB = UUID(int=1)


def test_every_code_of_the_platform_has_its_class() -> None:
    of_platform = {kind.code: kind for kind in codes.refusals()}
    known = _refusals.by_code()
    assert set(of_platform) - set(known) == codes.NOT_FOR_CLIENTS
    assert set(known) <= set(of_platform)
    assert len(known) >= 28
    for code, kind in known.items():
        assert kind.status == of_platform[code].status, code
    # One code has several refusals at the platform, and one class here.
    classes = [kind for kind in codes.below(ApiError) if kind.of_code]
    assert len(classes) == len(known)


def test_what_may_be_tried_again() -> None:
    assert {code for code, kind in _refusals.by_code().items() if kind.is_retryable} == {
        *("rate_limited", "provider_error", "model_unavailable", "overloaded", "provider_timeout"),
        *("request_in_progress", "calls_in_flight"),
    }


@pytest.mark.parametrize("code", sorted(_refusals.by_code()))
def test_an_error_is_raised_as_its_class_and_keeps_what_it_says(code: str) -> None:
    said = {
        "message": "No.",
        "type": "x",
        "code": code,
        "param": "model",
        "request_id": "req_1",
        "credits_needed": Decimal("0.5"),
    }
    error = _refusals.of_answer(499, {"Retry-After": "7"}, {"error": said})
    error = pickle.loads(pickle.dumps(error))
    assert type(error) is _refusals.by_code()[code]
    assert (error.code, error.message, error.status, error.type) == (code, "No.", 499, "x")
    assert (error.param, error.request_id, error.retry_after) == ("model", "req_1", 7)
    assert error.details == {"credits_needed": Decimal("0.5")}
    assert str(error) == f"No. ({code}, req_1)"


@pytest.mark.parametrize(
    ("status", "family", "is_retryable"),
    [
        (400, errors.InvalidRequest, False),
        (402, errors.PaymentRequired, False),
        (409, errors.Conflict, False),
        (418, errors.InvalidRequest, False),
        (500, errors.ServerError, False),
        (503, errors.Unavailable, True),
    ],
)
def test_a_code_of_a_newer_platform_is_of_its_status_family(
    status: int, family: type[ApiError], is_retryable: bool
) -> None:
    error = _refusals.of_answer(status, {}, {"error": {"message": "No.", "code": "quite_new"}})
    assert type(error) is family
    assert (error.code, error.is_retryable) == ("quite_new", is_retryable)


# --- Fields, by the schema ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    from django.test import Client

    return json.loads(Client().get("/openapi.json").content)


def fields(schema: Any, name: str) -> set[str]:
    return set(schema["components"]["schemas"][name]["properties"])


def names(typed: Any) -> set[str]:
    return set(typed.__annotations__) | {
        name for base in typed.__orig_bases__ for name in getattr(base, "__annotations__", ())
    }


def test_options_are_exactly_what_the_platform_takes(schema: Any) -> None:
    call, job = names(options.CallOptions), names(options.JobOptions)
    assert call == fields(schema, "CallRequest") - {"messages"}
    assert job == fields(schema, "CreateJob") - {"team_id", "job_type"}
    assert set(options.OneCallOptions.__annotations__) == call | job
    assert names(options.CacheOptions) == fields(schema, "Cache")
    query = schema["paths"]["/api/teams/{team_id}/jobs"]["get"]["parameters"]
    in_query = {one["name"] for one in query if one["in"] == "query"}
    assert names(options.JobFilter) == in_query - {"cursor"}


EVERY: dict[str, Any] = {"max_credits": 1, "quote_id": JOB, "metadata": {"a": 1}}
OF_TEAM: dict[str, Any] = {"team_id": "alice", "job_type": "x"}
REQUESTS: dict[str, Request[Any]] = {
    "/api/jobs/create": _requests.create_job(**OF_TEAM, options=EVERY),
    "/api/jobs/{job_id}/llm-call": _requests.call(job_id=JOB, messages="a", options={}),
    "/api/jobs/{job_id}/llm-call-stream": _requests.stream(job_id=JOB, messages="a", options={}),
    "/api/jobs/create-and-call": _requests.one_call(**OF_TEAM, messages="a", options=EVERY),
    "/api/jobs/create-and-call-stream": _requests.one_stream(
        **OF_TEAM, messages="a", options=EVERY
    ),
    "/api/jobs/{job_id}/complete": _requests.complete(
        job_id=JOB, status="failed", metadata={"a": 1}, outcome="none", error_message="x"
    ),
    "/api/jobs/{job_id}/cancel": _requests.cancel(job_id=JOB, reason="x"),
    "/api/jobs/{job_id}/metadata": _requests.set_metadata(job_id=JOB, metadata={"a": 1}),
    "/api/jobs/quote": _requests.quote(**OF_TEAM, model="m", messages="a", expected_calls=2),
    "/api/jobs/{job_id}": _requests.show_job(job_id=JOB),
    "/api/jobs/{job_id}/costs": _requests.show_costs(job_id=JOB),
    "/api/teams/{team_id}/jobs": _requests.list_jobs(
        team_id="alice", options={"limit": 1}, cursor="x"
    ),
    "/api/teams/{team_id}/usage": _requests.usage(
        team_id="alice", query={"period": "2026-01", "start": "x", "end": "x", "group_by": "day"}
    ),
    "/api/credits/teams/{team_id}/balance": _requests.balance(team_id="alice"),
}


@pytest.mark.parametrize("path", REQUESTS)
def test_what_is_sent_and_what_is_read_is_in_the_schema(schema: Any, path: str) -> None:
    request = REQUESTS[path]
    assert request.path == path.format(job_id=JOB, team_id="alice")
    operation = schema["paths"][path][request.method.lower()]
    in_query = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    assert {name.partition(".")[0] for name in request.query} <= in_query
    if request.content is not None:
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(json.loads(request.content)) <= set(resolved(schema, body)["properties"])
    (status,) = [status for status in operation["responses"] if status.startswith("2")]
    content = operation["responses"][status]["content"]
    if "stream" not in path:
        assert missing(schema, content["application/json"]["schema"], request.answer) == []


def resolved(schema: Any, part: Any) -> Any:
    """A part of the schema, its reference followed and its null left out."""
    if "$ref" in part:
        return resolved(schema, schema["components"]["schemas"][part["$ref"].rpartition("/")[2]])
    kinds = [kind for kind in part.get("anyOf", ()) if kind.get("type") != "null"]
    return resolved(schema, kinds[0]) if len(kinds) == 1 else part


def missing(schema: Any, part: Any, model: type[BaseModel]) -> list[str]:
    """Fields that the client reads and the schema has not, or does not promise."""
    told = resolved(schema, part)
    found: list[str] = []
    for called, field in model.model_fields.items():
        name = field.alias or called
        if name not in told["properties"]:
            found.append(f"{model.__name__}.{name}")
        elif field.is_required() and name not in told["required"]:
            found.append(f"{model.__name__}.{name} is not promised")
        for inner in models_in(field.annotation):
            inside = resolved(schema, told["properties"].get(name, {}))
            found += missing(schema, inside.get("items", inside), inner)
    return found


def models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def test_a_field_that_went_would_be_found(schema: Any) -> None:
    class Other(answers.Answer):
        nothing: str
        summary: answers.QuoteBasis

    part = {"$ref": "#/components/schemas/UsageView"}
    assert missing(schema, part, Other) == ["Other.nothing", "QuoteBasis.source"]


def test_answers_have_the_fields_of_the_schema(
    schema: Any, connect: Callable[..., Any], live: Live, alice: Company, provider: ProviderServer
) -> None:
    """What the schema promises is what is answered, inside and out."""
    provider.script(Reply(tool={"name": "a", "input": {}}, finish_reason="tool_calls"))
    asked = [{"type": "function", "function": {"name": "a"}}]
    one = connect().call("letter", "Hello", tools=asked)
    paths = {
        f"/api/jobs/{one.job_id}": "JobView",
        f"/api/jobs/{one.job_id}/costs": "CostsView",
        "/api/teams/alice/jobs": "JobList",
        "/api/teams/alice/usage?group_by=job_type": "UsageView",
        "/api/credits/teams/alice/balance": "BalanceView",
        "/api/credits/teams/alice/transactions": "TransactionList",
    }
    ask = {**OF_TEAM, "messages": [{"role": "user", "content": "a"}]}
    with live.client(alice.headers) as http:
        told = [(name, http.get(path).json()) for path, name in paths.items()]
        made = http.post("/api/jobs/create-and-call", json=ask).json()
        closed = http.post(f"/api/jobs/{made['job_id']}/complete", json={}).json()
        quote = http.post("/api/jobs/quote", json=OF_TEAM).json()
    told += [("CreatedAndCalled", made), ("ClosedJob", closed), ("QuoteView", quote)]
    for name, answer in told:
        assert strays(schema, {"$ref": f"#/components/schemas/{name}"}, answer, name) == []


def strays(schema: Any, part: Any, value: Any, place: str) -> list[str]:
    """Fields answered that the schema has not, and promised ones that were not answered."""
    told = resolved(schema, part)
    if isinstance(value, list):
        return [one for item in value for one in strays(schema, told.get("items", {}), item, place)]
    if not isinstance(value, dict) or "properties" not in told:
        return []
    absent = set(told.get("required", ())) - set(value)
    found = [f"{place}.{name}" for name in absent | (set(value) - set(told["properties"]))]
    for name in set(value) & set(told["properties"]):
        found += strays(schema, told["properties"][name], value[name], f"{place}.{name}")
    return found
