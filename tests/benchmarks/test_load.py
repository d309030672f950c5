"""The load generator against the upstream: what it counts is what was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from benchmarks import load, upstream
from benchmarks.load import Connection, Order, Sample

pytestmark = pytest.mark.any_database


@pytest.fixture
async def address() -> AsyncIterator[str]:
    script = upstream.script(delay_ms=30, frames=7, pace_ms=5)
    server = await upstream.listen(0, script)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    server.close()


def order(address: str, model: str, **body: object) -> Order:
    return Order(url=address, body={"model": model, **body})


@pytest.mark.parametrize("model", ["burst", "paced"])
async def test_a_stream_has_all_its_frames(address: str, model: str) -> None:
    connection = Connection(order(address, model, stream=True))

    samples = [await connection.ask(), await connection.ask()]

    assert [sample.frames for sample in samples] == [7, 7]


async def test_frames_at_a_pace_take_their_time(address: str) -> None:
    sample = await Connection(order(address, "paced-10", stream=True)).ask()

    assert sample.first >= 0.03
    assert sample.whole >= sample.first + 6 * 0.01


async def test_a_sparse_stream_lasts_as_long_as_one_at_a_pace(address: str) -> None:
    connection = Connection(order(address, "sparse", stream=True))

    sample = await connection.ask()

    assert sample.frames == upstream.SPARSE_FRAMES
    assert sample.whole >= sample.first + 5 * 0.005


def test_each_connection_has_a_key_in_turn() -> None:
    asked = Order(url="http://127.0.0.1/v1", keys=["a", "b"])

    assert [asked.of_connection(n).headers["Authorization"] for n in range(3)] == [
        "Bearer a",
        "Bearer b",
        "Bearer a",
    ]
    assert Order(url="http://127.0.0.1/v1", headers={"x": "y"}).of_connection(0).headers == {
        "x": "y"
    }


async def test_a_plain_answer_takes_the_delay(address: str) -> None:
    sample = await Connection(order(address, "burst")).ask()

    assert (sample.frames, sample.whole >= 0.03) == (0, True)


async def test_a_held_stream_begins_and_does_not_end(address: str) -> None:
    connection = Connection(order(address, "held", stream=True))

    await connection.begin()
    await connection.first_frame()

    assert not connection.is_done
    connection.close()


async def test_requests_count_by_the_part_that_lies_in_the_time(address: str) -> None:
    figures = await load.drive(
        Order(url=address, warm_up_seconds=0.05, seconds=0.3, at_once=2),
        [Connection(order(address, "burst")).ask for _ in range(2)],
    )

    assert figures.rate == pytest.approx(2 / (figures.p50_ms / 1000), rel=0.3)


@pytest.mark.parametrize(
    ("began", "ended", "part"), [(0, 1, 0.0), (0, 4, 0.5), (2, 3, 1.0), (3, 6, 1 / 3), (1, 9, 0.25)]
)
def test_the_part_of_a_request(began: float, ended: float, part: float) -> None:
    sample = Sample(ended=ended, whole=ended - began, first=0, frames=0)

    assert sample.part(2, 4) == pytest.approx(part)
