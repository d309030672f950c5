from django.urls import path

from teams.operator_api import by_method
from webhooks import views

urlpatterns = [
    path("webhooks", by_method(GET=views.list_endpoints, POST=views.create_endpoint)),
    path("webhooks/event-types", views.list_types),
    path(
        "webhooks/<int:endpoint_id>",
        by_method(
            GET=views.show_endpoint, PATCH=views.change_endpoint, DELETE=views.delete_endpoint
        ),
    ),
    path("webhooks/<int:endpoint_id>/rotate-secret", views.rotate_secret),
    path("webhooks/<int:endpoint_id>/test", views.send_test),
    path("webhooks/<int:endpoint_id>/replay", views.replay_events),
    path("webhooks/<int:endpoint_id>/deliveries", views.list_deliveries),
    path("webhooks/<int:endpoint_id>/deliveries/<int:delivery_id>", views.show_delivery),
    path("webhooks/<int:endpoint_id>/deliveries/<int:delivery_id>/resend", views.resend_delivery),
]
