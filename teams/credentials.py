"""Provider credentials: sealed when saved, opened only to place a call."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from saas_litellm.base import audit, encryption
from saas_litellm.base.refusals import Invalid
from teams.models import Organization, ProviderCredential

# Fields of a call that are ours to set; a setting of the same name would break or bend it.
_OURS = frozenset(
    {
        "api_base",
        "api_key",
        "base_url",
        "max_retries",
        "messages",
        "mock_response",
        "model",
        "num_retries",
        "stream",
        "timeout",
    }
)
_SOUNDS_SECRET = re.compile(
    r"secret|password|passphrase|private_key|access_key\Z|api_key|credential|token\Z", re.IGNORECASE
)


def save(
    *,
    name: str,
    api_key: str,
    actor: str,
    api_base: str = "",
    extra: dict[str, str] | None = None,
    organization: Organization | None = None,
    provider: str = "",
) -> ProviderCredential:
    """Create or replace a credential; ``api_key`` is encrypted and never readable again.

    With an ``organization`` it is that one's own, and shadows the platform's of the same name.
    Raises Invalid for an address or a setting that cannot be right.
    """
    check_address(api_base)
    check_settings(extra or {})
    with transaction.atomic():
        earlier = ProviderCredential.objects.filter(name=name, organization=organization).first()
        before = audit.snapshot(earlier) if earlier else {}
        # Kept as it is where it is the same: each sealing reads differently, as if it had changed.
        sealed = earlier.secret_ciphertext if earlier and _opens_to(earlier, api_key) else ""
        credential, created = ProviderCredential.objects.update_or_create(
            name=name,
            organization=organization,
            defaults={
                "secret_ciphertext": sealed or encryption.encrypt(api_key),
                "api_base": api_base,
                "extra": extra or {},
                "provider": provider,
            },
        )
        was, now = audit.difference(before, audit.snapshot(credential))
        audit.record(
            actor=actor,
            action="credential.create" if created else "credential.replace",
            target=f"credential:{name}",
            before=was or None,
            after=now,
        )
    return credential


def check_address(api_base: str) -> None:
    """Raises Invalid unless empty or an HTTP address that calls may go to.

    Local addresses are allowed, for models that run beside the platform. Link-local ones are not:
    what answers there is a cloud's own metadata service. A name or password in it would be
    readable, which a credential never is.
    """
    if not api_base:
        return
    try:
        parts = urlsplit(api_base)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise Invalid(f"{api_base!r} is not an address.", param="api_base") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise Invalid("The address begins with https:// (or http://).", param="api_base")
    if parts.username is not None or parts.password is not None:
        raise Invalid("The key belongs in its own field, not in the address.", param="api_base")
    if parts.query or parts.fragment:
        raise Invalid("The address has no ? and no #: settings have a field.", param="api_base")
    if _is_link_local(host):
        raise Invalid("No provider answers at a link-local address.", param="api_base")


def check_settings(extra: Mapping[str, Any]) -> None:
    """Raises Invalid for settings that are no plain values, are ours to set, or sound secret."""
    if not isinstance(extra, Mapping):
        raise Invalid('Settings are one JSON object: {"api_version": "2024-10-21"}.', param="extra")
    for name, value in extra.items():
        if not isinstance(value, str | int | bool):
            raise Invalid(f"{name}: a setting is a text, a number or true/false.", param="extra")
        if name in _OURS:
            raise Invalid(f"{name} cannot be set here.", param="extra")
        if _SOUNDS_SECRET.search(name):
            raise Invalid(
                f"{name} sounds secret, and settings stay readable. Only the key is encrypted; set"
                " further secrets as the provider's environment variables.",
                param="extra",
            )


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


def reveal(credential: ProviderCredential) -> str:
    """The provider key in clear, for the call about to be placed. Raises Undecryptable."""
    return encryption.decrypt(credential.secret_ciphertext)


def _opens_to(credential: ProviderCredential, api_key: str) -> bool:
    try:
        return reveal(credential) == api_key
    except encryption.Undecryptable:
        return False


def rotate_all(*, actor: str) -> int:
    """Re-encrypt every secret under the first of ENCRYPTION_KEYS; returns how many.

    All or nothing: raises Undecryptable if one cannot be opened.
    """
    with transaction.atomic():
        credentials = list(ProviderCredential.objects.select_for_update().order_by("id"))
        for credential in credentials:
            credential.secret_ciphertext = encryption.rotate(credential.secret_ciphertext)
        ProviderCredential.objects.bulk_update(credentials, ["secret_ciphertext"])
        audit.record(
            actor=actor,
            action="credential.rotate_all",
            target="credentials",
            count=len(credentials),
        )
    return len(credentials)
