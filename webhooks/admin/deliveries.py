"""What was sent: each message, its attempts, and how each answer began."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import TabularInline

from saas_litellm.base.admin import (
    EventTypeFilter,
    PageForm,
    ReadOnlyAdmin,
    actor,
    form_page,
    object_page,
    permitted,
    tell,
)
from saas_litellm.base.paging import BoundedPaginator
from saas_litellm.base.refusals import Refusal
from webhooks import sent, signing
from webhooks.models import Attempt, Delivery


class AttemptInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Attempt
    fields = ("number", "started_at", "milliseconds", "response_status", "failure", "excerpt")
    readonly_fields = fields
    ordering = ("id",)
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("webhooks.view_delivery"))


class EventTypes(EventTypeFilter):
    column = "event__type"


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "type",
        "event",
        "endpoint",
        "status",
        "tries",
        "next_try",
        "created_at",
        "finished_at",
    )
    list_select_related = ("event", "endpoint__team")
    list_filter = ("status", "cause", EventTypes)
    fields = (
        "endpoint",
        "type",
        "cause",
        "status",
        "tries",
        "next_try",
        "gives_up_at",
        "created_at",
        "finished_at",
        "message",
    )
    readonly_fields = ("type", "next_try", "message")
    paginator = BoundedPaginator
    show_full_result_count = False
    inlines = (AttemptInline,)
    actions = ("resend",)
    actions_detail = ("resend_page",)
    has_resend_permission = permitted("webhooks.resend_delivery")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # The endpoint's page leads here.
        return lookup == "endpoint__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description="Type", ordering="event__type")
    def type(self, delivery: Delivery) -> str:
        return delivery.event.type

    @admin.display(description="Next attempt", ordering="next_at")
    def next_try(self, delivery: Delivery) -> str:
        is_pending = delivery.status == Delivery.Status.PENDING
        return f"{delivery.next_at:%Y-%m-%d %H:%M:%S} UTC" if is_pending else "–"

    @admin.display(description="Message")
    def message(self, delivery: Delivery) -> str:
        message = signing.body_of(delivery.event).decode()
        return format_html('<code class="whole-text">{}</code>', message)

    @admin.action(description="Send again", permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        count = 0
        for delivery in queryset.order_by("id"):
            try:
                sent.again(delivery=delivery, actor=actor(request))
            except Refusal as refusal:
                tell(self, request, refusal)
            else:
                count += 1
        self.message_user(request, f"{count} messages are on their way again.", messages.SUCCESS)

    @object_page(description="Send again", path="resend", permission="resend")
    def resend_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        found = Delivery.objects.select_related("event", "endpoint__team__organization")
        delivery = get_object_or_404(found, pk=object_id)

        def act(given: dict[str, Any]) -> str:
            sent.again(delivery=delivery, actor=actor(request))
            return f"{delivery.event} is on its way again."

        return form_page(
            self,
            request,
            form_class=PageForm,
            title=f"Send {delivery} again",
            note="The same message under the same id: a receiver that has it already should say so"
            " and do nothing.",
            button="Send it again",
            act=act,
            back=reverse("admin:webhooks_delivery_change", args=[delivery.pk]),
            is_once=True,
        )
