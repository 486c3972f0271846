"""Names of files that are not UTF-8, as other systems left them: refused by name, before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from harness.errors import UsageError
from harness.records import write_record
from tests.commandline import harness

LATIN = os.fsdecode(b"caf\xe9")


def test_a_name_on_the_command_line_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It ended with a traceback once the data were read: no JSON can hold it."""
    assert harness("bench", "--out", str(tmp_path / LATIN)) == 2
    assert r"caf\xe9' cannot be read, or passed on, as UTF-8; expected names in UTF-8. Rename it." in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_language_setting_without_utf8_is_named() -> None:
    """There the bytes of a name are other characters to Python than to onnxruntime, which looked for another file."""
    variables = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "harness", "models", "show", b"caf\xc3\xa9"]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, "set PYTHONUTF8=1" in done.stderr) == (2, True), done.stderr


class Named(BaseModel):
    names: dict[str, list[str]]


@pytest.mark.parametrize("names", [{"classes": ["dog", LATIN]}, {LATIN: []}])
def test_a_record_refuses_what_it_cannot_hold(names: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'caf\\xe9' is not UTF-8, so .*record.json cannot name it"):
        write_record(Named(names=names), tmp_path / "record.json")
    assert not any(tmp_path.iterdir())
