from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.host.errors import DeviceError
from devices.host.versions import satisfies

numbers = st.lists(st.integers(0, 99), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("36.4.3", ">=36.2,<37", True),
        ("35.6.0", ">=36.2,<37", False),
        ("36.10", ">36.9", True),  # numbers, not text
        ("10.3", "==10.3.0", True),
        ("10.3.0.30-1+cuda12.5", ">=10.3,<10.4", True),
        ("6.2+b77", ">=6.2", True),
        ("R36.4.3", ">=36.4", True),
        ("3.11.7", "<=3.11", False),
    ],
)
def test_versions_against_ranges(version: str, wanted: str, fits: bool) -> None:
    assert satisfies(version, wanted) is fits


@given(numbers, numbers)
def test_versions_are_ordered_as_lists_of_numbers_are(left: list[int], right: list[int]) -> None:
    size = max(len(left), len(right))
    a, b = (parts + [0] * (size - len(parts)) for parts in (left, right))
    text, other = ".".join(map(str, left)), ".".join(map(str, right))
    assert satisfies(text, f">={other}") == (a >= b)
    assert satisfies(text, f"<{other}") == (a < b)
    assert satisfies(text, f"=={other}") == (a == b)


@pytest.mark.parametrize("wanted", ["", "36", "=36", ">=x", ">=36,", "~=36"])
def test_what_is_no_range_is_refused(wanted: str) -> None:
    with pytest.raises(DeviceError, match="no version range"):
        satisfies("36", wanted)


def test_a_version_without_a_number_is_refused() -> None:
    with pytest.raises(DeviceError, match="has no number"):
        satisfies("unknown", ">=1")
