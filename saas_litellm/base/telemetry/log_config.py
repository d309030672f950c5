"""What is logged, where and how: for Django's LOGGING."""

from __future__ import annotations

from typing import Any


def config(*, is_text: bool, level: str) -> dict[str, Any]:
    """Lines of text or JSON on the console, from ``level`` on; nothing of what libraries say about
    payloads."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "{asctime} {levelname} {name}: {message}{ids}", "style": "{"},
            "json": {"()": "saas_litellm.base.telemetry.context.Json"},
        },
        "filters": {
            "secret_paths": {"()": "saas_litellm.secret_paths.SecretPaths"},
            "ids": {"()": "saas_litellm.base.telemetry.context.WithIds"},
            "one_line": {"()": "saas_litellm.base.telemetry.context.OneLine"},
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": "text" if is_text else "json",
                "filters": ["secret_paths", "ids"],
            }
        },
        "root": {"handlers": ["console"], "level": level},
        # Libraries can log whole payloads, at DEBUG at least; prompts and answers stay out of every log.
        "loggers": {
            name: {"level": "CRITICAL", "propagate": False}
            for name in ("LiteLLM", "LiteLLM Router")
        }
        | {
            name: {"level": "WARNING"}
            for name in (
                *("anthropic", "aiohttp", "axes", "httpcore", "httpx", "openai", "redis"),
                *("stripe", "urllib3"),
            )
        }
        # Django's own handlers would write past the filter: without them all goes to the console above.
        | {name: {"level": "INFO", "propagate": True} for name in ("django", "django.server")}
        # Whoever scans the internet sends wrong Host headers.
        | {"django.security.DisallowedHost": {"filters": ["one_line"]}}
        # In JSON the server's own lines are objects too.
        | (
            {name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error")}
            if not is_text
            else {}
        )
        # A line of each request is ours (`observing.requests`): the server's has the query in it.
        | {"uvicorn.access": {"handlers": [], "propagate": False}},
    }
