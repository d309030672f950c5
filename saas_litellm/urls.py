from django.contrib import admin
from django.urls import include, path, re_path
from django.views.decorators.cache import never_cache
from django.views.generic import RedirectView
from drf_spectacular.views import (
    SpectacularAPIView,
    SpectacularJSONAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)

from saas_litellm import (
    errors,
    health,
    help_pages,
    openapi,  # noqa: F401 - teaches the schema what our amounts are
)
from saas_litellm.catalog.trial import TrialView
from saas_litellm.live import views as live
from saas_litellm.observing.metrics_view import metrics
from teams.admin import own_account

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
    path("api/", include("jobs.urls")),
    path("api/", include("billing.urls")),
    path("api/", include("webhooks.urls")),
    path("api/", include("payments.urls")),
    path("v1/", include("jobs.v1_urls")),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("openapi.yaml", SpectacularAPIView.as_view()),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="openapi")),
    path("redoc", SpectacularRedocView.as_view(url_name="openapi")),
    path("admin/password_change/", admin.site.admin_view(own_account.password_change)),
    path(
        "admin/second-factor/",
        admin.site.admin_view(own_account.second_factor_page),
        name="second_factor",
    ),
    path(
        "admin/catalog/deployments/<int:deployment_id>/test/",
        never_cache(TrialView.as_view()),
        name="deployment_test",
    ),
    path("admin/prices/", include("saas_litellm.plan_pages.urls")),
    path("admin/live/", admin.site.admin_view(live.page), name="live"),
    path("admin/", admin.site.urls),
    path("portal", RedirectView.as_view(pattern_name="portal:home")),
    path("portal/", include("saas_litellm.portal.urls")),
    path("help", RedirectView.as_view(url=help_pages.PREFIX)),
    path("help/", help_pages.missing),
    path("help/<path:path>", help_pages.missing),
    path("", health.front_door),
    re_path(r"^(?P<path>.*)$", errors.unknown_path),
]
handler400 = "saas_litellm.errors.bad_request"
handler403 = "saas_litellm.errors.permission_denied"
handler404 = "saas_litellm.errors.not_found"
handler500 = "saas_litellm.errors.server_error"
