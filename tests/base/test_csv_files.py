from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saas_litellm.base.csv_files import csv_answer, defused

pytestmark = pytest.mark.any_database
SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
NASTY = st.text(st.sampled_from("=+-@＝＋－＠;\t\r\n ,\"'\x00\ufeff\xa0x1"), max_size=12)


def cells(text: str, delimiter: str) -> list[str]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [cell for row in rows for cell in row]


@given(st.lists(NASTY | st.text(), min_size=1, max_size=4))
def test_no_cell_begins_with_a_formula_however_the_file_is_split(values: list[str]) -> None:
    rows = [{str(number): value for number, value in enumerate(values)}] * 2
    file = csv_answer(rows, filename="x.csv").content.decode("utf-8", "surrogatepass")
    for delimiter in ",;\t":
        begun = [cell.lstrip("\x00\ufeff \t\r\n\v\f\xa0") for cell in cells(file, delimiter)]
        assert [cell for cell in begun if cell.startswith(SIGNS)] == []


@given(NASTY | st.text())
def test_apostrophes_are_all_that_is_added(value: str) -> None:
    assert defused(value).replace("'", "") == value.replace("'", "")
    assert defused(defused(value)) in {defused(value), f"'{defused(value)}"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        (" =1", "' =1"),
        ("\t=1", "'\t'=1"),
        ("\n@x", "'\n'@x"),
        ("x;=1", "x;'=1"),
        ("x\t -1", "x\t' -1"),
        ("x; y-z = 1", "x; y-z = 1"),
        ("letters_a-b", "letters_a-b"),
        (-5, -5),
        (None, None),
    ],
)
def test_what_is_harmless_stays_as_it_is(value: Any, written: Any) -> None:
    assert defused(value) == written
