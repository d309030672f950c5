"""How a team endpoint is declared: who calls, what is allowed in, what the schema says.

``@endpoint`` makes an async Django view out of sync database code. The caller's key, the body and
the query are checked first; then the function runs once on the database pool. The view carries a
schema-only DRF view, so that drf-spectacular documents it like any other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BaseModel, ConfigDict, ValidationError
from rest_framework.views import APIView

from saas_litellm.base import http, idempotency
from saas_litellm.base.bridge import in_database, outside
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.refusals import Invalid, MethodNotAllowed, NotFound, Refusal, Unauthenticated
from saas_litellm.base.standing import Memory, NotRemembered
from teams import directory, keys, operators
from teams.models import ApiKey, Team
from teams.operators import Operator
from teams.refusals import TeamMismatch

Model = TypeVar("Model", bound=BaseModel)
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Body(BaseModel):
    """A request body: unknown fields and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Query(BaseModel):
    """A query string: unknown parameters are refused, text is read as the type it spells."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ErrorDetail(BaseModel):
    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorAnswer(BaseModel):
    error: ErrorDetail


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A team at work: by one of its keys, an operator for it, or nobody in the open local demo."""

    team: Team
    api_key: ApiKey | None
    operator: Operator | None = None

    @property
    def name(self) -> str:
        """Whose idempotency keys these are: a team's keys share theirs, an operator's do not."""
        if self.operator is not None:
            return f"operator:{self.operator.user.pk}:team:{self.team.pk}"
        return f"team:{self.team.pk}"

    @property
    def actor(self) -> str:
        if self.operator is not None:
            return self.operator.actor
        return f"key:{self.api_key.prefix}" if self.api_key else f"demo:{self.team.slug}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a request says about who sends it."""

    bearer: str | None
    is_open_demo: bool
    # X-Team-Id: whom an operator's key acts for where neither body nor path says so.
    team_header: str | None = None

    def caller(
        self,
        *,
        team_slug: str | None,
        owner_slug: Callable[[], str | None],
        memory: Memory | None = None,
    ) -> Caller:
        """Sync. ``team_slug`` is the body's; ``owner_slug`` finds the owner of what the path names.

        Raises Unauthenticated and its kin, TeamMismatch, Forbidden (an operator who may not act for
        teams), or NotFound (an operator's or the demo's unknown team).
        """
        operator: Operator | None = None
        is_operator = self.bearer is not None and self.bearer.startswith(operators.PREFIX)
        if memory is not None and not memory.may_ask and (is_operator or self.bearer is None):
            # Only what a team's own key may do is ever remembered.
            raise NotRemembered
        if self.bearer is not None and is_operator:
            operator = operators.authenticate(self.bearer)
            operator.require("teams.act_for_team")
        elif self.bearer is not None:
            key = keys.authenticate(self.bearer, memory)
            if team_slug is not None and team_slug != key.team.slug:
                raise TeamMismatch(param="team_id")
            return Caller(team=key.team, api_key=key)
        slug = team_slug or owner_slug() or self.team_header
        if slug is None:
            raise NotFound("Say which team: in team_id, or in the header X-Team-Id.")
        team = directory.find_team(slug)
        keys.require_open(team)
        return Caller(team=team, api_key=None, operator=operator)


def signature(request: HttpRequest) -> Signature:
    """Raises Unauthenticated when there is neither a key nor an open local demo.

    Anthropic's clients send the key as ``x-api-key``.
    """
    team_header = request.headers.get("X-Team-Id")
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    if not scheme:
        bearer = request.headers.get("X-Api-Key", "").strip()
    if bearer:
        return Signature(bearer=bearer, is_open_demo=False, team_header=team_header)
    if scheme or not _is_open_demo(request):
        raise Unauthenticated
    return Signature(bearer=None, is_open_demo=True, team_header=team_header)


def parse(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Raises Invalid, its ``param`` the path of the first wrong field."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"]
        raise Invalid(f"{param or 'body'}: {message}", param=param or None) from error


def json_body(request: HttpRequest, model: type[Model]) -> Model:
    """Raises UnsupportedMediaType, InvalidJson, Invalid."""
    if _is_nothing_said(request) and not any(
        field.is_required() for field in model.model_fields.values()
    ):
        return parse(model, {})
    body = http.json_object(request)
    if b"\\u0000" in request.body and _has_nul(body):
        raise Invalid("The character NUL (\\u0000) is not allowed in any text.")
    return parse(model, body)


def _is_nothing_said(request: HttpRequest) -> bool:
    """No body at all, from somebody whom no foreign web page can imitate: a header of JSON, or one
    with a key, is never sent by a browser before it asked."""
    return not request.body and (
        request.content_type == "application/json"
        or "Authorization" in request.headers
        or "X-Api-Key" in request.headers
    )


def path_team(caller: Caller, team_id: str) -> Team:
    """The team a path names, if it is the caller's; any other raises NotFound."""
    if caller.team.slug != team_id:
        raise NotFound
    return caller.team


def endpoint(
    method: str,
    *,
    answer: type[BaseModel],
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    status: int = HTTPStatus.OK,
    owner_slug: Callable[[Mapping[str, Any]], str | None] = lambda path: path.get("team_id"),
    refused: Callable[[Team, Refusal], None] | None = None,
    asks_outside: bool = False,
    summary: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a team endpoint from ``function(caller, [body or query], **path)``, sync.

    ``refused`` hears of its refusals once nothing of the work stands any more.
    ``asks_outside``: it asks another service, so it runs in no transaction and on threads of its
    own, and gets its idempotency ``claim`` (or None) to keep itself.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
            return await guarded(request, _answer, path)

        async def _answer(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
            if request.method != method:
                raise MethodNotAllowed
            signed = signature(request)
            given: list[BaseModel] = []
            if body is not None:
                given = [json_body(request, body)]
            elif query is not None:
                given = [parse(query, query_of(request))]

            key = idempotency.key_of(request)

            def work() -> HttpResponseBase:
                caller = signed.caller(
                    team_slug=getattr(given[0], "team_id", None) if given else None,
                    owner_slug=lambda: owner_slug(path),
                )
                claim = key.claim(caller.name) if key else None
                try:
                    if asks_outside:
                        return _shown(function(caller, *given, claim=claim, **path), status)
                    return answer_once(claim, lambda: function(caller, *given, **path), status)
                except Refusal as refusal:
                    if refused is not None:
                        refused(caller.team, refusal)
                    raise

            return await (outside if asks_outside else in_database)(work)

        view.__name__, view.__module__ = function.__name__, function.__module__
        view.__doc__ = function.__doc__
        return documented(
            view,
            method=method,
            request=body,
            query=query,
            answers={status: answer},
            summary=summary,
        )

    return declare


def answer_once(claim: Claim | None, work: Callable[[], Any], status: int) -> HttpResponseBase:
    """Do the work of an endpoint, once for an idempotency key. Sync.

    A whole HttpResponse (a file) changes nothing and is made anew.
    """
    if claim is None:
        return _shown(work(), status)
    result, kept = idempotency.once(claim, work, _text)
    if result is not None:
        return _shown(result, status)
    if not kept:
        return _shown(work(), status)
    return HttpResponse(
        kept,
        content_type="application/json",
        status=status,
        headers={"Idempotent-Replayed": "true"},
    )


def _shown(result: Any, status: int) -> HttpResponseBase:
    return result if isinstance(result, HttpResponseBase) else http.answer(result, status=status)


def _text(result: Any) -> str:
    return "" if isinstance(result, HttpResponseBase) else http.encode(result).decode()


async def guarded(
    request: HttpRequest,
    function: Callable[..., Any],
    path: dict[str, Any],
    error_body: http.ErrorBody = http.error_body,
) -> HttpResponseBase:
    """Answer Refusals here, without the thread hop of Django's exception middleware."""
    try:
        response: HttpResponseBase = await function(request, path)
    except Refusal as refusal:
        request_id = http.request_id(request)
        if isinstance(refusal, Invalid):
            refusal = await _refusal_of_key(request) or refusal
        return http.refuse(refusal, request_id=request_id, error_body=error_body)
    return response


async def _refusal_of_key(request: HttpRequest) -> Refusal | None:
    """What is wrong with the key of a request whose body is: it goes first, for whoever sends it
    should mend that first. Bodies are read before keys are looked up, so that a call asks the
    database once; only those that fail pay for a look of their own.
    """
    try:
        bearer = signature(request).bearer
    except Unauthenticated:
        return None  # the admin's session
    if bearer is None:
        return None
    try:
        if bearer.startswith(operators.PREFIX):
            await in_database(operators.authenticate, bearer)
        else:
            await in_database(keys.authenticate, bearer)
    except Refusal as refusal:
        return refusal
    return None


def documented(
    view: Callable[..., Any],
    *,
    method: str,
    request: type[BaseModel] | None,
    answers: Mapping[Any, Any],
    summary: str,
    query: type[Query] | None = None,
    description: str | None = None,
    examples: list[Any] | None = None,
    security: str | Sequence[str] = "teamKey",
) -> Callable[..., Any]:
    """Hang a schema-only DRF view on an async one: drf-spectacular finds views by ``cls``."""

    def documentation(self: APIView, *args: Any, **kwargs: Any) -> None: ...

    documentation.__name__ = view.__name__
    shown = extend_schema(
        operation_id=view.__name__,
        summary=summary,
        description=description or view.__doc__,
        request=request,
        responses={**answers, "default": ErrorAnswer},
        parameters=_parameters(query),
        examples=examples or [],
        auth=[
            {name: []} for name in ([security] if isinstance(security, str) else security) if name
        ],
        tags=[str(view.__module__).partition(".")[0]],
    )(documentation)
    view.cls = type("Documentation", (APIView,), {method.lower(): shown})  # type: ignore[attr-defined]
    view.initkwargs = {}  # type: ignore[attr-defined]
    return view


def query_of(request: HttpRequest) -> dict[str, Any]:
    """The query string as a dict, ``metadata.KEY`` filters gathered under ``metadata``."""
    plain = {name: value for name, value in request.GET.items() if not name.startswith("metadata.")}
    metadata = {
        name.removeprefix("metadata."): value
        for name, value in request.GET.items()
        if name.startswith("metadata.")
    }
    return {**plain, "metadata": metadata} if metadata else plain


def _parameters(query: type[Query] | None) -> list[Any]:
    if query is None:
        return []
    properties = query.model_json_schema()["properties"]
    return [
        OpenApiParameter(
            name=name,
            location="query",
            required=False,
            description=spec.get("description", ""),
            type=str,
        )
        for name, spec in properties.items()
    ]


def _is_open_demo(request: HttpRequest) -> bool:
    """DESIGN of the switch: every condition is of this request, and each one must hold."""
    host = request.META.get("HTTP_HOST", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    forwarded = any(
        header == "HTTP_FORWARDED" or header.startswith("HTTP_X_FORWARDED_")
        for header in request.META
    )
    is_json = request.method in {"GET", "HEAD"} or request.content_type == "application/json"
    return (
        settings.DEBUG
        and settings.SAAS_OPEN_DEMO
        and _is_loopback(request.META.get("REMOTE_ADDR", ""))
        and name in LOCAL_HOSTS
        and not forwarded
        and is_json
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_has_nul, value))
