"""The boundary to the LLM providers: the only package that imports litellm, and knows no Django.

Dataclasses go in and out, litellm's exceptions become ProviderFailure, and nothing that names a
model or a provider leaves. litellm is imported on first use: it takes seconds.
"""

from jobs.gateway.boot import warm_up
from jobs.gateway.exchange import complete, embed, open_stream, shut_down
from jobs.gateway.media import MAKERS
from jobs.gateway.streams import Stream, count_usage
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
