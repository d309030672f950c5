"""A local HTTP server that speaks the part of Stripe's API that credits are sold by.

    with StripeDouble() as stripe:
        session = stripe.pay(session_id)          # what a customer does at Checkout
        stripe.refund(intent_id, 500)             # what an operator does in the dashboard
        stripe.dispute(intent_id); stripe.close_dispute(dispute_id, "won")
        stripe.next_charge("card_declined")       # how the next off-session charge goes
        body, header = stripe.signed(stripe.event("charge.refunded", charge))

Objects have the documented fields that are read; idempotency keys are honoured: a key again gives
the first answer again, errors too, and 400 for other parameters.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import deque
from typing import Any, Self

import stripe
from aiohttp import web

WEBHOOK_SECRET = "whsec_test_secret"
SECRET_KEY = "sk_test_double"


class StripeDouble:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.charges_made = 0
        # Seconds before an answer, and whether it is never sent: as when a connection is cut.
        self.delay = 0.0
        self.cuts: deque[bool] = deque()
        self.is_away = False
        self._outcomes: deque[str] = deque()
        self._kept: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- What people do at Stripe ---------------------------------------------------------------

    def pay(self, session_id: str, *, amount: int | None = None) -> dict[str, Any]:
        """A customer pays in Checkout (or saves a card there); the session as it is then."""
        session = self.objects[session_id]
        if session["mode"] == "setup":
            method = self._make("pm", object="payment_method", type="card", card=_card("4242"))
            setup = self._make(
                "seti", object="setup_intent", status="succeeded", payment_method=method["id"]
            )
            session.update(status="complete", setup_intent=setup["id"])
            return session
        intent = self._intent(
            amount=session["amount_total"] if amount is None else amount,
            currency=session["currency"],
            customer=session["customer"],
            metadata=session["_intent_metadata"],
        )
        self._succeed(intent)
        session.update(status="complete", payment_status="paid", payment_intent=intent["id"])
        return session

    def pay_link(self, link_id: str) -> dict[str, Any]:
        """Somebody with a payment link pays it."""
        link = self.objects[link_id]
        session = self._session(link, mode="payment", customer="cus_guest")
        return self.pay(session["id"])

    def expire(self, session_id: str) -> dict[str, Any]:
        session = self.objects[session_id]
        session["status"] = "expired"
        return session

    def refund(self, intent_id: str, amount: int) -> dict[str, Any]:
        charge = self.charge(intent_id)
        made = self._make(
            "re",
            object="refund",
            amount=amount,
            currency=charge["currency"],
            status="succeeded",
            reason="requested_by_customer",
            payment_intent=intent_id,
            charge=charge["id"],
        )
        charge["amount_refunded"] += amount
        return made

    def fail_refund(self, refund_id: str) -> dict[str, Any]:
        """The bank could not take it: the money comes back."""
        refund = self.objects[refund_id]
        refund["status"] = "failed"
        self.objects[refund["charge"]]["amount_refunded"] -= refund["amount"]
        return refund

    def dispute(self, intent_id: str, amount: int | None = None, **more: Any) -> dict[str, Any]:
        charge = self.charge(intent_id)
        return self._make(
            "du",
            object="dispute",
            **{
                "amount": charge["amount"] if amount is None else amount,
                "currency": charge["currency"],
                "status": "needs_response",
                "reason": "fraudulent",
                "payment_intent": intent_id,
                "charge": charge["id"],
                **more,
            },
        )

    def close_dispute(self, dispute_id: str, status: str) -> dict[str, Any]:
        self.objects[dispute_id]["status"] = status
        return self.objects[dispute_id]

    def charge(self, intent_id: str) -> dict[str, Any]:
        return self.objects[self.objects[intent_id]["latest_charge"]]

    def next_charge(self, *outcomes: str) -> None:
        """succeeded (the default), processing, requires_action, or a decline's code."""
        self._outcomes.extend(outcomes)

    # --- What it sends ---------------------------------------------------------------------------

    def event(self, type_: str, about: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "id": f"evt_{next(self._numbers)}",
            "object": "event",
            "type": type_,
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": _shown(about)},
            **more,
        }

    @staticmethod
    def signed(event: dict[str, Any], *, at: int | None = None) -> tuple[str, str]:
        """The body of a delivery and its signature, by the library's own scheme."""
        body = json.dumps(event)
        return body, stripe.WebhookSignature.generate_signature_header(body, WEBHOOK_SECRET, at)

    # --- HTTP ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/v1/{tail:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, key = request.path.removeprefix("/v1/"), request.headers.get("Idempotency-Key", "")
        self.requests.append((request.method, path, key))
        if request.headers.get("Authorization") != f"Bearer {SECRET_KEY}":
            return web.json_response(_error("invalid_request_error", "no such key"), status=401)
        if self.is_away:
            return web.json_response(_error("api_error", "down"), status=503)
        form = _nested(await request.post()) if request.method == "POST" else {}
        with self._lock:
            status, body = (
                self._once(path, key, form)
                if form or request.method == "POST"
                else (self._read(path, request.query))
            )
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.cuts and self.cuts.popleft():
            assert request.transport is not None
            request.transport.close()
        return web.json_response(body, status=status)

    def _once(self, path: str, key: str, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked = json.dumps([path, form], sort_keys=True)
        if key in self._kept:
            kept, status, body = self._kept[key]
            if kept != asked:
                return 400, _error("idempotency_error", "other parameters", "idempotency_key")
            return status, body
        status, body = self._write(path, form)
        if key:
            self._kept[key] = (asked, status, body)
        return status, body

    def _write(self, path: str, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match path.split("/"):
            case ["customers"]:
                return 200, self._make("cus", object="customer", **form)
            case ["checkout", "sessions"]:
                more = {name: form[name] for name in ("mode", "customer", "success_url")}
                return 200, _shown(self._session(form, **more))
            case ["payment_links"]:
                made = self._make("plink", object="payment_link", active=True, **form)
                made["url"] = f"https://buy.stripe.test/{made['id']}"
                return 200, made
            case ["payment_intents"]:
                return self._charge(form)
            case ["payment_intents", intent_id, "cancel"]:
                intent = self.objects[intent_id]
                if intent["status"] in {"succeeded", "canceled"}:
                    error = "payment_intent_unexpected_state"
                    return 400, _error("invalid_request_error", "it has ended", error)
                intent["status"] = "canceled"
                return 200, _shown(intent)
        return 404, _error("invalid_request_error", f"no such path: {path}")

    def _charge(self, form: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Create and confirm off-session."""
        assert (form["off_session"], form["confirm"]) == ("true", "true")
        if form["payment_method"] not in self.objects:
            return 400, _error("invalid_request_error", "No such PaymentMethod", "resource_missing")
        self.charges_made += 1
        intent = self._intent(
            amount=int(form["amount"]),
            currency=form["currency"],
            customer=form["customer"],
            metadata=form["metadata"],
        )
        intent["payment_method"] = form["payment_method"]
        outcome = self._outcomes.popleft() if self._outcomes else "succeeded"
        if outcome == "succeeded":
            self._succeed(intent)
        elif outcome in {"processing", "requires_action"}:
            intent["status"] = outcome
        else:
            message = f"Your card was declined: {outcome}."
            error = _error("card_error", message, outcome)
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = {"code": outcome, "message": message}
            error["error"]["payment_intent"] = _shown(intent)
            return 402, error
        return 200, _shown(intent)

    def _read(self, path: str, query: Any) -> tuple[int, dict[str, Any]]:
        match path.split("/"):
            case [("refunds" | "disputes") as kind]:
                found = self._of_kind(kind.removesuffix("s"))
                return 200, _list(
                    kind, [o for o in found if o["payment_intent"] == query["payment_intent"]]
                )
            case ["payment_intents"]:
                found = self._of_kind("payment_intent")
                return 200, _list(
                    "payment_intents", [o for o in found if o["customer"] == query["customer"]]
                )
            case [*_, object_id] if object_id in self.objects:
                found = _shown(self.objects[object_id])
                for name in (value for at, value in query.items() if at.startswith("expand")):
                    if found.get(name) in self.objects:
                        found[name] = self.objects[found[name]]
                return 200, found
        return 404, _error("invalid_request_error", f"no such object: {path}", "resource_missing")

    def _session(self, form: dict[str, Any], **more: Any) -> dict[str, Any]:
        lines = form.get("line_items", {}).get("0", {}).get("price_data", {})
        made = self._make(
            "cs_test",
            object="checkout.session",
            status="open",
            payment_status="unpaid",
            payment_intent=None,
            setup_intent=None,
            amount_total=int(lines.get("unit_amount", 0)),
            currency=lines.get("currency"),
            metadata=form.get("metadata", {}),
            _intent_metadata=form.get("payment_intent_data", {}).get("metadata", {}),
            **more,
        )
        made["url"] = f"https://checkout.stripe.test/{made['id']}"
        return made

    def _intent(self, **given: Any) -> dict[str, Any]:
        return self._make(
            "pi",
            object="payment_intent",
            amount_received=0,
            latest_charge=None,
            last_payment_error=None,
            payment_method=None,
            status="requires_confirmation",
            **given,
        )

    def _succeed(self, intent: dict[str, Any]) -> None:
        if intent["payment_method"] is None:
            method = self._make("pm", object="payment_method", type="card", card=_card("4242"))
            intent["payment_method"] = method["id"]
        charge = self._make(
            "ch",
            object="charge",
            amount=intent["amount"],
            amount_refunded=0,
            currency=intent["currency"],
            payment_intent=intent["id"],
            payment_method_details={"type": "card", "card": _card("4242")},
        )
        charge["receipt_url"] = f"https://pay.stripe.test/receipts/{charge['id']}"
        intent.update(
            status="succeeded", amount_received=intent["amount"], latest_charge=charge["id"]
        )

    def _make(self, prefix: str, **given: Any) -> dict[str, Any]:
        made = {"id": f"{prefix}_{next(self._numbers)}", "created": int(time.time()), **given}
        self.objects[made["id"]] = made
        return made

    def _of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [_shown(one) for one in self.objects.values() if one["object"] == kind]


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if not name.startswith("_")}


def _list(path: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "url": f"/v1/{path}", "has_more": False, "data": found}


def _card(last4: str) -> dict[str, Any]:
    return {"brand": "visa", "last4": last4}


def _error(type_: str, message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"type": type_, "message": message, "code": code}}


def _nested(form: Any) -> dict[str, Any]:
    """``a[b][0]=c`` as ``{"a": {"b": {"0": "c"}}}``, which is how the library writes it."""
    nested: dict[str, Any] = {}
    for name, value in form.items():
        *parents, last = name.replace("]", "").split("[")
        inside = nested
        for parent in parents:
            inside = inside.setdefault(parent, {})
        inside[last] = value
    return nested
