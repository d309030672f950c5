"""A proxy's config.yaml, read: models, their credentials, prices and fallbacks. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from saas_litellm.base.money import InexactAmount, femto
from saas_litellm.base.refusals import Invalid
from teams.models import Alias
from teams.prices import BadPrice, Rates, UnitPrices

# The proxy's name of what a model does, and ours.
KINDS = {
    "chat": Alias.Kind.CHAT,
    "completion": Alias.Kind.CHAT,
    "responses": Alias.Kind.CHAT,
    "embedding": Alias.Kind.EMBEDDING,
    "image_generation": Alias.Kind.IMAGE,
    "audio_transcription": Alias.Kind.TRANSCRIPTION,
    "audio_speech": Alias.Kind.SPEECH,
    "rerank": Alias.Kind.RERANK,
}
# Settings of a provider that are no secret and go with its calls.
_SETTINGS = (
    "api_version",
    "organization",
    "vertex_project",
    "vertex_location",
    "aws_region_name",
    "region_name",
    "watsonx_region_name",
)
_READ = frozenset(
    {
        "model",
        "api_key",
        "api_base",
        "rpm",
        "tpm",
        "weight",
        "order",
        "timeout",
        "stream_timeout",
        "custom_llm_provider",
        "litellm_credential_name",
        "max_retries",
        *_SETTINGS,
    }
)
_FROM_ENVIRONMENT = "os.environ/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How a model signs in; ``secret`` None: as the environment of whoever calls says."""

    provider: str
    secret: str | None = field(repr=False)
    api_base: str = ""
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of ``model_list``. Rates are of a minute, ``timeout_seconds`` of one attempt."""

    name: str
    model: str
    kind: str
    key: Key | None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    weight: int = 1
    order: int = 0
    timeout_seconds: int | None = None
    prices: UnitPrices | None = None
    groups: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Config:
    """``left_out`` says, line by line, what has no counterpart here and what to do about it."""

    models: list[Model] = field(default_factory=list)
    fallbacks: dict[str, list[str]] = field(default_factory=dict)
    context_window_fallbacks: dict[str, list[str]] = field(default_factory=dict)
    content_policy_fallbacks: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read(text: str, environment: Mapping[str, str]) -> Config:
    """``environment`` answers for ``os.environ/NAME``. Raises Invalid for what is no configuration."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"This is no YAML: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("model_list", []), list):
        raise Invalid("This is no configuration of a LiteLLM proxy: it has no model_list.")
    config = Config()
    shared = _credentials(given.get("credential_list"))
    for number, entry in enumerate(given.get("model_list") or [], start=1):
        _read_model(config, entry, number, shared, environment)
    for part in ("litellm_settings", "router_settings"):
        _read_fallbacks(config, given.get(part) or {}, part)
    for part in sorted(set(given) - {"model_list", "credential_list"}):
        _tell_of_settings(config, part, given[part])
    return config


def _credentials(given: Any) -> dict[str, Mapping[str, Any]]:
    listed = given if isinstance(given, list) else []
    return {
        str(one.get("credential_name")): one.get("credential_values") or {}
        for one in listed
        if isinstance(one, dict)
    }


def _read_model(
    config: Config,
    entry: Any,
    number: int,
    shared: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
) -> None:
    params = entry.get("litellm_params") if isinstance(entry, dict) else None
    if not isinstance(params, dict) or not params.get("model") or not entry.get("model_name"):
        config.left_out.append(f"model_list[{number}]: without model_name and litellm_params.model")
        return
    name = str(entry["model_name"])
    model = _with_provider(str(params["model"]), params.get("custom_llm_provider"))
    about = f"model {name} ({model})"
    if "*" in name or "*" in model:
        config.left_out.append(
            f"{about}: a wildcard; here every model is an alias of its own, with a price"
        )
        return
    info = entry.get("model_info") or {}
    mode = str(info.get("mode") or "chat")
    if mode not in KINDS:
        config.left_out.append(f"{about}: calls of mode {mode} are not sold here")
        return
    named = str(params.get("litellm_credential_name") or "")
    signs_in = {**shared.get(named, {}), **params}
    key = _key(config, about, model, signs_in, environment)
    extra = sorted(
        set(params) - _READ - {name for name in params if "_cost_" in name or "cost_per" in name}
    )
    if extra:
        config.left_out.append(f"{about}: settings that calls cannot carry: {', '.join(extra)}")
    config.models.append(
        Model(
            name=name,
            model=model,
            kind=KINDS[mode],
            key=key,
            requests_per_minute=_whole(params.get("rpm")),
            tokens_per_minute=_whole(params.get("tpm")),
            weight=_whole(params.get("weight")) or 1,
            order=_whole(params.get("order")) or 0,
            timeout_seconds=_whole(params.get("timeout")),
            prices=_prices(config, about, {**info, **params}),
            groups=tuple(str(group) for group in info.get("access_groups") or ()),
        )
    )


def _key(
    config: Config,
    about: str,
    model: str,
    signs_in: Mapping[str, Any],
    environment: Mapping[str, str],
) -> Key | None:
    secret = str(signs_in.get("api_key") or "")
    base = str(signs_in.get("api_base") or "")
    for name in ("api_key", "api_base"):
        text = str(signs_in.get(name) or "")
        if not text.startswith(_FROM_ENVIRONMENT):
            continue
        variable = text.removeprefix(_FROM_ENVIRONMENT)
        found = environment.get(variable, "")
        if not found:
            config.left_out.append(
                f"{about}: {variable} is not set here, so its {name} is not known;"
                " set it and import again, or enter it under Credentials"
            )
        if name == "api_key":
            secret = found
        else:
            base = found
    settings = tuple(
        (name, str(signs_in[name])) for name in _SETTINGS if signs_in.get(name) is not None
    )
    if not secret:
        if base or settings:
            config.left_out.append(
                f"{about}: its address and settings belong to a credential, which has no key here"
            )
        return None
    return Key(
        provider=model.split("/", maxsplit=1)[0],
        secret=secret,
        api_base=base,
        settings=settings,
    )


def _with_provider(model: str, provider: Any) -> str:
    """litellm's model string says whose it is; the proxy may say so beside it."""
    if provider and not model.startswith(f"{provider}/"):
        return f"{provider}/{model}"
    return model if "/" in model else f"openai/{model}"


def _prices(config: Config, about: str, given: Mapping[str, Any]) -> UnitPrices | None:
    """USD per token where the proxy was told; None: as the bundled price list says."""
    names = {
        "input": "input_cost_per_token",
        "output": "output_cost_per_token",
        "cached_read": "cache_read_input_token_cost",
        "cache_write": "cache_creation_input_token_cost",
    }
    if given.get(names["input"]) is None or given.get(names["output"]) is None:
        return None
    try:
        rates = {
            ours: femto(Decimal(str(given[theirs])))
            for ours, theirs in names.items()
            if given.get(theirs) is not None
        }
        return UnitPrices(base=Rates(**rates))
    except (BadPrice, InexactAmount, InvalidOperation, ValueError) as error:
        config.left_out.append(f"{about}: its price cannot be used: {error}")
        return None


def _read_fallbacks(config: Config, settings: Any, part: str) -> None:
    if not isinstance(settings, dict):
        return
    for name in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        kept = getattr(config, name)
        for line in settings.get(name) or []:
            for model, others in line.items() if isinstance(line, dict) else ():
                kept.setdefault(str(model), []).extend(map(str, others))
    if settings.get("default_fallbacks"):
        config.left_out.append(
            f"{part}.default_fallbacks: give each alias its own deployments of a later priority"
        )


# What a proxy is told and this platform does otherwise; "" needs no word.
_SETTINGS_OTHERWISE: Mapping[str, Mapping[str, str]] = {
    "general_settings": {
        "master_key": "operators sign in, and have keys with a role (issue_operator_key)",
        "database_url": "",
        "alerting": "ALERT_EMAILS and ALERT_SLACK_URL",
        "alerting_threshold": "ALERT_EMAILS and ALERT_SLACK_URL",
    },
    "litellm_settings": {
        "fallbacks": "",
        "context_window_fallbacks": "",
        "content_policy_fallbacks": "",
        "default_fallbacks": "",
        "drop_params": "parameters that a provider does not know are handled by the platform",
        "num_retries": "CALL_RETRIES",
        "request_timeout": "the time a call may take is CALL_DEADLINE_SECONDS",
        "cache": "a cache is switched on for each alias (cache_ttl_seconds)",
        "cache_params": "a cache is switched on for each alias (cache_ttl_seconds)",
        "callbacks": "metrics, traces and webhooks are the platform's own",
        "success_callback": "metrics, traces and webhooks are the platform's own",
        "failure_callback": "metrics, traces and webhooks are the platform's own",
        "max_budget": "budgets are of an organization, a team or a key",
        "budget_duration": "budgets are of an organization, a team or a key",
    },
    "router_settings": {
        "fallbacks": "",
        "context_window_fallbacks": "",
        "content_policy_fallbacks": "",
        "default_fallbacks": "",
        "routing_strategy": "deployments are chosen by priority, then by weight",
        "redis_host": "REDIS_URL",
        "redis_port": "REDIS_URL",
        "redis_password": "REDIS_URL",
        "num_retries": "CALL_RETRIES",
    },
}


def _tell_of_settings(config: Config, part: str, given: Any) -> None:
    known = _SETTINGS_OTHERWISE.get(part, {})
    names: Iterable[Any] = given if isinstance(given, dict) else [""]
    for name in sorted(map(str, names)):
        otherwise = known.get(name, "no counterpart")
        if otherwise:
            config.left_out.append(f"{part}.{name}".rstrip(".") + f": {otherwise}")


def _whole(value: Any) -> int | None:
    try:
        number = int(Decimal(str(value)))
    except (InvalidOperation, ValueError, TypeError):
        return None
    return number if number > 0 else None
