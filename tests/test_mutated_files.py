"""Whatever is done to a file, it is read or refused in a line: no traceback, never more than 10 s or 1 GB.

The same few files of each format every time; `python tests/mutated_files.py FORMAT FOLDER COUNT --seed N` damages more.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mutated_files
import pytest
from mutated_files import KINDS

EACH = 50


@pytest.mark.slow(40)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_read_or_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    words = [sys.executable, mutated_files.__file__, kind, str(tmp_path), str(EACH)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    faults = done.stdout.splitlines()
    assert faults == ["done"], "\n".join(faults[:10])


def test_a_file_that_costs_too_much_or_raises_something_else_would_be_seen(tmp_path: Path) -> None:
    def fails(path: Path) -> object:
        raise KeyError(path.name)

    def eats(path: Path) -> object:
        return path.read_bytes() * 600_000_000

    (tmp_path / "a").write_bytes(b"ab")
    assert "KeyError" in mutated_files.tried(fails, tmp_path / "a")
    assert mutated_files.tried(eats, tmp_path / "a").endswith("MB")
    assert mutated_files.tried(lambda path: path.read_bytes(), tmp_path / "a") == ""
