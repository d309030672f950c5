"""A section of the results takes the place of its own and of no other."""

from __future__ import annotations

import pytest

from benchmarks import report

pytestmark = pytest.mark.any_database
PAGES = "# Results\n\n## Pages\n\ntext\n"


def test_a_new_section_stands_below_the_title() -> None:
    placed = report.placed(PAGES, "now", "figures")

    assert placed == (
        "# Results\n\n<!-- begin now -->\nfigures\n<!-- end now -->\n\n## Pages\n\ntext\n"
    )


def test_a_section_takes_the_place_of_its_own_alone() -> None:
    both = report.placed(report.placed(PAGES, "before", "old"), "now", "first")

    placed = report.placed(both, "now", "second")

    assert placed == both.replace("first", "second")


def test_a_target_that_is_missed_says_so() -> None:
    figures = {f"{wallets}/32/{n}": 1500.0 for wallets in (1000, 1) for n in (1, 2, 4, 8)}

    assert "| 1500 / 1500 | not reached |" in report.targets({"money": {"figures": figures}})


def test_figures_in_ms_are_told_in_the_time_of_the_targets_machine_too() -> None:
    def costs(**of: float) -> dict[str, object]:
        return {kind: {"cpu_ms": [ms, ms, ms]} for kind, ms in of.items()}

    table = {
        # At a pace, with 3 of 53 frames, it costs 5 as a call of few that share a transaction.
        "ours-pg": costs(calls=3.4, streams=3.4 + 53 * 0.1, sparse=5.0, paced=5.0 + 50 * 0.2),
        "gateway": costs(calls=0.4),
        "bare": costs(calls=6.4),
    }

    told = report.yardstick({"table": table, "sizes": {"frames": 53}})

    # Everything takes twice as long here as 3.2 ms a bare call.
    assert "6.4 ms here, 2.0 times as long" in told
    assert "1.50 ms around the provider call, 0.050 and 0.100 ms a frame" in told
    assert report.yardstick({"table": {}, "sizes": {"frames": 53}}) == ""
