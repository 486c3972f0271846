"""A fixture for tests that write many reports which differ in little."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import wraps

import pytest

from reports import plots

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
