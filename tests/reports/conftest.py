from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from crowded import make_crowded
from synthetic import make_run

from harness.records import Step
from reports import plots
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


DRAWN: dict[bytes, str] = {}


@pytest.fixture
def figures_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of the same values are drawn once for all tests that ask for this: they take most of a page's time."""

    def once(draw: Callable[..., str]) -> Callable[..., str]:
        @wraps(draw)
        def drawn(*values: object) -> str:
            key = pickle.dumps((draw.__name__, values))
            if key not in DRAWN:
                DRAWN[key] = draw(*values)
            return DRAWN[key]

        return drawn

    for name in ("gaps", "security_curve", "rounds", "pareto", "survivors"):
        monkeypatch.setattr(plots, name, once(getattr(plots, name)))
