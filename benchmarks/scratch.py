"""A scratch PostgreSQL database for one benchmark: made, migrated, and dropped at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

SERVER = "postgres://postgres@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379/8"
SECRETS = {
    "SECRET_KEY": "benchmark-" + "0123456789abcdef" * 3,
    "API_KEY_PEPPER": "benchmark-" + "0123456789abcdef" * 3,
    "ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktMzItYnl0ZXMtbG9uZy0hISE=",
}


def server() -> str:
    """BENCH_POSTGRES, else the one on the standard port."""
    return os.environ.get("BENCH_POSTGRES", SERVER)


def redis_url() -> str:
    """BENCH_REDIS, else the one on the standard port."""
    return os.environ.get("BENCH_REDIS", REDIS)


@contextmanager
def database() -> Iterator[str]:
    """The URL of a new, empty database."""
    name = f"saas_bench_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server()}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server()}/{name}"
    finally:
        with psycopg.connect(f"{server()}/postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def backends(name: str) -> list[int]:
    """The server's processes that serve this database, where it runs on this machine."""
    return [pid for pid, _ in activity(name)] if name else []


def activity(name: str) -> list[tuple[int, str]]:
    """Process and state ("idle", "active", "idle in transaction") of each connection to it."""
    asked = "SELECT pid, coalesce(state, '') FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(f"{server()}/postgres", autocommit=True) as admin:
        return admin.execute(asked, [name]).fetchall()


def set_up(url: str, *, redis_url: str = "") -> None:
    """Django on that database, with settings of its own."""
    os.environ |= {
        **SECRETS,
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "SAAS_READ_LOCAL_ENV": "0",
        "DJANGO_SETTINGS_MODULE": "saas_litellm.settings",
        "LOG_LEVEL": "ERROR",
    }
    import django

    django.setup()
