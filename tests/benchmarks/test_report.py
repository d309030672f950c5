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
