from django.urls import path

from jobs import call_views, views

urlpatterns = [
    path("jobs/create", views.create_job),
    path("jobs/quote", views.quote_job),
    path("jobs/create-and-call", call_views.create_and_call),
    path("jobs/create-and-call-stream", call_views.create_and_call_stream),
    path("jobs/<uuid:job_id>", views.show_job),
    path("jobs/<uuid:job_id>/llm-call", call_views.llm_call),
    path("jobs/<uuid:job_id>/llm-call-stream", call_views.llm_call_stream),
    path("jobs/<uuid:job_id>/complete", views.complete_job),
    path("jobs/<uuid:job_id>/cancel", views.cancel_job),
    path("jobs/<uuid:job_id>/metadata", views.patch_metadata),
    path("jobs/<uuid:job_id>/costs", views.show_costs),
    path("teams/<str:team_id>/jobs", views.list_jobs),
    path("teams/<str:team_id>/usage", views.show_usage),
]
