from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "reports"))

from synthetic import make_run

from harness.records import Gate

PASSED = Gate(name="logits", engine=None, passed=True, observed="they are", limit="", remedy="")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nobody may write into."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    make_run(folder, n=400, n_clean=800, noise=0.02, gates=[PASSED])
    return folder
