"""Secrets at rest: reversible ones encrypted (MultiFernet), bearer keys as keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class Undecryptable(Exception):
    """No configured key opens this ciphertext."""


@lru_cache(maxsize=4)
def _ring(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured("Set ENCRYPTION_KEYS to one or more Fernet keys, newest first.")
    return MultiFernet([Fernet(key) for key in keys])


def encrypt(plaintext: str) -> str:
    """Encrypt with the first of ENCRYPTION_KEYS."""
    return _ring(tuple(settings.ENCRYPTION_KEYS)).encrypt(plaintext.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Decrypt with whichever configured key fits; raises Undecryptable if none does."""
    try:
        return _ring(tuple(settings.ENCRYPTION_KEYS)).decrypt(ciphertext.encode()).decode()
    except InvalidToken as error:
        raise Undecryptable("no key in ENCRYPTION_KEYS opens this secret") from error


def rotate(ciphertext: str) -> str:
    """Re-encrypt under the first key; raises Undecryptable if no key opens the old text."""
    try:
        return _ring(tuple(settings.ENCRYPTION_KEYS)).rotate(ciphertext.encode()).decode()
    except InvalidToken as error:
        raise Undecryptable("no key in ENCRYPTION_KEYS opens this secret") from error


def keyed_hash(secret: str) -> str:
    """HMAC-SHA256 under API_KEY_PEPPER, in hex: a stolen table alone cannot be tried against."""
    if not settings.API_KEY_PEPPER:
        raise ImproperlyConfigured("Set API_KEY_PEPPER to a long random string.")
    return hmac.new(settings.API_KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()
