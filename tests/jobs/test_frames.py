"""Server-sent events out of bytes, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.gateway import frames
from jobs.gateway.frames import Frames

pytestmark = pytest.mark.any_database

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).map(str.encode)
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])


def read(blocks: list[bytes]) -> list[bytes]:
    reader = Frames()
    return [event for block in blocks for event in reader.feed(block)] + reader.end()


@given(
    events=st.lists(st.lists(texts, min_size=1, max_size=3), max_size=5),
    end=ends,
    places=st.lists(st.integers(0, 400)),
)
def test_cuts_and_line_ends_change_nothing(
    events: list[list[bytes]], end: bytes, places: list[int]
) -> None:
    stream = b"".join(
        b": comment" + end + b"".join(b"data: " + line + end for line in lines) + end
        for lines in events
    )
    cuts = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    blocks = [stream[a:b] for a, b in pairwise(cuts)]
    assert read(blocks) == [b"\n".join(lines) for lines in events]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data:a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:  a \n\n", [b" a "]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\nunknown\n\n", [b"a"]),
        (b"data\ndata: a\n\n", [b"\na"]),
        (b"data:\n\n\n\nevent: ping\n\n", []),
        (b"database: a\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
        (b"data: a\r", [b"a"]),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_has_them(stream: bytes, events: list[bytes]) -> None:
    assert read([stream]) == events
    assert read([stream[place : place + 1] for place in range(len(stream))]) == events


def test_an_event_leaves_as_soon_as_its_last_line_ends() -> None:
    reader = Frames()
    assert reader.feed(b"data: a\r\r") == [b"a"]
    assert reader.feed(b"\ndata: b\r\n\r") == [b"b"]
    assert reader.feed(b"\n") == []


def test_an_event_that_never_ends_is_refused() -> None:
    reader = Frames()
    block = b"x" * (frames.MAX_EVENT_BYTES // 2)
    reader.feed(block)
    reader.feed(block)
    with pytest.raises(ValueError, match="without an end"):
        reader.feed(b"x")
