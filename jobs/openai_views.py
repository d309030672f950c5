"""The OpenAI paths: an application changes its base URL and its key, and nothing else.

A call belongs to the job that ``X-Job-Id`` names; without it to one made for it alone, of the type
that ``X-Job-Type`` names.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from jobs import answering, presentation
from jobs.answering import Style, ttl_of
from jobs.calls import Order
from jobs.intake import Errand
from jobs.lifecycle import NewJob
from jobs.models import Call
from jobs.openai_schemas import ChatCompletionRequest, EmbeddingsRequest
from jobs.streaming import OpenAIWire
from saas_litellm.base import http, idempotency
from saas_litellm.base.refusals import Invalid, MethodNotAllowed
from saas_litellm.base.standing import Memory
from teams import catalog
from teams.api import Body, Caller, documented, endpoint, guarded, json_body, signature
from teams.models import Alias

Given = TypeVar("Given", bound=Body)
DEFAULT_JOB_TYPE = "api"
_JOB_TYPE_LENGTH = 100


def errand_of(request: HttpRequest, order: Order) -> Errand:
    """The errand of a /v1 request. Raises Unauthenticated, or Invalid for headers that are wrong."""
    signed, key = signature(request), idempotency.key_of(request)
    job_id, job_type = request.headers.get("X-Job-Id"), request.headers.get("X-Job-Type")

    def who(memory: Memory) -> Caller:
        return signed.caller(team_slug=None, owner_slug=lambda: None, memory=memory)

    if job_id is not None:
        if job_type is not None:
            raise Invalid("Send X-Job-Id or X-Job-Type, not both.", param="X-Job-Type")
        try:
            wanted = UUID(job_id)
        except ValueError as error:
            raise Invalid("X-Job-Id is not a job's id.", param="X-Job-Id") from error
        return Errand(order=order, key=key, who=who, job_id=wanted)
    if job_type is not None and not 0 < len(job_type) <= _JOB_TYPE_LENGTH:
        raise Invalid("X-Job-Type is 1 to 100 characters.", param="X-Job-Type")
    return Errand(
        order=order,
        key=key,
        who=who,
        new_job=lambda caller, _: NewJob(
            team=caller.team,
            api_key=caller.api_key,
            job_type=job_type or DEFAULT_JOB_TYPE,
            is_single=True,
            actor=caller.actor,
        ),
    )


async def _chat(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, ChatCompletionRequest)
    order = Order(
        messages=body.plain_messages(),
        params=body.openai_params(),
        model=body.model,
        call_metadata=body.kept_metadata(),
        is_stream=bool(body.stream),
        cache_ttl=ttl_of(request, body.cache),
    )
    options, request_id = body.stream_options, http.request_id(request)
    is_usage_asked = options is not None and options.include_usage
    style = Style(
        whole=_completion,
        wire=lambda call: OpenAIWire(call, request_id=request_id, is_usage_asked=is_usage_asked),
        tells_cost=True,
    )
    return await answering.answer(errand_of(request, order), style)


def client_body(request: HttpRequest, model: type[Given]) -> Given:
    """The body of a client's POST, after a look at its key. Raises what either may raise."""
    if request.method != "POST":
        raise MethodNotAllowed
    signature(request)
    return json_body(request, model)


def _completion(call: Call, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{call.pk.hex}",
        "object": "chat.completion",
        "created": int(call.created_at.timestamp()),
        "model": call.alias.name,
        "choices": [
            {
                **choice,
                "logprobs": choice.get("logprobs"),
                "message": {"refusal": None, **choice["message"]},
            }
            for choice in choices
        ],
        "usage": presentation.openai_usage(call),
    }


async def _embeddings(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, EmbeddingsRequest)
    order = Order(
        texts=body.texts(),
        kind=Alias.Kind.EMBEDDING,
        params=body.params(),
        model=body.model,
        cache_ttl=ttl_of(request, body.cache),
    )
    is_packed = body.encoding_format == "base64"

    def whole(call: Call, vectors: Sequence[list[float]]) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _packed(vector) if is_packed else vector,
                }
                for index, vector in enumerate(vectors)
            ],
            "model": call.alias.name,
            "usage": {"prompt_tokens": call.prompt_tokens, "total_tokens": call.total_tokens},
        }

    return await answering.answer(errand_of(request, order), Style(whole=whole, tells_cost=True))


def _packed(vector: Sequence[float]) -> str:
    """OpenAI's base64 form: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _chat, {})


async def embeddings(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _embeddings, {})


@endpoint("GET", answer=presentation.ModelList, summary="List the models this team may use")
def list_models(caller: Caller) -> dict[str, Any]:
    """OpenAI's list: the team's aliases, and nothing of what stands behind them."""
    return {"object": "list", "data": [_model(alias) for alias in catalog.granted(caller.team)]}


@endpoint("GET", answer=presentation.ModelView, summary="Show one model this team may use")
def show_model(caller: Caller, name: str) -> dict[str, Any]:
    """Raises the same refusal for an unknown as for an ungranted alias."""
    return _model(catalog.find(team=caller.team, name=name))


def _model(alias: Alias) -> dict[str, Any]:
    return {
        "id": alias.name,
        "object": "model",
        "created": int(alias.created_at.timestamp()),
        "owned_by": "platform",
    }


documented(
    chat_completions,
    method="POST",
    request=ChatCompletionRequest,
    answers={200: presentation.OpenAIAnswer},
    summary="OpenAI's chat completions",
    description="Plain, or a stream of chat.completion.chunk with `stream`. Headers: `X-Job-Id` or"
    " `X-Job-Type` in; `X-Job-Id`, `X-Call-Id`, and on plain answers `X-Credits-Charged` and"
    " `X-Credits-Remaining` out.",
)
documented(
    embeddings,
    method="POST",
    request=EmbeddingsRequest,
    answers={200: presentation.OpenAIAnswer},
    summary="OpenAI's embeddings",
    description="Vectors of texts, by an alias for embeddings.",
)
