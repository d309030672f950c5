from django.urls import path

from saas_litellm.plan_pages import activating, drafting, plan_list, shadowing, what_if

app_name = "prices"
_VERSION = "plans/<slug:slug>/<int:number>"
urlpatterns = [
    path("plans/", plan_list.price_plans, name="plans"),
    path("what-if/", what_if.price_what_if, name="what_if"),
    path("shadows/", shadowing.price_shadows, name="shadows"),
    path("shadows/<int:pk>/", shadowing.price_shadow, name="shadow"),
    path("plans/<slug:slug>/", plan_list.price_plan, name="plan"),
    path("plans/<slug:slug>/teams/", plan_list.teams_of_plan, name="teams"),
    path("plans/<slug:slug>/assign/", activating.assign, name="assign"),
    path("plans/<slug:slug>/new/", drafting.new_version, name="new"),
    path("plans/<slug:slug>/preview/", drafting.live_preview, name="preview"),
    path(f"{_VERSION}/edit/", drafting.edit_version, name="edit"),
    path(f"{_VERSION}/activate/", activating.activate, name="activate"),
    path(f"{_VERSION}/again/", plan_list.go_back, name="again"),
    path(f"{_VERSION}/shadow/", shadowing.start_shadow, name="start_shadow"),
]
