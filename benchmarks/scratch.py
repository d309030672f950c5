"""A scratch PostgreSQL database for one benchmark: made, migrated, and dropped at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

SERVER = "postgres://postgres@127.0.0.1:5432"


@contextmanager
def database() -> Iterator[str]:
    """Its URL; Django is set up on it. BENCH_POSTGRES names the server."""
    server = os.environ.get("BENCH_POSTGRES", SERVER)
    name = f"saas_bench_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server}/{name}"
    finally:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def set_up(url: str, *, redis_url: str = "") -> None:
    """Django on that database, with settings of its own."""
    os.environ |= {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "SAAS_READ_LOCAL_ENV": "0",
        "SECRET_KEY": "benchmark-" + "0123456789abcdef" * 3,
        "API_KEY_PEPPER": "benchmark-" + "0123456789abcdef" * 3,
        "ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktMzItYnl0ZXMtbG9uZy0hISE=",
        "DJANGO_SETTINGS_MODULE": "saas_litellm.settings",
        "LOG_LEVEL": "ERROR",
    }
    import django

    django.setup()
