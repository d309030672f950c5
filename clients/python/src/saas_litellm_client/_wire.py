"""Between requests and HTTP, for both colours: options in, answers and errors out; when to retry."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
from pydantic import ValidationError

from saas_litellm_client import _refusals, errors
from saas_litellm_client._requests import Answered_co, Request
from saas_litellm_client._version import __version__
from saas_litellm_client.options import Retries, Timeouts

DEFAULT_URL = "http://localhost:8003"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Whom to ask as whom, and how patiently."""

    base_url: str
    team_id: str
    # Not shown: the key is among them.
    headers: dict[str, str] = field(repr=False)
    timeouts: Timeouts
    retries: Retries

    def attempts(self, total: float | None) -> Attempts:
        return Attempts(self.retries, self.timeouts, total=total)


def settings_of(
    *,
    base_url: str | None,
    api_key: str | None,
    team_id: str | None,
    timeouts: Timeouts | None,
    retries: Retries | None,
) -> Settings:
    """From arguments, else from SAAS_BASE_URL, SAAS_API_KEY and SAAS_TEAM_ID.

    Without a key only an open local demo answers. Raises ValueError without a team.
    """
    team = team_id or os.environ.get("SAAS_TEAM_ID")
    if not team:
        raise ValueError("Say which team: team_id=... or SAAS_TEAM_ID.")
    key = api_key or os.environ.get("SAAS_API_KEY")
    headers = {"User-Agent": f"saas-litellm-client/{__version__}", "Accept": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return Settings(
        base_url=(base_url or os.environ.get("SAAS_BASE_URL") or DEFAULT_URL).rstrip("/"),
        team_id=team,
        headers=headers,
        timeouts=timeouts or Timeouts(),
        retries=retries or Retries(),
    )


class Attempts:
    """The tries of one request: how many, and until when."""

    def __init__(self, retries: Retries, timeouts: Timeouts, *, total: float | None) -> None:
        self._retries, self._timeouts = retries, timeouts
        self._deadline = time.monotonic() + (timeouts.total if total is None else total)
        self._failed = 0
        # What the last try came to: who woke too late for another is told that.
        self._last: errors.ClientError | None = None

    def seconds_left(self) -> float:
        """Raises TimedOut when there are none, or what the last try came to."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._last or errors.TimedOut("No whole answer within the time for it.")
        return left

    def timeout(self, *, is_silent: bool) -> httpx.Timeout:
        left = self.seconds_left()
        read = left if is_silent else min(left, self._timeouts.read)
        return httpx.Timeout(left, connect=min(left, self._timeouts.connect), read=read)

    def wait_after(self, error: errors.ClientError) -> float:
        """Seconds to wait before the next try; raises the error when there is to be none.

        Waiting for what is under way anyway is no failed try, and ends by the time alone.
        """
        if not error.is_retryable or self._retries.count == 0:
            raise error
        self._last = error
        asked = (error.retry_after if isinstance(error, errors.ApiError) else None) or 0.0
        if isinstance(error, errors.ApiError) and error.is_waiting:
            wait = max(asked, self._retries.first_wait)
        else:
            self._failed += 1
            if self._failed > self._retries.count:
                raise error
            longest = min(
                self._retries.first_wait * 2.0 ** (self._failed - 1), self._retries.longest_wait
            )
            wait = max(asked, longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        if time.monotonic() + wait >= self._deadline:
            raise error
        return wait


@contextlib.contextmanager
def http_errors() -> Iterator[None]:
    """httpx's exceptions as this package's."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.DecodingError) as error:
        raise errors.UnexpectedAnswer(str(error)) from error
    except httpx.TimeoutException as error:
        raise errors.TimedOut(f"No answer in time ({type(error).__name__}).") from error
    except httpx.TransportError as error:
        raise errors.ConnectionFailed(f"No answer ({type(error).__name__}: {error}).") from error


@contextlib.contextmanager
def stream_errors() -> Iterator[None]:
    """The same within a stream, which cannot be asked for anew."""
    try:
        with http_errors():
            yield
    except errors.TimedOut:
        raise
    except errors.ConnectionFailed as error:
        raise errors.StreamCut("The connection ended before the stream did.") from error


def arguments(request: Request[Any]) -> dict[str, Any]:
    """What httpx needs of a request."""
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "params": dict(request.query) or None,
        "headers": request.headers,
    }


def read(request: Request[Answered_co], response: httpx.Response) -> Answered_co:
    """The answer in a whole response. Raises ApiError or UnexpectedAnswer."""
    if not response.is_success:
        raise refusal(response)
    try:
        return request.answer.model_validate(_json(response.content))
    except ValidationError as error:
        # Not the values: they may be the model's words.
        wrong = ", ".join(".".join(map(str, one["loc"])) or "body" for one in error.errors())
        raise errors.UnexpectedAnswer(
            f"{request.method} {request.path} answered without what it should have: {wrong}."
            " Is base_url right?"
        ) from None


def refusal(response: httpx.Response) -> errors.ApiError:
    return _refusals.of_answer(response.status_code, response.headers, _json(response.content))


def _json(content: bytes) -> Any:
    """Amounts keep their digits. None for what is no JSON."""
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        return None
