"""Request bodies of pictures, speech, transcripts and rankings, and the units they may take."""

from __future__ import annotations

import io
import wave
from typing import Annotated, Any, Literal

from pydantic import Field

from jobs.openai_schemas import Model
from jobs.schemas import Json, Text
from saas_litellm.base.money import divide_up
from teams.api import Body

# Speech is hardly ever coded in less than 8 kbit/s, a byte a millisecond: longer than this no file
# can be. (Opus starts at 6 kbit/s; overrun covers what it hides.)
_BYTES_PER_MILLISECOND = 1
# Cohere counts a search for each 100 documents, and a document for each 500 tokens of one.
_DOCUMENTS_PER_SEARCH = 100
_BYTES_PER_DOCUMENT = 1500


class ImageRequest(Body):
    """OpenAI's image generation. Pictures come as ``b64_json``: an address would be a provider's."""

    model: Model
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    n: int = Field(1, ge=1, le=10)
    size: Annotated[str, Field(max_length=20, pattern=r"^(auto|\d{2,4}x\d{2,4})$")] | None = None
    quality: Annotated[str, Field(max_length=20)] | None = None
    style: Annotated[str, Field(max_length=20)] | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    response_format: Literal["b64_json"] | None = None
    user: Text | None = None

    def media(self) -> Json:
        return {"prompt": self.prompt, "n": self.n}

    def params(self) -> Json:
        names = {"size", "quality", "style", "background", "output_format", "user"}
        return self.model_dump(include=names, exclude_none=True)

    def milliunits(self) -> int:
        return 1000 * self.n


class SpeechRequest(Body):
    """OpenAI's text to speech."""

    model: Model
    input: Annotated[str, Field(min_length=1, max_length=20_000)]
    voice: Annotated[str, Field(min_length=1, max_length=100)]
    instructions: Annotated[str, Field(max_length=4096)] | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float | int | None = Field(None, ge=0.25, le=4)

    def media(self) -> Json:
        return {"input": self.input, "voice": self.voice}

    def params(self) -> Json:
        names = {"instructions", "response_format", "speed"}
        return self.model_dump(include=names, exclude_none=True)

    def milliunits(self) -> int:
        """A character is a thousandth of 1,000 of them."""
        return len(self.input)


class TranscriptionFields(Body):
    """OpenAI's transcription: the fields of its form beside ``file``."""

    model: Model
    language: Annotated[str, Field(max_length=10)] | None = None
    prompt: Annotated[str, Field(max_length=4096)] | None = None
    response_format: Literal["json", "verbose_json", "text"] = "json"
    temperature: Annotated[float, Field(ge=0, le=1, strict=False)] | None = None

    def params(self) -> Json:
        names = {"language", "prompt", "temperature"}
        form = "json" if self.response_format == "text" else self.response_format
        return {**self.model_dump(include=names, exclude_none=True), "response_format": form}


class RerankRequest(Body):
    """Cohere's and Jina's ranking of documents by a query."""

    model: Model
    query: Annotated[str, Field(min_length=1, max_length=100_000)]
    documents: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=1000)
    top_n: int | None = Field(None, ge=1, le=1000)
    return_documents: bool = False

    def media(self) -> Json:
        return {"query": self.query, "documents": self.documents, "return_documents": False}

    def params(self) -> Json:
        return self.model_dump(include={"top_n"}, exclude_none=True)

    def milliunits(self) -> int:
        counted = sum(
            max(1, divide_up(len(text.encode()), _BYTES_PER_DOCUMENT)) for text in self.documents
        )
        return 1000 * divide_up(counted, _DOCUMENTS_PER_SEARCH)


def milliseconds(content: bytes) -> int:
    """How long a recording is at most: a WAV file says it, any other by its size."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            told = divide_up(sound.getnframes() * 1000, sound.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError):
        told = 0
    return told or divide_up(len(content), _BYTES_PER_MILLISECOND)


def ranked(documents: list[str], parts: Any, *, is_shown: bool) -> list[Json]:
    """The places of documents, with their texts if asked for."""
    return [
        {**part, **({"document": {"text": documents[part["index"]]}} if is_shown else {})}
        for part in parts
    ]
