from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.providers.stripe_double import SECRET_KEY, WEBHOOK_SECRET, StripeDouble


@pytest.fixture
def stripe(settings: Any) -> Iterator[StripeDouble]:
    """A Stripe of the test's own, and the platform switched on for it."""
    with StripeDouble() as double:
        settings.STRIPE_SECRET_KEY = SECRET_KEY
        settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
        settings.STRIPE_API_BASE = double.base
        yield double
