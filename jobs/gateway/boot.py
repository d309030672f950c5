"""Importing litellm: once, lazily, with every setting that must stand before it loads."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

_lock = threading.Lock()
_library: Any = None


# To providers, of one process, where the environment says nothing else.
MOST_CONNECTIONS = "10000"


def warm_up() -> None:
    """Import litellm now (seconds, once); later calls return at once. Safe from any thread."""
    litellm()


def litellm() -> Any:
    """The library, imported and set up."""
    global _library  # noqa: PLW0603 - the import is what is being cached
    if _library is None:
        with _lock:
            if _library is None:
                _library = _imported()
    return _library


async def ready() -> Any:
    """The library; only where it is not imported yet, a thread does it meanwhile."""
    return _library if _library is not None else await asyncio.to_thread(litellm)


async def close() -> None:
    """Close litellm's HTTP clients, if it was ever used."""
    if _library is not None:
        await _library.close_litellm_async_clients()


def _none(*_: Any) -> int:
    return 0


def _imported() -> Any:
    # Prices and models come from the wheel: no download at import, no .env read, quiet logs.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    os.environ["LITELLM_LOG"] = "ERROR"
    # What bounds calls are the limits of teams and deployments. A pool that is full at 500 to one
    # host, as litellm's is, would keep the next stream waiting for as long as these talk.
    for bound in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST"):
        os.environ.setdefault(bound, MOST_CONNECTIONS)
    import litellm as library  # noqa: PLC0415 - the point of this module
    from openai._models import FinalRequestOptions  # noqa: PLC0415 - comes with the library

    from jobs.gateway import demo  # noqa: PLC0415 - subclasses a class of litellm's

    library.suppress_debug_info = True
    library.drop_params = False
    library.modify_params = False
    library.callbacks = []
    library.success_callback = []
    library.failure_callback = []
    library.turn_off_message_logging = True
    library.redact_messages_in_exceptions = True
    library.num_retries = None
    # Counting tokens of some models would fetch their tokenizers from a hub, in mid-call.
    library.disable_hf_tokenizer_download = True
    # Where litellm does not hand on that nothing is to be tried again (embeddings, pictures), the
    # client beneath it would ask twice more, unseen and uncounted. Every try is ours to make.
    setattr(FinalRequestOptions, "get_max_retries", _none)  # noqa: B010 - mypy refuses to assign
    library.cache = None
    library.user_url_validation = True
    library.custom_provider_map = [
        {"provider": demo.PROVIDER, "custom_handler": demo.DemoProvider()}
    ]
    library.utils.custom_llm_setup()
    return library
