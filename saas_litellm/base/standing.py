"""What calls are admitted by, remembered: keys, aliases, deployments, prices, plans, budgets.

Whatever changes one of the tables that `triggers.stamped` covers gives the one row of Standing a new
random stamp, in the transaction of the change itself. Memory belongs to a stamp, and a call is opened
only under the stamp that stands in the transaction which opens it. So a change holds at once, in
every process, and a call asks the database for one number instead of for everything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from saas_litellm.base import clock, rows

T = TypeVar("T")
# Rather forgotten whole than kept by age: a process that meets more than this is asked seldom enough.
MOST_REMEMBERED = 100_000
_Kept = dict[Hashable, tuple[Any, datetime | None]]


class NotRemembered(Exception):
    """The database has to be asked."""


class Stale(Exception):
    """Something has changed since it was looked up."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known under one stamp. None: the database has none yet, so nothing is kept for others."""

    stamp: int | None
    may_ask: bool = True
    kept: _Kept = field(default_factory=dict)

    def recall(
        self,
        key: Hashable,
        ask: Callable[[], T],
        *,
        until: Callable[[T, datetime], datetime | None] = lambda _found, _asked_at: None,
    ) -> T:
        """What is kept under the key, else what ``ask`` finds, which may raise and is then not kept.

        ``until`` says from when on it is another by itself, by something planned for later than it
        was asked for. Raises NotRemembered instead of asking where the database may not be asked.
        """
        kept = self.kept.get(key)
        if kept is not None and (kept[1] is None or kept[1] > clock.now()):
            found: T = kept[0]
            return found
        if not self.may_ask:
            raise NotRemembered
        asked_at, found = clock.now(), ask()
        if len(self.kept) >= MOST_REMEMBERED:
            self.kept.clear()
        self.kept[key] = (found, until(found, asked_at))
        return found


_newest = Memory(None)


def remembered() -> Memory:
    """What this process knows, without a look at the database. Of another stamp it may be."""
    return replace(_newest, may_ask=False)


def looked_up() -> Memory:
    """Memory of the stamp that stands now; asks the database for it, and for what it lacks."""
    global _newest  # noqa: PLW0603 - replaced whole, so that threads need no lock
    stamp = stamp_now()
    newest = _newest
    if stamp is None:
        return Memory(None)
    if newest.stamp != stamp:
        newest = _newest = Memory(stamp)
    return newest


def stamp_now() -> int | None:
    """The stamp that stands in the caller's transaction."""
    return ask_stamp()()


def ask_stamp() -> Callable[[], int | None]:
    """``stamp_now``, to be sent together with other questions."""
    records = rows.ask("SELECT stamp FROM base_standing WHERE id = 1")

    def stamp() -> int | None:
        found = records()
        return int(found[0][0]) if found else None

    return stamp
