"""The command line, called in this process."""

from __future__ import annotations

import sys

import pytest

from harness import cli


def harness(*words: str) -> int:
    """Exit code of one command line."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["harness", *words])
        cli.main()
    return int(stop.value.code or 0)
