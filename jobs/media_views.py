"""/v1/images/generations, /v1/audio/transcriptions, /v1/audio/speech and /v1/rerank."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import BadRequest
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes

from jobs import answering, media_schemas
from jobs.answering import Style
from jobs.calls import Order
from jobs.media_schemas import ImageRequest, RerankRequest, SpeechRequest, TranscriptionFields
from jobs.models import Call
from jobs.openai_views import client_body, errand_of
from jobs.presentation import OpenAIAnswer
from saas_litellm.base.refusals import Invalid, MethodNotAllowed, UnsupportedMediaType
from teams.api import documented, guarded, parse, signature
from teams.models import Alias

_SOUND = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


async def _image(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, ImageRequest)
    order = Order(
        kind=Alias.Kind.IMAGE,
        texts=[body.prompt],
        media=body.media(),
        params=body.params(),
        milliunits=body.milliunits(),
        model=body.model,
        cache_ttl=0,
    )

    def whole(call: Call, parts: Sequence[Any]) -> dict[str, Any]:
        return {"created": int(call.created_at.timestamp()), "data": list(parts)}

    return await answering.answer(errand_of(request, order), Style(whole=whole, tells_cost=True))


async def _speech(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, SpeechRequest)
    order = Order(
        kind=Alias.Kind.SPEECH,
        texts=[body.input],
        media=body.media(),
        params=body.params(),
        milliunits=body.milliunits(),
        model=body.model,
        cache_ttl=0,
    )

    def whole(call: Call, parts: Sequence[Any]) -> HttpResponse:
        sound = base64.b64decode(parts[0]["audio"])
        return HttpResponse(sound, content_type=_SOUND[body.response_format])

    return await answering.answer(errand_of(request, order), Style(whole=whole, tells_cost=True))


async def _transcription(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    if request.method != "POST":
        raise MethodNotAllowed
    signature(request)
    fields, name, content = _form(request)
    order = Order(
        kind=Alias.Kind.TRANSCRIPTION,
        media={"file": (name, content)},
        params=fields.params(),
        milliunits=media_schemas.milliseconds(content),
        model=fields.model,
        cache_ttl=0,
    )

    def whole(call: Call, parts: Sequence[Any]) -> dict[str, Any] | HttpResponse:
        if fields.response_format == "text":
            return HttpResponse(f"{parts[0]['text']}\n", content_type="text/plain; charset=utf-8")
        if fields.response_format == "json":
            return {"text": parts[0]["text"]}
        return {"task": "transcribe", **parts[0]}

    return await answering.answer(errand_of(request, order), Style(whole=whole, tells_cost=True))


def _form(request: HttpRequest) -> tuple[TranscriptionFields, str, bytes]:
    """The fields, the file's name without what a path may hide in it, and the file."""
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType("Send a form: Content-Type multipart/form-data.")
    # Read as a whole first: whoever asks for the body again (an idempotency key) finds it.
    assert request.body is not None
    try:
        given, files = request.POST, request.FILES
    except (MultiPartParserError, BadRequest) as error:
        raise Invalid("The form cannot be read.") from error
    if list(files) != ["file"] or len(files.getlist("file")) != 1:
        raise Invalid("Send one recording, in the field file.", param="file")
    if any(len(given.getlist(field)) > 1 for field in given):
        raise Invalid("Send each field once.")
    upload = files["file"]
    assert isinstance(upload, UploadedFile), "one file was counted above"
    content = upload.read()
    if not content:
        raise Invalid("The recording is empty.", param="file")
    return parse(TranscriptionFields, dict(given.items())), upload.name or "audio", content


async def _rerank(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
    body = client_body(request, RerankRequest)
    order = Order(
        kind=Alias.Kind.RERANK,
        texts=[body.query, *body.documents],
        media=body.media(),
        params=body.params(),
        milliunits=body.milliunits(),
        model=body.model,
        cache_ttl=0,
    )

    def whole(call: Call, parts: Sequence[Any]) -> dict[str, Any]:
        results = media_schemas.ranked(body.documents, parts, is_shown=body.return_documents)
        return {"id": f"rerank-{call.pk.hex}", "model": call.alias.name, "results": results}

    return await answering.answer(errand_of(request, order), Style(whole=whole, tells_cost=True))


async def create_image(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _image, {})


async def create_speech(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _speech, {})


async def create_transcription(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _transcription, {})


async def create_ranking(request: HttpRequest) -> HttpResponseBase:
    return await guarded(request, _rerank, {})


documented(
    create_image,
    method="POST",
    request=ImageRequest,
    answers={200: OpenAIAnswer},
    summary="OpenAI's image generation",
    description="Pictures as base64, paid by the picture.",
)
documented(
    create_speech,
    method="POST",
    request=SpeechRequest,
    answers={(200, "audio/mpeg"): OpenApiTypes.BINARY},
    summary="OpenAI's text to speech",
    description="Sound, paid by the character.",
)
documented(
    create_transcription,
    method="POST",
    request=TranscriptionFields,
    answers={200: OpenAIAnswer},
    summary="OpenAI's transcription",
    description="A form (multipart/form-data) of these fields and the recording in `file`; paid by"
    " the second.",
)
documented(
    create_ranking,
    method="POST",
    request=RerankRequest,
    answers={200: OpenAIAnswer},
    summary="Rank documents by a query",
    description="Cohere's and Jina's shape, paid by the search.",
)
