"""Pictures, speech, transcripts and rankings for the official client, paid by the unit."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import openai
import pytest
from django.core.management import call_command
from openai import OpenAI

from billing.models import Account, Hold
from jobs import media_schemas
from jobs.models import Call, CostLine, Job
from saas_litellm import verification
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import femto
from teams import cost_map
from teams.models import Alias, UnitPrice
from teams.prices import BadPrice, Rates, UnitPrices
from tests import factories, work
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import SOUND, ProviderServer, Reply

# USD per image, second, 1,000 characters, search.
RATES = {"image": "0.04", "transcription": "0.0001", "speech": "0.015", "rerank": "0.002"}
MODELS = {
    "image": "openai/dall-e-3",
    "transcription": "openai/whisper-1",
    "speech": "openai/tts-1",
    "rerank": "cohere/rerank-v3.5",
}


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    """Credits of 0.10 USD each, at provider cost."""
    made = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    for kind, model in MODELS.items():
        base = provider.anthropic_base if kind == "rerank" else provider.openai_base
        sheet = UnitPrices(base=Rates(input=0, output=0), per_unit=femto(RATES[kind]))
        factories.serve(made.team, alias=kind, model=model, api_base=base, sheet=sheet)
        Alias.objects.filter(name=kind).update(kind=kind)
    return made


@pytest.fixture
def client(live: Live, alice: Company) -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key=alice.key, max_retries=0)


def rank(live: Live, who: Company, **more: Any) -> Any:
    body = {"model": "rerank", "query": "fruit", "documents": ["stone", "apple"], **more}
    with live.client(who.headers) as http:
        return http.post("/v1/rerank", json=body)


def sound(seconds: int) -> bytes:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 8000 * seconds)
    return written.getvalue()


def costed() -> tuple[int, int, str]:
    """What the last call cost us in nano-USD, the units it counted, and what the team paid."""
    call = Call.objects.latest("created_at")
    assert sum(line.amount_nano_usd for line in CostLine.objects.filter(call=call)) == (
        call.provider_cost_nano_usd
    )
    assert verification.verify() == []
    return call.provider_cost_nano_usd, call.usage["milliunits"], work.paid(call)


def test_pictures_are_paid_by_the_picture(client: OpenAI) -> None:
    made = client.images.generate(model="image", prompt="a house", n=2, size="1024x1024")
    assert made.data is not None
    assert [base64.b64decode(row.b64_json or "") for row in made.data] == [b"a picture"] * 2
    # Two at 0.04 USD, 10 credits a USD.
    assert costed() == (80_000_000, 2000, "0.8")
    assert Job.objects.get().status == "completed"


def test_speech_is_paid_by_the_character(client: OpenAI) -> None:
    spoken = client.audio.speech.create(model="speech", input="é" * 200, voice="alloy")
    assert spoken.content == SOUND
    assert spoken.response.headers["content-type"] == "audio/mpeg"
    # 200 of 1,000 characters at 0.015 USD.
    assert costed() == (3_000_000, 200, "0.03")


def test_a_transcript_is_paid_by_the_seconds_the_provider_counted(
    client: OpenAI, provider: ProviderServer
) -> None:
    provider.default = Reply(text="hello", usage={"duration": 12.3456})
    heard = client.audio.transcriptions.create(model="transcription", file=("a.wav", sound(60)))
    assert heard.text == "hello"
    # 12.346 s at 0.0001 USD; a minute was held.
    assert costed() == (1_234_600, 12_346, "0.012346")
    assert Call.objects.get().held_cost_nano_usd == 6_000_000


@pytest.mark.parametrize("told", [None, -1, "NaN", 1e300, 10**9, []])
def test_a_transcript_without_a_length_is_paid_by_the_recordings(
    client: OpenAI, provider: ProviderServer, told: Any
) -> None:
    provider.default = Reply(text="hello", usage={"duration": told})
    text = client.audio.transcriptions.create(
        model="transcription", file=("a.wav", sound(3)), response_format="text"
    )
    assert text == "hello\n"
    assert costed() == (300_000, 3000, "0.003")
    assert Call.objects.get().usage_source == "estimate"


def test_a_ranking_is_paid_by_the_searches_billed(live: Live, alice: Company) -> None:
    answer = rank(live, alice, return_documents=True)
    assert [row["index"] for row in answer.json()["results"]] == [1, 0]
    assert answer.json()["results"][0]["document"] == {"text": "apple"}
    assert answer.json()["model"] == "rerank"
    # Three searches at 0.002 USD: one was held, the rest was there to take.
    assert costed() == (6_000_000, 3000, "0.06")


def test_a_recordings_length_is_its_own_word_or_bounded_by_its_size() -> None:
    assert media_schemas.milliseconds(sound(2)) == 2000
    assert media_schemas.milliseconds(b"x" * 16_000) == 16_000


def test_a_rule_by_tokens_needs_a_price_for_the_unit(client: OpenAI, alice: Company) -> None:
    by_tokens = factories.plan("by-tokens", kind="tokens", input_nanocredits_per_1k=1)
    factories.plans.assign(plan=by_tokens, team=alice.team, actor="test")
    with pytest.raises(openai.InternalServerError) as refused:
        client.images.generate(model="image", prompt="a house")
    assert refused.value.status_code == 503
    assert Alarm.objects.filter(kind="plan.unit_unpriced").count() == 1
    by_unit = factories.plan("by-unit", kind="tokens", unit_nanocredits=1_500_000_000)
    factories.plans.assign(plan=by_unit, team=alice.team, actor="test")
    client.images.generate(model="image", prompt="a house")
    assert costed() == (40_000_000, 1000, "1.5")


def test_a_kind_without_a_known_cost_is_refused(client: OpenAI, alice: Company) -> None:
    tokens_only = UnitPrices(base=Rates(input=1, output=1))
    factories.prices.publish(price_key="openai/dall-e-3", prices=tokens_only, source="test")
    with pytest.raises(openai.InternalServerError) as refused:
        client.images.generate(model="image", prompt="a house")
    assert refused.value.status_code == 503
    assert Alarm.objects.filter(kind="deployment.unpriced").count() == 1
    assert Call.objects.count() == 0


def test_without_credits_nothing_is_asked(
    client: OpenAI, alice: Company, provider: ProviderServer
) -> None:
    Account.objects.update(balance_nanocredits=0)
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(model="image", prompt="a house")
    assert refused.value.status_code == 402
    assert provider.requests == []


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(garbage=True)])
def test_a_failure_costs_the_team_nothing(
    client: OpenAI, alice: Company, provider: ProviderServer, settings: Any, reply: Reply
) -> None:
    settings.CALL_RETRIES = 0
    provider.default = reply
    with pytest.raises(openai.APIStatusError):
        client.images.generate(model="image", prompt="a house")
    assert len(provider.requests) == 1
    assert work.balance(alice.team) == "100"
    assert not Hold.objects.filter(state=Hold.State.OPEN).exists()
    assert verification.verify() == []


def test_an_address_instead_of_a_picture_does_not_leave(
    client: OpenAI, provider: ProviderServer, settings: Any
) -> None:
    settings.CALL_RETRIES = 0
    provider.default = Reply(more={"data": [{"url": "https://provider.example/1"}]})
    with pytest.raises(openai.APIStatusError) as refused:
        client.images.generate(model="image", prompt="a house")
    assert refused.value.status_code == 502
    with pytest.raises(openai.UnprocessableEntityError):
        client.images.generate(model="image", prompt="a house", response_format="url")


def test_the_same_key_again_draws_hears_and_speaks_once(
    live: Live, client: OpenAI, provider: ProviderServer
) -> None:
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        client.audio.speech.create(model="speech", input="a", voice="b", extra_headers=key)
        client.images.generate(model="image", prompt="a", extra_headers=key)
        client.audio.transcriptions.create(
            model="transcription", file=("a.wav", sound(1)), extra_headers=key
        )
    assert len(provider.requests) == 3
    assert Call.objects.count() == 3


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"file": b""}},
        {"files": {"other": b"x"}},
        {"files": [("file", b"x"), ("file", b"y")]},
        {"files": {"file": b"x"}, "data": {"model": "transcription", "api_base": "x"}},
        {"files": {"file": b"x"}, "data": {"model": "image"}},
        {"json": {"model": "transcription"}},
        {"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_a_form_that_is_none_is_refused(
    live: Live, alice: Company, provider: ProviderServer, form: dict[str, Any]
) -> None:
    given = {"data": {"model": "transcription"}, **form}
    if "files" not in form:
        del given["data"]
    with live.client(alice.headers) as http:
        answer = http.post("/v1/audio/transcriptions", **given)
    assert answer.status_code in {415, 422}
    assert provider.requests == []


def test_prices_by_the_unit_come_from_the_librarys_map() -> None:
    found = {listed.model: listed for listed in cost_map.priced_models(cost_map.load())}
    whisper = found["openai/whisper-1"].prices
    assert whisper is not None
    assert whisper.per_unit == femto("0.0001")
    assert found["openai/gpt-4o-transcribe"].prices is None
    assert UnitPrices.from_json(whisper.as_json()) == whisper
    with pytest.raises(BadPrice):
        UnitPrices(base=Rates(input=0, output=0), per_unit=-1)


def test_a_price_by_the_unit_is_set_by_command(transactional_db: None) -> None:
    call_command("set_price", "openai/dall-e-2", "--per-unit", "0.02")
    assert UnitPrice.objects.get().rates["per_unit"] == 20_000_000_000_000
