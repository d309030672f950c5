"""How a management endpoint is declared: by an operator's key or session, with one permission."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from pydantic import AfterValidator, BaseModel, Field

from saas_litellm.base import http, idempotency
from saas_litellm.base.bridge import in_database, outside
from saas_litellm.base.money import InexactAmount, nano
from saas_litellm.base.refusals import Forbidden, Invalid, MethodNotAllowed, Unauthenticated
from teams import operators
from teams.api import Body, Query, answer_once, documented, guarded, json_body, parse, query_of
from teams.operators import Operator

# Decimals as text or numbers; each is turned into an exact integer by `exact`.
Amount = Annotated[Decimal, Field(strict=False, ge=0, le=10**9)]
SignedAmount = Annotated[Decimal, Field(strict=False, ge=-(10**9), le=10**9)]
Moment = Annotated[
    datetime,
    Field(strict=False),
    AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC)),
]
Key = Annotated[str, Field(min_length=1, max_length=120)]


def exact(amount: Decimal, *, param: str) -> int:
    """Credits or USD to nano units; raises Invalid for more than 9 decimal places."""
    try:
        return nano(amount)
    except InexactAmount as error:
        raise Invalid(f"{param} has more than 9 decimal places.", param=param) from error


def maybe_exact(amount: Decimal | None, *, param: str) -> int | None:
    return None if amount is None else exact(amount, param=param)


def operator_of(request: HttpRequest) -> Callable[[], Operator]:
    """Who asks, to be found out on the database pool. Raises Unauthenticated, Forbidden."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    bearer = bearer.strip()
    if scheme.lower() == "bearer" and bearer:
        if not bearer.startswith(operators.PREFIX):
            raise Forbidden("This path needs an operator key, not a team's.")
        return lambda: operators.authenticate(bearer)
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if scheme or not session:
        raise Unauthenticated("Send an operator key: Authorization: Bearer slo_...")
    return lambda: operators.of_session(session)


def management(
    method: str,
    *,
    permission: str,
    answer: type[BaseModel],
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    status: int = HTTPStatus.OK,
    asks_outside: bool = False,
    summary: str,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an endpoint from ``function(operator, [body or query], **path)``, sync.

    The function may return a whole HttpResponse (a CSV file) instead of a JSON body. One that
    ``asks_outside`` asks another service: it runs in no transaction and on threads of its own, and
    an idempotency key is not kept, for asking again does no harm.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
            return await guarded(request, _answer, path)

        async def _answer(request: HttpRequest, path: dict[str, Any]) -> HttpResponseBase:
            if request.method != method:
                raise MethodNotAllowed
            operator_behind = operator_of(request)
            given: list[BaseModel] = []
            if body is not None:
                given = [json_body(request, body)]
            elif query is not None:
                given = [parse(query, query_of(request))]

            key = idempotency.key_of(request)

            def work() -> HttpResponseBase:
                operator = operator_behind()
                operator.require(permission)
                if asks_outside:
                    result = function(operator, *given, **path)
                    return http.answer(result, status=status)
                claim = key.claim(f"operator:{operator.user.pk}") if key else None
                return answer_once(claim, lambda: function(operator, *given, **path), status)

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
            security="operatorKey",
        )

    return declare


def by_method(**views: Callable[..., Any]) -> Callable[..., Any]:
    """One path, an endpoint for each method: ``by_method(GET=list_x, POST=create_x)``."""

    async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
        chosen = views.get(request.method or "")
        if chosen is None:
            return http.refuse(MethodNotAllowed(), request_id=http.request_id(request))
        response: HttpResponseBase = await chosen(request, **path)
        return response

    view.__name__ = "_or_".join(named.__name__ for named in views.values())
    view.cls = type(  # type: ignore[attr-defined]
        "Documentation",
        tuple(named.cls for named in views.values()),  # type: ignore[attr-defined]
        {},
    )
    view.initkwargs = {}  # type: ignore[attr-defined]
    return view
