"""Unit prices in the admin: set by hand and imported from a map, to the last digit and once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from saas_litellm.base.money import femto
from teams import cost_map, prices, roles
from teams.models import Alias, UnitPrice
from teams.prices import LongContextTier, Rates, UnitPrices
from tests import factories
from tests.saas_litellm.test_catalog_pages import BASE, IMPORT, MINI, SET, entries, said, text_of
from tests.teams.test_roles import browser, person

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("pages_served")]


@pytest.fixture
def olga(db: None) -> Client:
    return browser(person("olga", roles.OWNER))


def price(client: Client, key: str, **form: str) -> Any:
    """Set a price as a person does: the form, what it would change, and the confirmation."""
    opened = client.get(SET, {"price_key": key})
    path = f"{SET}?price_key={key}"
    sent = {"idempotency_key": opened.context["form"].initial["idempotency_key"], **form}
    shown = client.post(path, sent)
    assert shown.status_code == 200
    if shown.context.get("changes") is None:
        return shown
    confirmed = {**sent, "idempotency_key": shown.context["fresh_key"], "confirmed": "1"}
    done = client.post(path, confirmed, follow=True)
    # A second click of the same confirmation.
    assert said(client.post(path, confirmed, follow=True)) == said(done)
    return done


# --- Prices, set by hand -----------------------------------------------------------------------


def test_a_price_is_set_to_the_last_digit_and_once_however_often_it_is_clicked(
    olga: Client,
) -> None:
    done = price(olga, "openai/own", input="2.5", output="10.000000001", cached_read="0.25")
    assert said(done) == ["openai/own costs input 2.5, output 10.000000001, cached read 0.25 USD."]
    row = UnitPrice.objects.get()
    assert row.rates["base"] == {
        "input": 2_500_000_000,
        "output": 10_000_000_001,
        "cached_read": 250_000_000,
    }
    assert (row.source, [one.after for one in entries("prices.set")]) == ("user:olga", [row.rates])


def test_a_new_price_is_shown_beside_the_old_one_before_it_counts(olga: Client) -> None:
    prices.publish(price_key=MINI, prices=factories.SHEET, source="test")
    path = f"{SET}?price_key={MINI}"
    shown = olga.post(path, {"idempotency_key": "x", "input": "12.5", "output": "30"})
    changes = {
        one.name: (str(one.old), str(one.new), str(one.percent)) for one in shown.context["changes"]
    }
    assert changes == {
        "input": ("10", "12.5", "25.0"),
        "output": ("30", "30", "0.0"),
        "cached read": ("1", "None", "None"),
    }
    assert UnitPrice.objects.count() == 1, "looking changes nothing"


def test_a_price_says_no_to_what_it_cannot_be(olga: Client) -> None:
    factories.company(model="openai/own", sheet=factories.SHEET)
    for wrong in ("-1", "nonsense", "0.0000000001", "2,50", "NaN", "99999999"):
        page = price(olga, "openai/own", input=wrong, output="1")
        assert page.context["form"].errors, wrong
    assert "Say what input" not in text_of(price(olga, "openai/own", input="1", output=""))
    past = price(olga, "openai/own", input="1", output="1", effective_from="2020-01-01T00:00")
    assert "begins now" in text_of(past)
    assert UnitPrice.objects.count() == 1


def test_a_price_from_a_later_day_waits_for_it(olga: Client, forward: Any) -> None:
    prices.publish(price_key=MINI, prices=factories.SHEET, source="test")
    price(olga, MINI, input="1", output="2", effective_from="2099-01-01T00:00")
    assert prices.current([MINI])[MINI].source == "test"
    # What is set for now is measured by now, not by what comes later.
    price(olga, MINI, input="1", output="2")
    assert prices.current([MINI])[MINI].source == "user:olga"
    assert UnitPrice.objects.count() == 3
    forward(100 * 365 * 86_400)
    assert prices.current([MINI])[MINI].effective_from.year == 2099


def test_what_is_paid_by_the_picture_is_asked_for_by_the_picture(olga: Client) -> None:
    made = factories.company(model="openai/pictures", sheet=factories.SHEET)
    Alias.objects.update(kind="image")
    page = text_of(olga.get(SET, {"price_key": "openai/pictures"}))
    assert "USD per image" in page
    assert 'name="input"' not in page
    price(olga, "openai/pictures", per_unit="0.04")
    sheet = UnitPrices.from_json(prices.current(["openai/pictures"])["openai/pictures"].rates)
    assert sheet == UnitPrices(base=Rates(input=0, output=0), per_unit=femto("0.04"))
    assert "0.04" in text_of(olga.get(f"{BASE}/alias/{made.alias.pk}/change/"))


def test_long_prompts_keep_their_prices_unless_told_otherwise(olga: Client) -> None:
    tier = LongContextTier(above_tokens=200_000, rates=Rates(input=2, output=2))
    prices.publish(
        price_key=MINI,
        prices=UnitPrices(base=Rates(input=1, output=1), tiers=(tier,)),
        source="test",
    )
    price(olga, MINI, input="1", output="1", keep_tiers="on")
    assert prices.current([MINI])[MINI].rates["tiers"][0]["above_tokens"] == 200_000
    price(olga, MINI, input="1", output="1")
    assert prices.current([MINI])[MINI].rates["tiers"] == []


def test_the_list_says_what_each_version_changed_and_which_one_counts(olga: Client) -> None:
    for cost in ("0.00001", "0.000015"):
        sheet = UnitPrices(base=Rates(input=femto(cost), output=femto("0.00003")))
        prices.publish(price_key=MINI, prices=sheet, source="test")
    page = text_of(olga.get(f"{BASE}/unitprice/", {"price_key": MINI}))
    assert "input +50.0 %" in page
    assert page.count('now <a class="catalog-link"') == 1
    assert page.count('replaced <a class="catalog-link"') == 1


# --- Prices, imported --------------------------------------------------------------------------


def listed(**models: str) -> SimpleUploadedFile:
    """A price map of one's own, USD per token."""
    entries_ = {
        f"openai/{name}": {
            "mode": "chat",
            "litellm_provider": "openai",
            "input_cost_per_token": "COST",
            "output_cost_per_token": 0.00003,
        }
        for name in models
    }
    text = json.dumps(entries_)
    for cost in models.values():
        text = text.replace('"COST"', cost, 1)
    return SimpleUploadedFile("map.json", text.encode())


def compared(client: Client, file: SimpleUploadedFile) -> str:
    answer = client.post(IMPORT, {"upload": "1", "file": file})
    assert answer.status_code == 302, answer.context["upload"].errors
    return str(answer["Location"])


def publish(client: Client, path: str, *, key: str = "1", chosen: list[str] | None = None) -> Any:
    page = client.get(path)
    rows = page.context["rows"]
    digests = [row["line"].digest for row in rows if row["line"].new] if chosen is None else chosen
    return client.post(path, {"apply": "1", "idempotency_key": key, "chosen": digests}, follow=True)


def test_a_map_is_compared_with_the_models_in_use_to_the_last_digit(olga: Client) -> None:
    alice = factories.company(model="openai/dear")
    for model in ("openai/same", "openai/fresh", "openai/gone"):
        sheet = None if model == "openai/fresh" else factories.SHEET
        factories.serve(alice.team, alias=model.split("/")[1], model=model, sheet=sheet)
    flat = UnitPrices(base=Rates(input=femto("0.00001"), output=femto("0.00003")))
    prices.publish(price_key="openai/same", prices=flat, source="test")
    path = compared(olga, listed(dear="0.0000125", same="0.00001", fresh="1e-6", unused="0.000001"))
    page = olga.get(path)
    rows = {row["line"].price_key: row for row in page.context["rows"]}
    kinds = {key: row["line"].kind.value for key, row in rows.items()}
    assert kinds == {"openai/fresh": "new", "openai/dear": "changed", "openai/gone": "absent"}
    assert page.context["unchanged"] == 1
    changed = [
        (c.name, str(c.old), str(c.new), str(c.percent)) for c in rows["openai/dear"]["rates"]
    ]
    assert changed == [("input", "10", "12.5", "25.0"), ("cached read", "1", "None", "None")]
    everything = olga.get(f"{path}&show=all")
    assert "openai/unused" in {row["line"].price_key for row in everything.context["rows"]}


def test_only_the_chosen_rows_are_published_and_a_second_click_publishes_nothing(
    olga: Client,
) -> None:
    alice = factories.company(model="openai/one", sheet=factories.SHEET)
    factories.serve(alice.team, alias="two", model="openai/two", sheet=None)
    path = compared(olga, listed(one="0.00002", two="0.00002"))
    row = next(r for r in olga.get(path).context["rows"] if r["line"].price_key == "openai/two")
    before = UnitPrice.objects.count()
    for _ in range(2):
        page = publish(olga, path, chosen=[row["line"].digest])
        assert "Prices added: 1, changed: 0." in said(page)[0]
    assert UnitPrice.objects.count() == before + 1
    assert prices.current(["openai/two"])["openai/two"].source == "file map.json"
    (made,) = entries("prices.import")
    assert (made.detail["models"], made.detail["added"]) == (["openai/two"], 1)
    # The same rows from a page loaded anew: nothing is left of them.
    publish(olga, path, key="2", chosen=[row["line"].digest])
    assert UnitPrice.objects.count() == before + 1
    assert len(entries("prices.import")) == 1


def test_a_row_that_changed_since_it_was_looked_at_is_left_alone(olga: Client) -> None:
    factories.company(model="openai/one")
    path = compared(olga, listed(one="0.00002"))
    looked = [row["line"].digest for row in olga.get(path).context["rows"]]
    price(olga, "openai/one", input="7", output="7")
    assert "1 moved since you looked" in said(publish(olga, path, chosen=looked))[0]
    assert prices.current(["openai/one"])["openai/one"].source == "user:olga"
    # And it is shown as somebody's own, not chosen before one looks.
    (row,) = olga.get(path).context["rows"]
    assert (row["is_by_hand"], row["is_chosen"]) == (True, False)


def test_litellms_own_map_prices_a_model_in_use(olga: Client) -> None:
    alice = factories.company(model=MINI, sheet=None)
    page = text_of(olga.get(f"{BASE}/alias/{alice.alias.pk}/change/"))
    assert "no unit price: calls are refused" in page
    assert f"{SET}?price_key={MINI.replace('/', '/')}" in page
    publish(olga, IMPORT)
    row = prices.current([MINI])[MINI]
    assert row.source == cost_map.SOURCE
    assert (row.rates["base"]["input"], row.rates["base"]["output"]) == (150_000_000, 600_000_000)


@pytest.mark.parametrize("text", ["no json", "[]", '{"a": 1}', "[" * 100_000])
def test_a_file_that_is_no_map_is_told_so(olga: Client, text: str) -> None:
    answer = olga.post(IMPORT, {"upload": "1", "file": SimpleUploadedFile("x", text.encode())})
    assert "not a price map" in text_of(answer)
    strange = {
        "openai/x": {"mode": "chat", "litellm_provider": "openai", "input_cost_per_token": []}
    }
    path = compared(olga, SimpleUploadedFile("x", json.dumps(strange).encode()))
    assert olga.get(f"{path}&show=all").context["counts"]["refused"] == 1


def test_models_are_offered_as_one_types(olga: Client) -> None:
    found = olga.get(f"{BASE}/alias/models/", {"q": "gpt-4o mini"}).json()["models"]
    assert {"model": MINI, "price": "input 0.15, output 0.6, cached read 0.075"} in found
    assert len(found) <= 30
    # Under the names that litellm is called with, whatever its map calls their providers.
    assert "bedrock_converse" not in cost_map.providers()
    assert {"bedrock", "vertex_ai"} <= set(cost_map.providers())
