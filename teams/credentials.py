"""Provider credentials: sealed when saved, opened only to place a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import transaction

from saas_litellm.base import audit, destinations, encryption
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

# Some of these lead a call, and the key with it, elsewhere; a way around the one checked address.
_SOUNDS_LIKE_ADDRESS = re.compile(r"url|uri|base|endpoint|host|proxy", re.IGNORECASE)


def save(
    *,
    name: str,
    actor: str,
    api_key: str = "",
    api_base: str = "",
    extra: dict[str, str] | None = None,
    organization: Organization | None = None,
    provider: str = "",
) -> ProviderCredential:
    """Create or replace a credential; ``api_key`` is encrypted and never readable again.

    With an ``organization`` it is that one's own, and shadows the platform's of the same name.
    Without one the stored key stays, for a change that sends it nowhere else (``kept``). Raises
    Invalid for that, and for an address or a setting that cannot be right.
    """
    extra = extra or {}
    check_address(api_base)
    check_settings(extra)
    with transaction.atomic():
        found = ProviderCredential.objects.select_for_update()
        earlier = found.filter(name=name, organization=organization).first()
        before = audit.snapshot(earlier) if earlier else {}
        if not api_key:
            sealed = kept(earlier, provider=provider, api_base=api_base, extra=extra)
        elif earlier and _opens_to(earlier, api_key):
            # As it is: each sealing reads differently, as if it had changed.
            sealed = earlier.secret_ciphertext
        else:
            sealed = encryption.encrypt(api_key)
        credential, created = ProviderCredential.objects.update_or_create(
            name=name,
            organization=organization,
            defaults={
                "secret_ciphertext": sealed,
                "api_base": api_base,
                "extra": extra,
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


def kept(
    earlier: ProviderCredential | None, *, provider: str, api_base: str, extra: Mapping[str, Any]
) -> str:
    """The stored key, sealed; Invalid unless there is one and it goes where it went.

    Whoever may change a credential need not know its key. If they could send it to an address of
    their own, they would.
    """
    if earlier is None:
        raise Invalid("A new credential needs its key.", param="api_key")
    goes_to = (earlier.provider, earlier.api_base, earlier.extra)
    if goes_to != (provider, api_base, extra):
        raise Invalid(
            "Enter the key again: the stored one is not sent to another provider or API base, nor"
            " with other settings.",
            param="api_key",
        )
    try:
        reveal(earlier)
    except encryption.Undecryptable as error:
        why = "The stored key cannot be opened any more. Enter it."
        raise Invalid(why, param="api_key") from error
    return earlier.secret_ciphertext


def check_address(api_base: str) -> None:
    """Raises Invalid unless empty or an address that calls may go to (``destinations.check``)."""
    if api_base:
        destinations.check(api_base, param="api_base")


def check_settings(extra: Mapping[str, Any]) -> None:
    """Raises Invalid for settings that are no plain values, ours to set, secret, or an address."""
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
        if _SOUNDS_LIKE_ADDRESS.search(name):
            raise Invalid(
                f"{name} cannot be set here: where calls go is the API base alone.", param="extra"
            )


def reveal(credential: ProviderCredential) -> str:
    """The provider key in clear, for the call about to be placed. Raises Undecryptable."""
    return _opened(credential.secret_ciphertext, tuple(settings.ENCRYPTION_KEYS))


@lru_cache(maxsize=256)
def _opened(ciphertext: str, _: tuple[str, ...]) -> str:
    """Kept: each call needs its provider's key, and the keys that open it are in memory too."""
    return encryption.decrypt(ciphertext)


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
