"""The boundary to the LLM providers: the only package that imports litellm, and knows no Django.

Dataclasses go in and out, litellm's exceptions become ProviderFailure, and nothing that names a
model or a provider leaves. litellm is imported on first use: it takes seconds.
"""

from jobs.gateway.boot import shut_down, warm_up
from jobs.gateway.exchange import Stream, complete, count_usage, embed, open_stream
from jobs.gateway.media import MAKERS
from jobs.gateway.types import (
    Answer,
    Chunk,
    Embedding,
    FailureKind,
    Media,
    ProviderFailure,
    Target,
)

__all__ = [
    "MAKERS",
    "Answer",
    "Chunk",
    "Embedding",
    "FailureKind",
    "Media",
    "ProviderFailure",
    "Stream",
    "Target",
    "complete",
    "count_usage",
    "embed",
    "open_stream",
    "shut_down",
    "warm_up",
]
