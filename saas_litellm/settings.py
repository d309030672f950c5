"""Every setting, driven by the environment; ``docs/settings.md`` lists the variables.

With no DATABASE_URL the platform runs *embedded*: SQLite, in-memory cache, the worker as a thread
of the one web process. With DATABASE_URL and REDIS_URL it runs as *production*.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import django_stubs_ext
import environ
from corsheaders.defaults import default_headers

from saas_litellm import content_policy, look
from saas_litellm.base.telemetry import log_config

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"
LOCAL_ENV_FILE = VAR_DIR / "local.env"

env = environ.Env()
# Written by the first `make run`; the real environment wins over it.
if env.bool("SAAS_READ_LOCAL_ENV", default=True) and LOCAL_ENV_FILE.exists():
    env.read_env(str(LOCAL_ENV_FILE))

# --- Secrets ---------------------------------------------------------------------------------
SECRET_KEY = env.str("SECRET_KEY", default="")
API_KEY_PEPPER = env.str("API_KEY_PEPPER", default="")
ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS", default=[])

# --- How it runs -----------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"] if DEBUG else []
)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SAAS_OPEN_DEMO = env.bool("SAAS_OPEN_DEMO", default=False)
PUBLIC_URL = env.str("PUBLIC_URL", default="http://localhost:8003")
# What the teams' own pages are called: they say nothing of this software.
PORTAL_NAME = env.str("PORTAL_NAME", default="Team pages")
WEB_PROCESSES = env.int("WEB_PROCESSES", default=1)

_embedded_database = f"sqlite:///{VAR_DIR / 'db.sqlite3'}"
DATABASES = {"default": env.db("DATABASE_URL", default=_embedded_database)}
EMBEDDED = "sqlite" in DATABASES["default"]["ENGINE"]
# SQLite has one writer: more threads only wait for each other.
DATABASE_THREADS = env.int("DATABASE_THREADS", default=2 if EMBEDDED else 8)
DATABASE_POOL_MAX_SIZE = env.int("DATABASE_POOL_MAX_SIZE", default=DATABASE_THREADS + 4)
DATABASE_PREPARED_STATEMENTS = env.bool("DATABASE_PREPARED_STATEMENTS", default=True)
if EMBEDDED:
    DATABASES["default"] |= {
        "CONN_MAX_AGE": None,
        # Tests use a file too: the in-memory database has no WAL and ignores the busy timeout.
        "TEST": {"NAME": f"{DATABASES['default']['NAME']}.test"},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # FULL: a committed charge survives a power cut, not only a crash.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
else:
    DATABASES["default"] |= {
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **DATABASES["default"].get("OPTIONS", {}),
            # Kept where it is asked for (`base.rows`), never by themselves.
            "prepare_threshold": 2**31 if DATABASE_PREPARED_STATEMENTS else None,
            # No thread of ours waits for another's connection (DATABASE_THREADS): whoever waits so
            # long waits for a database that is away.
            "pool": {"min_size": 2, "max_size": DATABASE_POOL_MAX_SIZE, "timeout": 10},
        },
    }
# Reports read it; everything else, and every write, goes to DATABASE_URL.
DATABASE_REPLICA_URL = env.str("DATABASE_REPLICA_URL", default="")
if DATABASE_REPLICA_URL and not EMBEDDED:
    _replica = env.db("DATABASE_REPLICA_URL")
    DATABASES["replica"] = {
        **DATABASES["default"],
        **_replica,
        "OPTIONS": {**_replica.get("OPTIONS", {}), "pool": DATABASES["default"]["OPTIONS"]["pool"]},
        "TEST": {"MIRROR": "default"},
    }
    DATABASE_ROUTERS = ["saas_litellm.base.replica.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default="")
REDIS_NAMESPACE = env.str("REDIS_NAMESPACE", default="saas")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": REDIS_URL,
            "KEY_PREFIX": REDIS_NAMESPACE,
        }
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL], "prefix": f"{REDIS_NAMESPACE}:asgi"},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

REDIS_TIMEOUT_SECONDS = env.float("REDIS_TIMEOUT_SECONDS", default=0.5)
# What limits do while Redis does not answer: local (each process counts), allow, or refuse.
LIMITS_WITHOUT_REDIS = env.str("LIMITS_WITHOUT_REDIS", default="local")

# --- The life of a call ----------------------------------------------------------------------
MAX_BODY_BYTES = env.int("MAX_BODY_BYTES", default=8 * 1024 * 1024)
# One provider request may take this long; the hold outlives it by the grace.
WARM_UP = env.bool("WARM_UP", default=True)
CALL_DEADLINE_SECONDS = env.int("CALL_DEADLINE_SECONDS", default=600)
HOLD_GRACE_SECONDS = env.int("HOLD_GRACE_SECONDS", default=60)
FIRST_CHUNK_SECONDS = env.float("FIRST_CHUNK_SECONDS", default=10.0)
KEEP_ALIVE_SECONDS = env.float("KEEP_ALIVE_SECONDS", default=15.0)
# The longest prompt and answer that is kept for a team that wants them kept.
PAYLOAD_MAX_BYTES = env.int("PAYLOAD_MAX_BYTES", default=1024 * 1024)
# Whether credentials may name an API base on a private network or on this machine.
PROVIDER_PRIVATE_ADDRESSES = env.bool("PROVIDER_PRIVATE_ADDRESSES", default=True)
# How often a deployment that failed in passing is asked again before the next one is.
CALL_RETRIES = env.int("CALL_RETRIES", default=1)
CANCEL_POLL_SECONDS = env.float("CANCEL_POLL_SECONDS", default=1.0)
SHUTDOWN_GRACE_SECONDS = env.float("SHUTDOWN_GRACE_SECONDS", default=20.0)
JOB_IDLE_HOURS = env.int("JOB_IDLE_HOURS", default=24)
# How often a worker checks every invariant of the money; 0: only `verify_ledger` does.
LEDGER_CHECK_HOURS = env.int("LEDGER_CHECK_HOURS", default=24)
SWEEP_INTERVAL_SECONDS = env.int("SWEEP_INTERVAL_SECONDS", default=15)

# What somebody without the right to refund beyond it may give back in a day (UTC).
SUPPORT_REFUND_LIMIT_CREDITS = env.int("SUPPORT_REFUND_LIMIT_CREDITS", default=100)

# Credits sold online: without both of the first two, nothing of it is offered.
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", default="")
STRIPE_WEBHOOK_SECRET = env.str("STRIPE_WEBHOOK_SECRET", default="")
# Another address than Stripe's own: for tests against a double.
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="")
STRIPE_DISPUTE_PAUSES_TEAM = env.bool("STRIPE_DISPUTE_PAUSES_TEAM", default=True)

# How many pages one process keeps the live view of at a time; 0: none.
LIVE_WATCHERS_MAX = env.int("LIVE_WATCHERS_MAX", default=50)

# --- Events, webhooks, alerts ----------------------------------------------------------------
EVENT_RETENTION_DAYS = env.int("EVENT_RETENTION_DAYS", default=30)
# How many endpoints one worker writes to at a time, and how long one may take to answer.
WEBHOOK_CONCURRENCY = env.int("WEBHOOK_CONCURRENCY", default=20)
WEBHOOK_CONNECT_SECONDS = env.float("WEBHOOK_CONNECT_SECONDS", default=5.0)
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", default=20.0)
# An endpoint that only failed for so long is switched off.
WEBHOOK_DISABLE_DAYS = env.int("WEBHOOK_DISABLE_DAYS", default=5)
# Let webhooks reach private, loopback and link-local addresses: for a closed network of your own.
WEBHOOK_PRIVATE_TARGETS = env.bool("WEBHOOK_PRIVATE_TARGETS", default=False)
# How many readers one process keeps the status of jobs live for, at a time; 0: none.
JOB_READERS_MAX = env.int("JOB_READERS_MAX", default=500)
# Where alarms are told: e-mail addresses, and a webhook that takes what Slack's takes.
ALERT_EMAILS = env.list("ALERT_EMAILS", default=[])
ALERT_SLACK_URL = env.str("ALERT_SLACK_URL", default="")

# The longest answer that an Idempotency-Key replays.
REPLAY_MAX_BYTES = env.int("REPLAY_MAX_BYTES", default=512 * 1024)

# The longest answer that the response cache keeps, and how much of it one process keeps in memory
# where there is no Redis.
CACHE_ENTRY_BYTES = env.int("CACHE_ENTRY_BYTES", default=256 * 1024)
CACHE_LOCAL_BYTES = env.int("CACHE_LOCAL_BYTES", default=64 * 1024 * 1024)

# --- Django ----------------------------------------------------------------------------------
INSTALLED_APPS = [
    "saas_litellm.apps.SaasLitellmConfig",
    "saas_litellm.base.apps.BaseConfig",
    "teams.apps.TeamsConfig",
    "billing.apps.BillingConfig",
    "jobs.apps.JobsConfig",
    "webhooks.apps.WebhooksConfig",
    "payments.apps.PaymentsConfig",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "csp",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
]
# API paths run through API_MIDDLEWARE alone (asgi.py): no session, no user, no database.
API_MIDDLEWARE = [
    "saas_litellm.errors.ErrorMiddleware",
    "saas_litellm.base.addresses.AddressMiddleware",
    "corsheaders.middleware.CorsMiddleware",
]
MIDDLEWARE = [
    "saas_litellm.errors.ErrorMiddleware",
    "saas_litellm.base.addresses.AddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "saas_litellm.content_policy.ContentPolicyMiddleware",
    "saas_litellm.help_pages.StaticFilesMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "teams.sign_in.SessionMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "saas_litellm.urls"
ASGI_APPLICATION = "saas_litellm.asgi.application"
APPEND_SLASH = False
# A price plan's form has a field for whatever a rule can say, and a plan may have many rules.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000
AUTH_USER_MODEL = "teams.User"
# Where a sign-in leads that began at the sign-in page itself.
LOGIN_REDIRECT_URL = "/admin/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    # First: it refuses whoever failed too often before a password is looked at.
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env.int("SIGN_IN_FAILURES", default=5)
AXES_COOLOFF_TIME = timedelta(minutes=env.int("SIGN_IN_COOL_OFF_MINUTES", default=15))
AXES_RESET_ON_SUCCESS = True
# Whoever goes on guessing must not keep the person they guess at out for good.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "saas_litellm.base.addresses.of"
# Where a sign-in leads may be an invitation, whose link is a secret.
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code", "csrfmiddlewaretoken", "next"]
# The audit log says who signed in; axes keeps what it counts with, and says nothing.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
# Operators see no page before they have a second factor.
REQUIRE_SECOND_FACTOR = env.bool("REQUIRE_SECOND_FACTOR", default=False)
OTP_TOTP_ISSUER = "SaaS LiteLLM"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "saas_litellm.portal.access.named",
            ]
        },
    }
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# Unhashed names and finders in DEBUG, so that `make run` needs no collectstatic.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG
# A folder's address answers with its index.html: /help/ does.
WHITENOISE_INDEX_FILE = True
# What `make docs` builds, served at /help/.
HELP_ROOT = Path(env.str("HELP_ROOT", default=str(BASE_DIR / "docs" / "_build" / "html")))

# --- E-mail ----------------------------------------------------------------------------------
# EMAIL_HOST and its kin. Without the variable: onto the console in DEBUG, and else nowhere.
vars().update(env.email_url("EMAIL_URL", default="consolemail://" if DEBUG else "dummymail://"))
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="noreply@localhost")
EMAIL_TIMEOUT = 10

# --- Browsers --------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {"DIRECTIVES": content_policy.STRICT}
CORS_ALLOWED_ORIGINS = env.list("CORS_ALLOWED_ORIGINS", default=[])
CORS_URLS_REGEX = r"^/(api|v1)/"
CORS_ALLOW_HEADERS = [
    *default_headers,
    "idempotency-key",
    "last-event-id",
    "x-api-key",
    "x-job-id",
    "x-job-type",
]
CORS_EXPOSE_HEADERS = [
    "X-Request-Id",
    "Retry-After",
    "Idempotent-Replayed",
    "X-Job-Id",
    "X-Call-Id",
    "X-Credits-Charged",
    "X-Credits-Remaining",
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SESSION_COOKIE_AGE = env.int("SESSION_COOKIE_AGE", default=12 * 3600)
SESSION_IDLE_SECONDS = env.int("SESSION_IDLE_SECONDS", default=3600)
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0 if DEBUG else 31_536_000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=not DEBUG)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", default=False)
if env.bool("TRUST_X_FORWARDED_PROTO", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# How many proxies stand before this process and append to X-Forwarded-For; 0: believe none of it.
TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", default=0)
# TLS is the proxy's task; these two are switched on there or by the variables above.
# The sign-in form itself says when somebody is locked out, so axes needs no middleware.
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W021", "axes.W002"]

REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
SPECTACULAR_SETTINGS = {
    "TITLE": "SaaS LiteLLM",
    "DESCRIPTION": "Open a job for a team, make LLM calls in it, complete it: the team pays "
    "credits by your price plan. Teams see aliases and credits, never models or provider prices.",
    # pydantic writes JSON Schema 2020-12, which is what OpenAPI 3.1 takes.
    "OAS_VERSION": "3.1.0",
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "teamKey": {"type": "http", "scheme": "bearer"},
            "operatorKey": {"type": "http", "scheme": "bearer"},
        }
    },
    "VERSION": "0.1.0",
    "SERVE_PUBLIC": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api",
    "POSTPROCESSING_HOOKS": ["saas_litellm.openapi.with_webhooks"],
}

UNFOLD = look.UNFOLD

# --- Watching it -----------------------------------------------------------------------------
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
LOG_FORMAT = env.str("LOG_FORMAT", default="text" if DEBUG else "json")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = log_config.config(is_text=LOG_FORMAT == "text", level=LOG_LEVEL)
