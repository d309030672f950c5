from django.urls import path

from billing import views

urlpatterns = [
    path("credits/teams/<str:team_id>/balance", views.show_balance),
    path("credits/teams/<str:team_id>/transactions", views.list_transactions),
    path("credits/teams/<str:team_id>/check", views.check_credits),
]
