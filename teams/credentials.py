"""Provider credentials: sealed when saved, opened only to place a call."""

from __future__ import annotations

from django.db import transaction

from saas_litellm.base import audit, encryption
from teams.models import Organization, ProviderCredential


def save(
    *,
    name: str,
    api_key: str,
    actor: str,
    api_base: str = "",
    extra: dict[str, str] | None = None,
    organization: Organization | None = None,
) -> ProviderCredential:
    """Create or replace a credential; ``api_key`` is encrypted and never readable again.

    With an ``organization`` it is that one's own, and shadows the platform's of the same name.
    """
    with transaction.atomic():
        credential, created = ProviderCredential.objects.update_or_create(
            name=name,
            organization=organization,
            defaults={
                "secret_ciphertext": encryption.encrypt(api_key),
                "api_base": api_base,
                "extra": extra or {},
            },
        )
        audit.record(
            actor=actor,
            action="credential.create" if created else "credential.replace",
            target=f"credential:{name}",
        )
    return credential


def reveal(credential: ProviderCredential) -> str:
    """The provider key in clear, for the call about to be placed. Raises Undecryptable."""
    return encryption.decrypt(credential.secret_ciphertext)


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
