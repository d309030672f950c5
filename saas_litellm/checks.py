"""Numbered system checks: which way of running was taken, and whether it is a safe one.

``saas.I001``-``I002`` say what runs; ``saas.E0xx`` refuse an unsafe mix. ``docs/settings.md``
explains each.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

MIN_SECRET_LENGTH = 32


@register(Tags.security, deploy=True)
def check_branch(**_: Any) -> list[CheckMessage]:
    if settings.EMBEDDED:
        return [Info("Running embedded: SQLite, one web process.", id="saas.I001")]
    return [Info("Running in production mode: DATABASE_URL is set.", id="saas.I002")]


@register(Tags.security, deploy=True)
def check_secrets(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for number, name in (("E001", "SECRET_KEY"), ("E002", "API_KEY_PEPPER")):
        if len(_secret(name)) < MIN_SECRET_LENGTH:
            found.append(
                Error(
                    f"{name} is missing or shorter than {MIN_SECRET_LENGTH} characters.",
                    hint=f"Set {name} in the environment (`make run` writes one for local use).",
                    id=f"saas.{number}",
                )
            )
    if not settings.ENCRYPTION_KEYS or not all(map(_is_fernet_key, settings.ENCRYPTION_KEYS)):
        found.append(
            Error(
                "ENCRYPTION_KEYS holds no key, or one that is not a Fernet key.",
                hint="Set ENCRYPTION_KEYS to comma-separated Fernet keys, newest first.",
                id="saas.E003",
            )
        )
    return found


# Only `migrate` (and `check --database`) names databases: a release that could not serve fails.
@register(Tags.database)
def check_secrets_before_migrating(
    databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    return check_secrets() if databases else []


@register(Tags.staticfiles, deploy=True)
def check_static_files(**_: Any) -> list[CheckMessage]:
    if settings.DEBUG or (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        return []
    return [
        Warning(
            "Static files are not collected: the pages of the admin and the teams answer 500.",
            hint="Run `manage.py collectstatic --noinput` when you build.",
            id="saas.W026",
        )
    ]


@register(Tags.security)
def check_open_demo(**_: Any) -> list[CheckMessage]:
    if settings.SAAS_OPEN_DEMO and not settings.DEBUG:
        return [
            Error(
                "SAAS_OPEN_DEMO answers without a key and may only be on together with DEBUG.",
                hint="Unset SAAS_OPEN_DEMO.",
                id="saas.E004",
            )
        ]
    return []


@register(Tags.caches)
def check_processes(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.EMBEDDED and settings.WEB_PROCESSES > 1:
        found.append(
            Error("SQLite serves one web process.", hint="Set DATABASE_URL.", id="saas.E005")
        )
    if settings.WEB_PROCESSES > 1 and not settings.REDIS_URL:
        found.append(
            Error(
                "Several web processes with a cache of their own each.",
                hint="Set REDIS_URL.",
                id="saas.E006",
            )
        )
    if not settings.EMBEDDED and not settings.REDIS_URL:
        found.append(
            Warning(
                "DATABASE_URL without REDIS_URL: fine for one web process only.",
                hint="Set REDIS_URL.",
                id="saas.W007",
            )
        )
    return found


@register(Tags.caches)
def check_limits(**_: Any) -> list[CheckMessage]:
    if settings.LIMITS_WITHOUT_REDIS not in {"local", "allow", "refuse"}:
        return [
            Error(
                "LIMITS_WITHOUT_REDIS is none of local, allow and refuse.",
                hint="Unset it to count in each process while Redis is away.",
                id="saas.E012",
            )
        ]
    return []


@register(Tags.database)
def check_replica(**_: Any) -> list[CheckMessage]:
    if settings.EMBEDDED and settings.DATABASE_REPLICA_URL:
        return [
            Error(
                "DATABASE_REPLICA_URL without DATABASE_URL: SQLite has no replicas.",
                hint="Set DATABASE_URL, or unset DATABASE_REPLICA_URL.",
                id="saas.E025",
            )
        ]
    return []


@register(Tags.database)
def check_threads(**_: Any) -> list[CheckMessage]:
    if not settings.EMBEDDED and settings.DATABASE_THREADS > settings.DATABASE_POOL_MAX_SIZE:
        return [
            Error(
                "DATABASE_THREADS exceeds DATABASE_POOL_MAX_SIZE: threads would wait for"
                " connections that other threads hold.",
                id="saas.E008",
            )
        ]
    return []


@register(Tags.database)
def check_sqlite_version(**_: Any) -> list[CheckMessage]:
    if settings.EMBEDDED and sqlite3.sqlite_version_info < (3, 35):
        return [Error("SQLite 3.35 or newer is needed (RETURNING).", id="saas.E009")]
    return []


@register(Tags.security)
def check_folder(**_: Any) -> list[CheckMessage]:
    if not settings.EMBEDDED:
        return []
    folder = Path(settings.DATABASES["default"]["NAME"]).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return [
            Error(
                f"SQLite cannot write its file: {folder} is missing or not writable.",
                hint="Set DATABASE_URL; a container's image needs it. Locally `make run` makes var/.",
                id="saas.E024",
            )
        ]
    return []


@register(Tags.security)
def check_times(**_: Any) -> list[CheckMessage]:
    if settings.HOLD_GRACE_SECONDS < 2 * settings.SWEEP_INTERVAL_SECONDS:
        return [
            Error(
                "HOLD_GRACE_SECONDS is under twice SWEEP_INTERVAL_SECONDS: a call that settles"
                " slowly could be swept alive.",
                id="saas.E010",
            )
        ]
    return []


@register(Tags.security)
def check_sign_in(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.TRUSTED_PROXY_COUNT < 0:
        found.append(
            Error(
                "TRUSTED_PROXY_COUNT is negative.",
                hint="Set it to how many proxies of yours append to X-Forwarded-For, or 0.",
                id="saas.E013",
            )
        )
    times = (settings.SESSION_COOKIE_AGE, settings.SESSION_IDLE_SECONDS)
    wait = settings.AXES_COOLOFF_TIME.total_seconds()
    if min(*times, wait, settings.AXES_FAILURE_LIMIT) <= 0:
        found.append(
            Error(
                "SESSION_COOKIE_AGE, SESSION_IDLE_SECONDS, SIGN_IN_FAILURES and"
                " SIGN_IN_COOL_OFF_MINUTES must be more than 0.",
                hint="Unset them for what is usual.",
                id="saas.E014",
            )
        )
    return found


@register(Tags.security)
def check_payments(**_: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if bool(settings.STRIPE_SECRET_KEY) != bool(settings.STRIPE_WEBHOOK_SECRET):
        found.append(
            Error(
                "One of STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET is set without the other.",
                hint="Set both to sell credits online, or none (docs/payments.md).",
                id="saas.E021",
            )
        )
    if settings.STRIPE_API_BASE and "_live_" in settings.STRIPE_SECRET_KEY:
        found.append(
            Error(
                "STRIPE_API_BASE would send a live key of Stripe to another address.",
                hint="Unset STRIPE_API_BASE: it is for tests.",
                id="saas.E022",
            )
        )
    return found


@register(Tags.security, deploy=True)
def check_database_for_deployment(**_: Any) -> list[CheckMessage]:
    if not settings.DEBUG and settings.EMBEDDED:
        return [
            Warning(
                "SQLite without DEBUG: good for one small machine, back up var/.",
                hint="Set DATABASE_URL for anything larger.",
                id="saas.W011",
            )
        ]
    return []


@register(Tags.urls, deploy=True)
def check_public_url(**_: Any) -> list[CheckMessage]:
    host = urlsplit(settings.PUBLIC_URL).hostname
    if not settings.DEBUG and host in {None, "localhost", "127.0.0.1", "::1"}:
        return [
            Warning(
                "PUBLIC_URL names this machine: the links in invitations lead nowhere.",
                hint="Set PUBLIC_URL to where browsers reach the platform.",
                id="saas.W016",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def check_alerts(**_: Any) -> list[CheckMessage]:
    goes_nowhere = settings.EMAIL_BACKEND == "django.core.mail.backends.dummy.EmailBackend"
    if settings.ALERT_EMAILS and goes_nowhere:
        return [
            Warning(
                "ALERT_EMAILS is set and EMAIL_URL is not: alarms are sent nowhere.",
                hint="Set EMAIL_URL to how e-mail leaves.",
                id="saas.W020",
            )
        ]
    return []


@register(Tags.security)
def check_webhooks(**_: Any) -> list[CheckMessage]:
    figures = (
        settings.WEBHOOK_CONCURRENCY,
        settings.WEBHOOK_CONNECT_SECONDS,
        settings.WEBHOOK_TIMEOUT_SECONDS,
        settings.WEBHOOK_DISABLE_DAYS,
    )
    if min(figures) <= 0 or settings.EVENT_RETENTION_DAYS < 8:
        return [
            Error(
                "A WEBHOOK_ setting is not more than 0, or EVENT_RETENTION_DAYS is under 8.",
                hint="Unset them for what is usual.",
                id="saas.E023",
            )
        ]
    return []


def is_without_secret() -> bool:
    return not _secret("SECRET_KEY")


def _secret(name: str) -> str:
    """A secret as it is set; Django itself raises when SECRET_KEY is looked at while empty."""
    try:
        return str(getattr(settings, name))
    except ImproperlyConfigured:
        return ""


def _is_fernet_key(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


def doubts() -> list[str]:
    """What a web process says when it starts and serves nevertheless, a line each."""
    found = [*check_processes(), *check_static_files()]
    if not settings.ALLOWED_HOSTS:
        found.append(
            Warning(
                "ALLOWED_HOSTS is not set: every page answers 400.",
                hint="Set ALLOWED_HOSTS to the names that browsers use, as platform.example.com.",
                id="security.W020",
            )
        )
    return [_line(message) for message in found if message.level < Error("").level]


def refusal_to_serve() -> str:
    """Why this process must not serve or work, or an empty string: asked before anything else."""
    found = [
        *check_secrets(),
        *check_open_demo(),
        *check_processes(),
        *check_limits(),
        *check_threads(),
        *check_folder(),
        *check_sign_in(),
        *check_webhooks(),
        *check_payments(),
    ]
    wrong = [message for message in found if message.level >= Error("").level]
    return "\n".join(map(_line, wrong))


def _line(message: CheckMessage) -> str:
    return f"{message.id}: {message.msg} {message.hint or ''}"
