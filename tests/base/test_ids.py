"""Ids are random, of version 4, and given once: by threads, and by processes that were forked."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from saas_litellm.base.ids import new_id


def test_ids_are_random_uuids_and_given_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: new_id(), range(5000)))
    assert len(set(given)) == 5000
    assert {(one.version, one.variant) for one in given} == {(4, uuid4().variant)}
    # Each of the free bits is set in about a half of them.
    counts = [sum(one.int >> bit & 1 for one in given) for bit in range(128)]
    fixed = sum(count in {0, 5000} for count in counts)
    assert fixed == 6
    assert all(count in {0, 5000} or 2200 < count < 2800 for count in counts)


def test_a_forked_process_gives_others() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert UUID(bytes=os.read(reading, 16)) != new_id()
