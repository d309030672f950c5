from django.urls import path

from jobs import call_views, operator_views, reconciliation_views, usage_views, views
from jobs.following import stream
from teams.operator_api import by_method

urlpatterns = [
    path("jobs/create", views.create_job),
    path("jobs/quote", views.quote_job),
    path("jobs/create-and-call", call_views.create_and_call),
    path("jobs/create-and-call-stream", call_views.create_and_call_stream),
    path("jobs/<uuid:job_id>", views.show_job),
    path("jobs/<uuid:job_id>/events", stream.follow_job),
    path("jobs/<uuid:job_id>/llm-call", call_views.llm_call),
    path("jobs/<uuid:job_id>/llm-call-stream", call_views.llm_call_stream),
    path("jobs/<uuid:job_id>/complete", views.complete_job),
    path("jobs/<uuid:job_id>/cancel", views.cancel_job),
    path("jobs/<uuid:job_id>/metadata", views.patch_metadata),
    path("jobs/<uuid:job_id>/costs", views.show_costs),
    path("jobs/<uuid:job_id>/waive", operator_views.waive_job),
    path("credits/teams/<str:team_id>/refund", operator_views.refund),
    path("reports/profit", operator_views.profit_report),
    path("reports/usage-events", usage_views.usage_events),
    path("reports/reprice", operator_views.reprice),
    path(
        "reconciliations",
        by_method(
            GET=reconciliation_views.list_reconciliations, POST=reconciliation_views.reconcile
        ),
    ),
    path("reconciliations/<int:reconciliation_id>", reconciliation_views.show_reconciliation),
    path("reconciliations/lines/<int:line_id>/correct", reconciliation_views.correct),
    path("reports/cost-drift", operator_views.cost_drift),
    path(
        "plans/shadows",
        by_method(GET=operator_views.list_shadows, POST=operator_views.start_shadow),
    ),
    path("plans/shadows/<int:shadow_id>", by_method(DELETE=operator_views.stop_shadow)),
    path("teams/<str:team_id>/jobs", views.list_jobs),
    path("teams/<str:team_id>/usage", views.show_usage),
]
