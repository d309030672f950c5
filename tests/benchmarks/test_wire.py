"""The relay reads along: statements, commands, and who spoke when."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.wire import Link

pytestmark = pytest.mark.any_database
STARTUP = (8).to_bytes(4) + b"\0\3\0\0"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def counted(kind: str, *spoken: bytes | None) -> Counter[str]:
    """What is counted when the client says these; None: the server answers."""
    found: Counter[str] = Counter()
    link = Link(kind, found)
    for said in spoken:
        if said is None:
            link.answered(b"")
        else:
            link.asked(said)
    return found


def test_a_prepared_statement_is_one_statement_and_one_round_trip() -> None:
    prepared = message(b"P", b"\0SELECT 1\0\0\0") + message(b"B") + message(b"E") + message(b"S")

    found = counted("postgres", STARTUP, None, prepared, None)

    assert found == {"postgres round trips": 2, "postgres statements": 1}


def test_statements_sent_together_are_one_round_trip() -> None:
    found = counted("postgres", STARTUP, None, message(b"E") * 3 + message(b"S"), None)

    assert found == {"postgres round trips": 2, "postgres statements": 3}


def test_a_statement_that_arrives_in_pieces_counts_once() -> None:
    query = message(b"Q", b"SELECT 'Q'\0")

    found = counted("postgres", STARTUP, None, query[:3], query[3:9], query[9:], None)

    assert found == {"postgres round trips": 2, "postgres statements": 1}


def test_commands_of_redis_are_counted_by_their_arrays() -> None:
    command = b"*2\r\n$3\r\nGET\r\n$4\r\n*1\r\n\r\n"

    found = counted("redis", command + command[:10], command[10:], None, command, None)

    assert found == {"redis round trips": 2, "redis commands": 3}
