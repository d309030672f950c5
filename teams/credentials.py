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
