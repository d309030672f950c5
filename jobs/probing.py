"""Probing: call every deployment once and say how it is."""

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
# The least that can be asked of what is paid by the unit, and the units that it takes at most.
_SAMPLES: Mapping[str, tuple[Mapping[str, Any], int]] = {
    Alias.Kind.IMAGE: ({"prompt": "A white square.", "n": 1}, 1000),
    Alias.Kind.SPEECH: ({"input": "OK", "voice": "alloy"}, 2),
    Alias.Kind.RERANK: ({"query": "OK", "documents": ["OK"]}, 1000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one deployment answered; the cost is what asking it once cost, in USD."""

    deployment: str
    is_well: bool
    detail: str
    latency_ms: int = 0
    cost_usd: str = "0"


@dataclass(slots=True, kw_only=True)
class _Probe:
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
        _prepared(deployment)
        for deployment in deployments.select_related("alias", "credential", "health").order_by(
            "alias__name", "priority", "id"
        )
    ]
    asyncio.run(_ask_all([one for one in probes if one.sheet is not None], timeout_seconds))
    return [_finding(one) for one in probes]


def _prepared(deployment: Deployment) -> _Probe:
    key = deployment.effective_price_key
    row = prices.current([key]).get(key)
    if row is None:
        return _Probe(deployment=deployment, problem="no unit price: calls leave it out")
    try:
        sheet = UnitPrices.from_json(row.rates)
        priced = PricedDeployment(
            deployment=deployment, prices=sheet, credential=deployment.credential
        )
        return _Probe(deployment=deployment, sheet=sheet, api_key=catalog.open_secret(priced))
    except BadPrice as error:
        return _Probe(deployment=deployment, problem=str(error))
    except ModelUnavailable:
        return _Probe(deployment=deployment, problem="its credential cannot be decrypted")


async def _ask_all(probes: list[_Probe], timeout_seconds: float) -> None:
    try:
        await asyncio.gather(*(_ask(one, timeout_seconds) for one in probes))
    finally:
        await gateway.shut_down()


async def _ask(one: _Probe, timeout_seconds: float) -> None:
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


def _finding(one: _Probe) -> Finding:
    name = f"{one.deployment.alias}: {one.deployment.model}"
    if one.sheet is None:
        return Finding(deployment=name, is_well=False, detail=one.problem)
    if one.usage is None:
        assert one.failure is not None
        if routing.is_fault(one.failure):
            health.failed(deployment_id=one.deployment.pk, reason=one.failure.kind)
        detail = f"{one.failure.kind}: {one.failure.detail}".rstrip(": ")
        return Finding(deployment=name, is_well=False, detail=detail, latency_ms=one.latency_ms)
    health.answered(getattr(one.deployment, "health", None))
    cost = costs.provider_cost_nano_usd(prices=one.sheet, usage=one.usage)
    return Finding(
        deployment=name,
        is_well=True,
        detail=_counted(one.usage),
        latency_ms=one.latency_ms,
        cost_usd=str(from_nano(cost)),
    )
