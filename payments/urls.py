from django.urls import path

from payments import operator_views, views
from teams.operator_api import by_method

urlpatterns = [
    path("credits/packages", views.list_packages),
    path("credits/checkout", views.buy_credits),
    path("credits/payments/<uuid:payment_id>", views.show_payment),
    path("stripe/webhook", views.stripe_webhook),
    path(
        "credits/teams/<str:team_id>/auto-top-up",
        by_method(GET=operator_views.show_auto_top_up, PUT=operator_views.set_auto_top_up),
    ),
    path("credits/teams/<str:team_id>/auto-top-up/card", operator_views.save_card),
]
