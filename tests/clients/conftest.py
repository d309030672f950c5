from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from saas_litellm_client import Retries
from tests import factories
from tests.clients import colours
from tests.clients.flaky import Flaky
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


@pytest.fixture(params=colours.COLOURS)
def connect(request: pytest.FixtureRequest, live: Live, alice: Company) -> Iterator[Any]:
    """A function that makes a client of Alice's team, in each colour; it does not wait long."""
    with ExitStack() as open_things:
        runner = open_things.enter_context(asyncio.Runner())

        def made(**options: Any) -> Any:
            given = {
                "base_url": live.url,
                "api_key": alice.key,
                "team_id": "alice",
                "retries": Retries(first_wait=0.02),
                **options,
            }
            return open_things.enter_context(colours.client(request.param, runner, **given))

        yield made


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()


@pytest.fixture
def flaky(live: Live) -> Iterator[Flaky]:
    with Flaky(live.url) as proxy:
        yield proxy
