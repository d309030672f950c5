"""A share of a core for each process: the kernel's CFS quota, of cgroups v1 or v2.

So processes that would stand in each other's way on few cores take no more time each than all of them
have.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PERIOD_MICROSECONDS = 10_000
_V1, _V2 = BASES = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@contextmanager
def shares(pids: Sequence[int], share: float) -> Iterator[None]:
    """Let each process have at most ``share`` of a core, until the end of the block.

    Raises OSError where no such group may be made.
    """
    base = next((base for base in BASES if (base / "cgroup.procs").exists()), None)
    if base is None:
        raise OSError("no cgroups for the processor")
    _remove(base.glob("bench-*"))
    made: list[Path] = []
    try:
        for pid in pids:
            group = base / f"bench-{secrets.token_hex(4)}"
            group.mkdir()
            made.append(group)
            _limit(group, int(share * PERIOD_MICROSECONDS), is_v1=base == _V1)
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in made:
            for left in (group / "cgroup.procs").read_text().split():
                # It may have ended meanwhile.
                with contextlib.suppress(OSError):
                    (base / "cgroup.procs").write_text(left)
        _remove(made)


def _remove(groups: Iterable[Path]) -> None:
    """Those without a process: none other can go. Some may be left of a run that was killed."""
    for group in groups:
        with contextlib.suppress(OSError):
            group.rmdir()


def _limit(group: Path, microseconds: int, *, is_v1: bool) -> None:
    if is_v1:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(microseconds))
    else:
        with contextlib.suppress(OSError):
            (group.parent / "cgroup.subtree_control").write_text("+cpu")
        (group / "cpu.max").write_text(f"{microseconds} {PERIOD_MICROSECONDS}")
