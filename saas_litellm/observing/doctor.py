"""Is everything as it must be before customers come? Each finding says what to do about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import redis
from django.conf import settings
from django.core import checks as django_checks
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q

from saas_litellm.base import database, encryption, shown
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from saas_litellm.observing import state
from teams import credentials, prices, roles
from teams.models import Alias, ApiKey, Deployment, ProviderCredential, Team, User

State = Literal["ok", "look", "act"]
OLDEST_POSTGRESQL = 14
MOST_SKEW_SECONDS = 2.0
# So many rounds a worker may miss.
LATE_ROUNDS = 4
STATIC_FILES = "saas.W026"
LATE_LEDGER_CHECK_SECONDS = 2 * 24 * 3600
# Without these there is nothing to look at.
_ALL_NEED = {"database", "tables"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``act``: customers or money are at risk; ``look``: something is missing or unusual."""

    about: str
    state: State
    says: str
    do: str = ""


def examine() -> list[Finding]:
    """Every finding, in the order of a first deployment. What needs a part that is away is left out."""
    found = [*_settings(), *_database()]
    if any(finding.about in _ALL_NEED and finding.state == "act" for finding in found):
        return found
    for look in (_redis, _worker, _holds, _ledger, _credentials, _models, _people, _customers):
        found += look()
    return [*found, *_files()]


def _settings() -> Iterator[Finding]:
    levels: dict[int, State] = {django_checks.WARNING: "look", django_checks.ERROR: "act"}
    said = 0
    for message in django_checks.run_checks(include_deployment_checks=not settings.DEBUG):
        if message.is_silenced() or message.level < django_checks.WARNING:
            continue
        if message.id == STATIC_FILES:  # looked at below
            continue
        said += 1
        yield Finding(
            about=f"settings ({message.id})",
            state=levels.get(message.level, "act"),
            says=message.msg,
            do=message.hint or "docs/settings.md says what it means.",
        )
    if not said:
        way = "embedded: SQLite, one process" if settings.EMBEDDED else "production"
        yield Finding(about="settings", state="ok", says=f"sound; {way}")


def _database() -> Iterator[Finding]:
    try:
        database.reach()
        with connection.cursor() as cursor:
            before = time.time()
            now = _now_of(cursor)
            skew = abs(now - (before + time.time()) / 2)
    except DatabaseError as error:
        yield Finding(
            about="database",
            state="act",
            says=f"does not answer: {type(error).__name__}",
            do="Is DATABASE_URL right, and is the database running and reachable from here?",
        )
        return
    version = connection.get_database_version()
    name = f"{connection.display_name} {'.'.join(map(str, version))}"
    is_old = connection.vendor == "postgresql" and version[0] < OLDEST_POSTGRESQL
    yield Finding(
        about="database",
        state="look" if is_old else "ok",
        says=f"{name} answers",
        do=f"Upgrade to PostgreSQL {OLDEST_POSTGRESQL} or newer." if is_old else "",
    )
    yield Finding(
        about="clock",
        state="act" if skew > MOST_SKEW_SECONDS else "ok",
        says=f"{skew:.1f} s apart from the database's",
        do="Run an NTP client on both machines: holds and days depend on the time."
        if skew > MOST_SKEW_SECONDS
        else "",
    )
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    yield Finding(
        about="tables",
        state="act" if missing else "ok",
        says=f"{len(missing)} migrations are missing" if missing else "up to date",
        do="Run `manage.py migrate`." if missing else "",
    )


def _now_of(cursor: object) -> float:
    """The database's clock, in seconds since 1970."""
    ask = (
        "SELECT extract(epoch FROM clock_timestamp())"
        if connection.vendor == "postgresql"
        else "SELECT (julianday('now') - 2440587.5) * 86400.0"
    )
    cursor.execute(ask)  # type: ignore[attr-defined]
    return float(cursor.fetchone()[0])  # type: ignore[attr-defined]


def _redis() -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield Finding(
            about="redis",
            state="ok" if settings.EMBEDDED else "look",
            says="not used: cache and limits are this process's own",
            do="" if settings.EMBEDDED else "Set REDIS_URL before a second web process.",
        )
        return
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3, socket_connect_timeout=3)
    try:
        seconds, micros = client.time()
        policy = str(client.config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except redis.ResponseError:
        # Managed servers often refuse CONFIG.
        policy = ""
    except (redis.RedisError, OSError) as error:
        yield Finding(
            about="redis",
            state="act",
            says=f"does not answer: {type(error).__name__}",
            do=f"Is REDIS_URL right? Until it answers, limits are: {settings.LIMITS_WITHOUT_REDIS}.",
        )
        return
    finally:
        client.close()
    skew = abs(seconds + micros / 1e6 - time.time())
    yield Finding(
        about="redis",
        state="look" if skew > MOST_SKEW_SECONDS else "ok",
        says=f"answers; {policy or 'its eviction policy is not told'}; clock {skew:.1f} s apart",
        do="Set the clocks of both machines." if skew > MOST_SKEW_SECONDS else "",
    )


def _worker() -> Iterator[Finding]:
    age = state.worker_age_seconds()
    late = LATE_ROUNDS * settings.SWEEP_INTERVAL_SECONDS
    if age is not None and age <= late:
        yield Finding(about="worker", state="ok", says=f"ended a round {age:.0f} s ago")
        return
    yield Finding(
        about="worker",
        state="act",
        says="has never ended a round" if age is None else f"ended its last round {age:.0f} s ago",
        do="Start it: `manage.py worker` (the Procfile's worker). Without it abandoned calls keep"
        " their credits, and nothing expires, refills or is delivered."
        if not settings.EMBEDDED
        else "It runs in the web process: is that up?",
    )


def _holds() -> Iterator[Finding]:
    lag = state.sweeper_lag_seconds()
    open_holds = state.holds()
    late = LATE_ROUNDS * settings.SWEEP_INTERVAL_SECONDS
    yield Finding(
        about="holds",
        state="act" if lag > late else "ok",
        says=f"{open_holds.count:,} open for {shown.counted(from_nano(open_holds.nanocredits), 'credit')},"
        f" the most overdue by {lag:.0f} s",
        do="No worker gives abandoned calls back: start one." if lag > late else "",
    )


def _ledger() -> Iterator[Finding]:
    last = state.last_ledger_check()
    if last is None:
        yield Finding(
            about="ledger",
            state="look",
            says="has never been verified",
            do="`manage.py verify_ledger`; the worker does it daily.",
        )
        return
    age, findings = last
    is_late = age > LATE_LEDGER_CHECK_SECONDS
    yield Finding(
        about="ledger",
        state="act" if findings else "look" if is_late else "ok",
        says=f"verified {shown.span(timedelta(seconds=age))} ago,"
        f" {shown.counted(findings, 'finding') if findings else 'no findings'}",
        do="`manage.py verify_ledger` names the rows; stop selling until you know why."
        if findings
        else "Is the worker running, and LEDGER_CHECK_HOURS above 0?"
        if is_late
        else "",
    )


def _credentials() -> Iterator[Finding]:
    sealed = [
        credential.name for credential in ProviderCredential.objects.all() if not _opens(credential)
    ]
    used = Q(is_active=True, alias__is_active=True)
    of_environment = sorted(
        set(
            Deployment.objects.filter(used, credential=None)
            .exclude(model__startswith="demo/")
            .values_list("model", flat=True)
        )
    )
    if sealed:
        yield Finding(
            about="credentials",
            state="act",
            says=f"cannot be opened with ENCRYPTION_KEYS: {', '.join(sealed[:5])}",
            do="Put the key that sealed them back (it may stand last), or enter them anew.",
        )
    elif ProviderCredential.objects.exists():
        yield Finding(about="credentials", state="ok", says="all can be opened")
    elsewhere = [each.name for each in ProviderCredential.objects.all() if not _may_call(each)]
    if elsewhere:
        yield Finding(
            about="credentials",
            state="look",
            says=f"go where none may go any more: {', '.join(sorted(elsewhere)[:5])}",
            do="Change their API base or delete them, or set PROVIDER_PRIVATE_ADDRESSES to true.",
        )
    if of_environment:
        yield Finding(
            about="credentials",
            state="look",
            says=f"none for {', '.join(of_environment[:5])}",
            do="Choose one under Aliases, or set the provider's own variable for web and worker.",
        )


def _opens(credential: ProviderCredential) -> bool:
    try:
        credentials.reveal(credential)
    except encryption.Undecryptable:
        return False
    return True


def _may_call(credential: ProviderCredential) -> bool:
    """Whether its address could be saved today: settings may have changed since it was."""
    try:
        credentials.check_address(credential.api_base)
    except Invalid:
        return False
    return True


def _models() -> Iterator[Finding]:
    active = Deployment.objects.filter(is_active=True, alias__is_active=True)
    keys = sorted({deployment.effective_price_key for deployment in active})
    unpriced = sorted(set(keys) - set(prices.current(keys)))
    idle = Alias.objects.filter(is_active=True, access_groups=None).values_list("name", flat=True)
    if unpriced:
        yield Finding(
            about="prices",
            state="act",
            says=f"none for {', '.join(unpriced[:5])}: calls to them are refused",
            do="`manage.py import_prices`, or `set_price`, or Set price on the alias's page.",
        )
    elif keys:
        yield Finding(
            about="prices", state="ok", says=f"{shown.counted(len(keys), 'model')}, all priced"
        )
    else:
        yield Finding(
            about="models",
            state="look",
            says="there is no alias with a deployment",
            do="Add a credential, an alias and an access group in the admin, under Catalog.",
        )
    if idle:
        yield Finding(
            about="models",
            state="look",
            says=f"no team may use {', '.join(sorted(idle)[:5])}",
            do="Put them into an access group.",
        )


def _people() -> Iterator[Finding]:
    owners = User.objects.filter(is_active=True, is_staff=True).filter(
        Q(groups__name=roles.OWNER) | Q(is_superuser=True)
    )
    if owners.exists():
        yield Finding(about="operators", state="ok", says="there is an owner who can sign in")
    else:
        yield Finding(
            about="operators",
            state="act",
            says="nobody can sign in to the admin as owner",
            do="`manage.py create_operator NAME --role owner`.",
        )


def _customers() -> Iterator[Finding]:
    teams, keys = Team.objects.count(), ApiKey.objects.filter(revoked_at=None).count()
    yield Finding(
        about="customers",
        state="ok" if teams and keys else "look",
        says=f"{shown.counted(teams, 'team')}; keys that work: {keys:,}",
        do=""
        if teams and keys
        else "`manage.py create_organization`, `create_team`, `topup` and `issue_key`.",
    )
    without = (
        Team.objects.filter(status=Team.Status.ACTIVE)
        .filter(pk__in=ApiKey.objects.filter(revoked_at=None).values("team"))
        .exclude(access_groups__is_active=True)
        .order_by("slug")
        .values_list("slug", flat=True)
    )
    if without:
        yield Finding(
            about="customers",
            state="look",
            says=f"have a key and may call nothing: {', '.join(without[:5])}",
            do="Choose an access group on the team's page, under Customers in the admin.",
        )


def _files() -> Iterator[Finding]:
    if settings.DEBUG:
        return
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    yield Finding(
        about="static files",
        state="ok" if manifest.exists() else "act",
        says="collected" if manifest.exists() else "not collected: pages will fail",
        do="" if manifest.exists() else "Run `manage.py collectstatic --noinput` when you build.",
    )
