"""How a row of the requirements is written: its limit, what was observed, and on which side of it that is."""

from __future__ import annotations

import pytest

from harness.records import Requirement
from reports.sections import requirements


@pytest.mark.parametrize(
    ("limit", "seen", "unit", "side", "texts"),
    [
        (20.0, 20.04, "ms", "at_most", ("at most 20.00 ms", "20.04 ms")),
        (20.0, 19.0, "ms", "at_most", ("at most 20.0 ms", "19.0 ms")),
        (1234.5, 27.8, "ms", "at_most", ("at most 1,234.5 ms", "27.800 ms")),
        (12345.0, 22943.0, "images/s", "at_least", ("at least 12,345 images/s", "22,943 images/s")),
        (2362.0, 2369.0, "B", "at_most", ("at most 2.3066 KiB", "2.3135 KiB")),
        (120e6, 1e6, "B", "at_most", ("at most 114.44 MiB", "976.56 KiB")),
        (0.04999, 0.031, "points", "at_most", ("at most 4.999 points", "3.1 points")),
        (0.9999, 0.99994, "share", "at_least", ("at least 99.99 %", "99.994 %")),
    ],
)
def test_a_limit_reads_as_it_was_asked_for_and_no_other_figure_as_equal_to_it(limit, seen, unit, side, texts):
    row = Requirement(
        name="", kind="", engine=None, line=1, side=side, unit=unit, limit=limit, observed=seen, interval=None, outcome="FAIL", reason=""
    )
    assert (requirements.limit(row), requirements.observed(row)) == texts
