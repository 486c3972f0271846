"""Text files say their encoding: by default it is that of the user's language setting, which may lack half of the characters used here."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNSAID = re.compile(r'\.(read_text\(\)|write_text\((?!.*encoding=)|open\("[rwa]\+?"\))')


def test_text_files_say_their_encoding() -> None:
    """Where it was ASCII, a sweep, and the log of a run, ended with a traceback."""
    files = [file for package in ("harness", "devices", "export", "reports") for file in (ROOT / package).rglob("*.py")]
    lines = [(file, line.strip()) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert [f"{file.relative_to(ROOT)}: {line}" for file, line in lines if UNSAID.search(line)] == []
