"""Whoever changes a credential cannot have its stored key sent to where they read it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client

from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Invalid
from teams import credentials
from teams.models import Alias, Deployment, ProviderCredential
from tests.teams.test_roles import browser, person

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("pages_served")]
PLAIN: dict[str, Any] = {
    "provider": "azure",
    "api_base": "https://acme.example/v1",
    "extra": {"api_version": "2024-10-21"},
}
ELSEWHERE = [
    ("provider", "openai"),
    ("api_base", "https://evil.example/v1"),
    ("api_base", ""),
    ("extra", {"api_version": "2025-01-01"}),
    ("extra", {}),
]
FORM = {
    "name": "main",
    "secret": "",
    "provider": "azure",
    "api_base": "https://acme.example/v1",
    "extra": '{"api_version": "2024-10-21"}',
}


@pytest.fixture
def stored(db: None) -> ProviderCredential:
    return credentials.save(name="main", api_key="sk-stored", actor="test", **PLAIN)


@pytest.fixture
def path(stored: ProviderCredential) -> str:
    return f"/admin/teams/providercredential/{stored.pk}/change/"


@pytest.fixture
def adam(db: None) -> Client:
    return browser(person("adam", "admin"))


def as_it_is(stored: ProviderCredential) -> bool:
    before = (stored.provider, stored.api_base, stored.extra, stored.secret_ciphertext)
    stored.refresh_from_db()
    return before == (stored.provider, stored.api_base, stored.extra, stored.secret_ciphertext)


@pytest.mark.parametrize(("field", "value"), ELSEWHERE)
def test_the_stored_key_goes_nowhere_else(
    stored: ProviderCredential, field: str, value: Any
) -> None:
    with pytest.raises(Invalid, match="Enter the key again") as refused:
        credentials.save(name="main", actor="test", **{**PLAIN, field: value})
    assert refused.value.param == "api_key"
    assert as_it_is(stored)
    assert AuditEntry.objects.filter(action="credential.replace").count() == 0
    moved = credentials.save(
        name="main", api_key="sk-mine", actor="test", **{**PLAIN, field: value}
    )
    assert credentials.reveal(moved) == "sk-mine"


def test_a_change_of_nothing_keeps_the_key_and_a_new_credential_needs_one(
    stored: ProviderCredential,
) -> None:
    credentials.save(name="main", actor="test", **PLAIN)
    assert as_it_is(stored)
    assert credentials.reveal(stored) == "sk-stored"
    with pytest.raises(Invalid, match="needs its key"):
        credentials.save(name="other", actor="test", **PLAIN)


def test_a_key_that_cannot_be_opened_is_asked_for(stored: ProviderCredential) -> None:
    ProviderCredential.objects.update(secret_ciphertext="broken")
    with pytest.raises(Invalid, match="cannot be opened any more"):
        credentials.save(name="main", actor="test", **PLAIN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("provider", "openai"),
        ("api_base", "https://evil.example/v1"),
        ("extra", '{"region": "evil.example/"}'),
    ],
)
def test_the_page_asks_for_the_key_again(
    stored: ProviderCredential, path: str, adam: Client, field: str, value: str
) -> None:
    page = adam.post(path, {**FORM, field: value})
    assert page.status_code == 200
    assert "Enter the key again" in page.context["adminform"].form.errors["secret"][0]
    assert as_it_is(stored)
    assert adam.post(path, {**FORM, field: value, "secret": "sk-new"}).status_code == 302
    stored.refresh_from_db()
    assert credentials.reveal(stored) == "sk-new"


def test_the_page_keeps_the_key_of_what_stays_as_it_is(
    stored: ProviderCredential, path: str, adam: Client
) -> None:
    assert adam.post(path, FORM).status_code == 302
    assert as_it_is(stored)


@pytest.mark.parametrize(
    "name",
    [
        "azure_endpoint",
        "aws_bedrock_runtime_endpoint",
        "API_BASE",
        "url",
        "base_model",
        "Host",
        "https_proxy",
        "use_litellm_proxy",
        "token_uri",
    ],
)
def test_a_setting_is_no_address(stored: ProviderCredential, name: str) -> None:
    with pytest.raises(Invalid, match="API base alone") as refused:
        credentials.save(
            name="main", api_key="sk-mine", actor="test", **{**PLAIN, "extra": {name: "evil"}}
        )
    assert refused.value.param == "extra"
    assert as_it_is(stored)


def test_a_model_is_no_address(stored: ProviderCredential, adam: Client) -> None:
    """huggingface and oobabooga send what they know to a model that is an address."""
    evil = "huggingface/https://evil.example/v1"
    alias = Alias.objects.create(name="a")
    form: dict[str, Any] = {"name": "a", "kind": "chat", "is_active": "on"}
    form |= {"default_max_tokens": 10, "max_output_tokens": 10, "cache_ttl_seconds": 0}
    form |= {"deployments-TOTAL_FORMS": 1, "deployments-INITIAL_FORMS": 0}
    inner = {"model": evil, "credential": stored.pk, "priority": 0, "weight": 1, "image_tokens": 1}
    form |= {f"deployments-0-{name}": value for name, value in inner.items()}
    page = adam.post(f"/admin/teams/alias/{alias.pk}/change/", form)
    assert "an address belongs in the API base" in page.content.decode()
    assert not Deployment.objects.exists()
    with pytest.raises(IntegrityError):
        Deployment.objects.create(alias=alias, model=evil, credential=stored)
