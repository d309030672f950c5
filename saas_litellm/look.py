"""How the admin looks: its name, its files, its menu. Read by settings, so it may import no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _static(name: str) -> Callable[[object], str]:
    """Found when a page is served: in production its name carries a hash."""
    return lambda _request: static(name)


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "SaaS LiteLLM",
    "SITE_HEADER": "SaaS LiteLLM",
    "SITE_SYMBOL": "receipt_long",
    "DASHBOARD_CALLBACK": "saas_litellm.dashboard.home.context",
    "STYLES": [
        _static("saas/charts.css"),
        _static("saas/board.css"),
        _static("saas/customers.css"),
        _static("saas/jobs.css"),
        _static("saas/plans.css"),
    ],
    "SCRIPTS": [_static("saas/acts.js"), _static("saas/boxes.js")],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _static("saas/icon.svg")}],
    "SIDEBAR": {"navigation": "saas_litellm.dashboard.navigation.groups"},
    "LOGIN": {"form": "teams.sign_in.SignInForm"},
    "ACCOUNT": {
        "navigation": [{"title": "Second factor", "link": reverse_lazy("second_factor")}],
    },
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
}
