from django.urls import path

from billing import budget_views, credit_views, plan_views, views
from teams.operator_api import by_method

urlpatterns = [
    path("credits/teams/<str:team_id>/balance", views.show_balance),
    path("credits/teams/<str:team_id>/transactions", views.list_transactions),
    path("credits/teams/<str:team_id>/check", views.check_credits),
    path("credits/teams/<str:team_id>/add", credit_views.add_credits),
    path("credits/teams/<str:team_id>/adjust", credit_views.adjust_credits),
    path("credits/teams/<str:team_id>/expire", credit_views.expire_lot),
    path("credits/teams/<str:team_id>/limit", credit_views.set_credit_limit),
    path("credits/teams/<str:team_id>/wallet", credit_views.choose_wallet),
    path("credits/teams/<str:team_id>/low-balance", credit_views.set_thresholds),
    path(
        "credits/teams/<str:team_id>/auto-refill",
        by_method(GET=credit_views.list_refills, POST=credit_views.create_refill),
    ),
    path(
        "credits/teams/<str:team_id>/auto-refill/<int:refill_id>",
        by_method(DELETE=credit_views.stop_refill),
    ),
    path("budgets", by_method(GET=budget_views.list_budgets, POST=budget_views.create_budget)),
    path("budgets/<int:budget_id>", by_method(PATCH=budget_views.change_budget)),
    path("plans", by_method(GET=plan_views.list_plans, POST=plan_views.create_plan)),
    path("plans/<str:slug>", plan_views.show_plan),
    path("plans/<str:slug>/versions", plan_views.draft_version),
    path("plans/<str:slug>/versions/<int:number>/activate", plan_views.activate_version),
    path("plans/<str:slug>/assign", plan_views.assign_plan),
    path("teams/<str:team_id>/plan", plan_views.choose_plan),
    path("reports/deferred-revenue", budget_views.deferred_revenue),
]
