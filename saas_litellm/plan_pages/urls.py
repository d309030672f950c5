from django.urls import path

from saas_litellm.plan_pages import activating, drafting, plan_list, shadowing, what_if

_VERSION = "plan/<slug:slug>/<int:number>"
urlpatterns = [
    path("", plan_list.price_plans, name="price_plans"),
    path("what-if/", what_if.price_what_if, name="price_what_if"),
    path("shadows/", shadowing.price_shadows, name="price_shadows"),
    path("shadows/<int:pk>/", shadowing.price_shadow, name="price_shadow"),
    path("plan/<slug:slug>/", plan_list.price_plan, name="price_plan"),
    path("plan/<slug:slug>/teams/", plan_list.teams_of_plan, name="price_plan_teams"),
    path("plan/<slug:slug>/assign/", activating.assign, name="price_plan_assign"),
    path("plan/<slug:slug>/new/", drafting.new_version, name="price_plan_new_version"),
    path("plan/<slug:slug>/preview/", drafting.live_preview, name="price_plan_preview"),
    path(f"{_VERSION}/edit/", drafting.edit_version, name="price_plan_edit"),
    path(f"{_VERSION}/activate/", activating.activate, name="price_plan_activate"),
    path(f"{_VERSION}/again/", plan_list.go_back, name="price_plan_again"),
    path(f"{_VERSION}/shadow/", shadowing.start_shadow, name="price_plan_shadow"),
]
