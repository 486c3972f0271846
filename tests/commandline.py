"""The command line, called in this process."""

from __future__ import annotations

import signal
import sys

import pytest

from harness import cli
from harness.ending import STOPS


def harness(*words: str) -> int:
    """Exit code of one command line. What signals do stays as it was."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
            patch.setattr(sys, "argv", ["harness", *words])
            cli.main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return int(stop.value.code or 0)
