from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from crowded import make_crowded
from drawn_once import figures_drawn_once  # noqa: F401 - a fixture
from synthetic import make_run

from harness.records import Step
from reports.render import render

# The runs that the tests share, each rendered once, and `crowded`. `unfinished` stopped before any attack.
VARIANTS = {
    "plain": {"rounds": 5},
    "hostile": {"rounds": 5, "hostile": True, "failed": True},
    "synthetic": {"rounds": 5, "synthetic": True},
    "emulated": {"emulated": True},
    "unrun": {"emulated": True, "unrun": True},
    "accelerator": {"rounds": 5, "accelerator": True},
    "alike": {"noise": 0.0},
    "unfinished": {"attacked": False, "claims": [], "gates": [], "verdict": None, "status": Step.EXPORTED},
    "bare": {"attacked": False, "claims": [], "gates": [], "verdict": None, "status": Step.STARTED, "engines": []},
}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`rendered(variant, format) -> file`."""

    @cache
    def folder(variant: str) -> Path:
        path = tmp_path_factory.mktemp(variant) / "run"
        if variant == "crowded":
            make_crowded(path, rounds=5)
        else:
            make_run(path, **VARIANTS[variant])
        return path

    @cache
    def file(variant: str, name: str) -> Path:
        return render(folder(variant), [name])[name]

    return file
