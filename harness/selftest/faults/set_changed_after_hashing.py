"""An adversarial set was changed after it was made and hashed."""

from pathlib import Path

import numpy as np

from harness.stages.attack import SETS

CAUGHT_BY = "refused: changed since it was made"


def tamper(folder: Path) -> None:
    """One pixel of the first image of the first set on the twin."""
    path = sorted((folder / SETS).glob("S1-*.npz"))[0]
    arrays = dict(np.load(path))
    arrays["images"][0, 0, 0, 0] ^= 1
    np.savez(path, **arrays)
