"""`samples.parquet`: one row per image, attack source and engine, from which every count of the record can be made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.attacks.grid import distances
from harness.predictions import margins

SAMPLES = "samples.parquet"


def rows(
    *,
    index: NDArray[np.int64],
    labels: NDArray[np.int64],
    twin: NDArray[np.float32],
    engine: NDArray[np.float32],
    clean: NDArray[np.uint8],
    images: NDArray[np.uint8],
    source: str,
    attack: str,
    eps: str,
    flavour: str,
) -> pd.DataFrame:
    """The rows of one set on one engine.

    Args:
        index, labels: int64 (n,).
        twin, engine: logits (n, classes).
        clean, images: uint8 (n, h, w, c), before and after the attack; distances are on the [0, 1] scale.
    """
    linf, l2 = distances(clean, images)
    return pd.DataFrame(
        {
            "index": index.astype(np.int32),
            "label": labels.astype(np.int32),
            "source": source,
            "attack": attack,
            "eps": eps,
            "engine": flavour,
            "twin_prediction": twin.argmax(1).astype(np.int32),
            "engine_prediction": engine.argmax(1).astype(np.int32),
            "twin_margin": margins(twin, labels),
            "engine_margin": margins(engine, labels),
            "linf": (linf / 255).astype(np.float32),
            "l2": l2.astype(np.float32),
        }
    )


def save(parts: list[pd.DataFrame], folder: Path) -> None:
    """Write the table, whole or not at all. Where every engine failed there is nothing to write."""
    if not parts:
        return
    temporary = folder / f"{SAMPLES}.tmp"
    pd.concat(parts, ignore_index=True).to_parquet(temporary, index=False)
    temporary.replace(folder / SAMPLES)
