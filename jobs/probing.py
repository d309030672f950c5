"""Probing: call a deployment, or every one, once and say how it is.

``prepare``, ``ask`` and ``conclude`` are the three parts of it: database, network, database.
"""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs import costs, gateway, routing
from jobs.gateway import FailureKind, ProviderFailure, Target
from jobs.usage import Usage
from saas_litellm.base.money import from_nano
from teams import catalog, health, prices
from teams.catalog import PricedDeployment
from teams.models import Alias, Deployment
from teams.prices import BadPrice, UnitPrices
from teams.refusals import ModelUnavailable

_MESSAGES = [{"role": "user", "content": "Answer with the word OK."}]
_MAX_TOKENS = 16
# What the message above is at most, by any provider's tokenizer and framing.
_PROMPT_TOKENS = 64
# The least that can be asked of what is paid by the unit, and the units that it takes at most.
_SAMPLES: Mapping[str, tuple[Mapping[str, Any], int]] = {
    Alias.Kind.IMAGE: ({"prompt": "A white square.", "n": 1}, 1000),
    Alias.Kind.SPEECH: ({"input": "OK", "voice": "alloy"}, 2),
    Alias.Kind.RERANK: ({"query": "OK", "documents": ["OK"]}, 1000),
}


# What to do about each kind of failure, for who set the deployment up.
ADVICE: Mapping[FailureKind, str] = {
    FailureKind.CREDENTIALS: "The provider does not accept the key: check the credential, and"
    " enter the key again.",
    FailureKind.NOT_FOUND: "The provider knows no such model or address: check the model string,"
    " the credential's API base, and that the account has access to the model.",
    FailureKind.TIMEOUT: "No answer in time: try again; if it stays so, check the API base and the"
    " provider's status page.",
    FailureKind.CONNECTION: "No connection: check the API base, and that this server may reach it.",
    FailureKind.RATE_LIMITED: "The provider is limiting this account: wait, or raise the limits"
    " there.",
    FailureKind.SERVER_ERROR: "The provider failed by itself, or something else answered at that"
    " address: try again; if it stays so, see its status page and check the API base.",
    FailureKind.GARBLED: "Something answered that does not speak the provider's protocol: check"
    " the API base and the model string.",
    FailureKind.INVALID_REQUEST: "The provider refused the request: read what it said, and check"
    " the model string and the credential's settings.",
    FailureKind.UNSUPPORTED_PARAMETER: "The model does not take one of the parameters of the test:"
    " calls that do not send it may work.",
    FailureKind.CONTEXT_WINDOW: "Even a short text is too long for it: check the model string.",
    FailureKind.CONTENT_FILTERED: "Its content filter refused a harmless text: check its settings"
    " at the provider.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one deployment answered; the cost is what asking it once cost, in USD."""

    deployment: str
    is_well: bool
    detail: str
    latency_ms: int = 0
    cost_usd: str = "0"
    advice: str = ""


@dataclass(slots=True, kw_only=True)
class Probe:
    """One deployment on its way through the three parts; ``problem``: why it cannot be asked."""

    deployment: Deployment
    sheet: UnitPrices | None = None
    api_key: str | None = None
    problem: str = ""
    usage: Usage | None = None
    failure: ProviderFailure | None = None
    latency_ms: int = 0


def probe(*, alias: str = "", timeout_seconds: float = 30) -> list[Finding]:
    """Ask every active deployment (of one alias), all at once, and tell the breakers.

    Sync; makes real and paid requests of a few tokens each, which belong to no team's job.
    """
    deployments = Deployment.objects.filter(is_active=True, alias__is_active=True)
    if alias:
        deployments = deployments.filter(alias__name=alias)
    probes = [
        prepare(deployment)
        for deployment in deployments.select_related("alias", "credential", "health").order_by(
            "alias__name", "priority", "id"
        )
    ]
    asyncio.run(_ask_all([one for one in probes if one.sheet is not None], timeout_seconds))
    return [conclude(one) for one in probes]


def most_nano_usd(one: Probe) -> int:
    """What asking can cost at most."""
    if one.sheet is None:
        return 0
    kind = one.deployment.alias.kind
    milliunits = 1000 if kind == Alias.Kind.TRANSCRIPTION else _SAMPLES.get(kind, ({}, 0))[1]
    return costs.worst_cost_nano_usd(
        prices=one.sheet,
        prompt_tokens=_PROMPT_TOKENS,
        output_tokens=0 if kind == Alias.Kind.EMBEDDING else _MAX_TOKENS,
        milliunits=milliunits,
    )


def prepare(deployment: Deployment) -> Probe:
    """Find what it costs and how to sign in to it; database."""
    key = deployment.effective_price_key
    row = prices.current([key]).get(key)
    try:
        sheet = catalog.usable_prices(row, kind=deployment.alias.kind)
        priced = PricedDeployment(
            deployment=deployment, prices=sheet, credential=deployment.credential
        )
        return Probe(deployment=deployment, sheet=sheet, api_key=catalog.open_secret(priced))
    except BadPrice as error:
        return Probe(deployment=deployment, problem=f"{error}: calls leave it out")
    except ModelUnavailable:
        return Probe(deployment=deployment, problem="its credential cannot be decrypted")


async def _ask_all(probes: list[Probe], timeout_seconds: float) -> None:
    try:
        await asyncio.gather(*(ask(one, timeout_seconds=timeout_seconds) for one in probes))
    finally:
        await gateway.shut_down()


async def ask(one: Probe, *, timeout_seconds: float) -> None:
    """Ask it and write down how it answered, or that it did not in time; no database."""
    # Importing litellm takes seconds that are not the provider's.
    await asyncio.to_thread(gateway.warm_up)
    credential = one.deployment.credential
    target = Target(
        model=one.deployment.model,
        api_key=one.api_key,
        api_base=(credential.api_base or None) if credential else None,
        extra=credential.extra if credential else {},
        timeout_seconds=timeout_seconds,
    )
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_seconds):
            one.usage = await _usage(target, one.deployment.alias.kind)
    except ProviderFailure as failure:
        one.failure = failure
    except TimeoutError:
        one.failure = ProviderFailure(FailureKind.TIMEOUT)
    one.latency_ms = round((time.monotonic() - started) * 1000)


async def _usage(target: Target, kind: str) -> Usage:
    if kind == Alias.Kind.TRANSCRIPTION:
        silence: Mapping[str, Any] = {"file": ("silence.wav", _silence())}
        heard = await gateway.MAKERS[kind](target=target, media=silence, params={}, milliunits=1000)
        return heard.usage
    if kind in _SAMPLES:
        media, milliunits = _SAMPLES[kind]
        made = await gateway.MAKERS[kind](
            target=target, media=media, params={}, milliunits=milliunits
        )
        return made.usage
    if kind == Alias.Kind.EMBEDDING:
        return (await gateway.embed(target=target, texts=["OK"], params={})).usage
    answer = await gateway.complete(
        target=target, messages=_MESSAGES, params={"max_tokens": _MAX_TOKENS}
    )
    return answer.usage


def _silence() -> bytes:
    """A second of it, as WAV."""
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    return written.getvalue()


def _counted(usage: Usage) -> str:
    if usage.milliunits:
        return f"{from_nano(usage.milliunits * 10**6)} units"
    return f"{usage.total_tokens} tokens"


def conclude(one: Probe) -> Finding:
    """Tell the circuit breaker, and say how it went; database."""
    name = f"{one.deployment.alias}: {one.deployment.model}"
    if one.sheet is None:
        return Finding(deployment=name, is_well=False, detail=one.problem)
    if one.usage is None:
        assert one.failure is not None
        if routing.is_fault(one.failure):
            health.failed(deployment_id=one.deployment.pk, reason=one.failure.kind)
        detail = f"{one.failure.kind}: {one.failure.detail}".rstrip(": ")
        return Finding(
            deployment=name,
            is_well=False,
            detail=detail,
            latency_ms=one.latency_ms,
            advice=ADVICE.get(one.failure.kind, ""),
        )
    health.answered(getattr(one.deployment, "health", None))
    cost = costs.provider_cost_nano_usd(prices=one.sheet, usage=one.usage)
    return Finding(
        deployment=name,
        is_well=True,
        detail=_counted(one.usage),
        latency_ms=one.latency_ms,
        cost_usd=str(from_nano(cost)),
    )
