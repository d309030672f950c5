"""Who asks about webhooks: a team about its own endpoints, an operator about everybody's.

The same paths serve both, so an endpoint is declared here with both in mind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from pydantic import BaseModel

from saas_litellm.base import http, idempotency
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import MethodNotAllowed, NotFound
from teams import directory, operators
from teams.api import Body, Query, documented, guarded, json_body, parse, query_of, signature
from teams.models import Team
from teams.operator_api import operator_of
from teams.operators import Operator
from webhooks.models import Endpoint

# What only the first answer shows; a replay has null in its place.
SECRET = "secret"  # noqa: S105 - the field's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose endpoints may be seen: one team's, or to an operator all of them."""

    team: Team | None
    operator: Operator | None
    actor: str
    # Whose idempotency keys these are.
    name: str

    def endpoints(self) -> QuerySet[Endpoint]:
        found = Endpoint.objects.select_related("team__organization")
        return found if self.operator is not None else found.filter(team=self.team)

    def find(self, endpoint_id: int) -> Endpoint:
        """Raises NotFound, for a stranger's as for none."""
        endpoint = self.endpoints().filter(pk=endpoint_id).first()
        if endpoint is None:
            raise NotFound("There is no endpoint with this id.")
        return endpoint


def shared(
    method: str,
    *,
    permission: str,
    answer: type[BaseModel],
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    status: int = HTTPStatus.OK,
    summary: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an endpoint from ``function(scope, [body or query], **path)``, sync.

    A team's key is enough for its own; an operator needs the permission.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
            return await guarded(request, _answer, path)

        async def _answer(request: HttpRequest, path: dict[str, Any]) -> HttpResponse:
            if request.method != method:
                raise MethodNotAllowed
            who = _who(request, permission)
            given: list[BaseModel] = []
            if body is not None:
                given = [json_body(request, body)]
            elif query is not None:
                given = [parse(query, query_of(request))]
            key = idempotency.key_of(request)

            def work() -> HttpResponse:
                scope = who(getattr(given[0], "team_id", None) if given else None, path)
                if key is None:
                    return http.answer(function(scope, *given, **path), status=status)
                return _once(key.claim(scope.name), lambda: function(scope, *given, **path), status)

            return await in_database(work)

        view.__name__, view.__module__ = function.__name__, function.__module__
        view.__doc__ = function.__doc__
        return documented(
            view,
            method=method,
            request=body,
            query=query,
            answers={status: answer},
            summary=summary,
            security=("teamKey", "operatorKey"),
        )

    return declare


def _once(claim: idempotency.Claim, work: Callable[[], Any], status: int) -> HttpResponse:
    result, kept = idempotency.once(claim, work, _without_secret)
    if result is not None:
        return http.answer(result, status=status)
    if not kept:
        # The key that opens it is gone; doing it again would do it twice.
        raise idempotency.KeyReused
    return HttpResponse(
        kept,
        content_type="application/json",
        status=status,
        headers={"Idempotent-Replayed": "true"},
    )


def _without_secret(result: dict[str, Any]) -> str:
    shown = {**result, SECRET: None} if SECRET in result else result
    return http.encode(shown).decode()


def _who(request: HttpRequest, permission: str) -> Callable[[str | None, dict[str, Any]], Scope]:
    """Who asks, to be found out on the database pool. Raises Unauthenticated."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    has_session = not scheme and settings.SESSION_COOKIE_NAME in request.COOKIES
    if bearer.strip().startswith(operators.PREFIX) or has_session:
        operator_behind = operator_of(request)

        def by_operator(team_slug: str | None, path: dict[str, Any]) -> Scope:
            operator = operator_behind()
            operator.require(permission)
            team = directory.find_team(team_slug) if team_slug else None
            name = f"operator:{operator.user.pk}"
            return Scope(team=team, operator=operator, actor=operator.actor, name=name)

        return by_operator
    signed = signature(request)

    def by_team(team_slug: str | None, path: dict[str, Any]) -> Scope:
        caller = signed.caller(team_slug=team_slug, owner_slug=lambda: _owner(path))
        return Scope(team=caller.team, operator=None, actor=caller.actor, name=caller.name)

    return by_team


def _owner(path: dict[str, Any]) -> str | None:
    """The team of the endpoint in the path, for the open local demo."""
    found = Endpoint.objects.filter(pk=path.get("endpoint_id", 0), team__isnull=False)
    return found.values_list("team__slug", flat=True).first()
