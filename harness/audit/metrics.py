"""What one adversarial set, replayed on one engine, says: who is right, who flips, what transfers.

r_s^M(i) = 1[M(x_i) = y_i and M(x'_s,i) = y_i]: model M is right on image i under source s.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.answers import TWIN
from harness.audit.statistics import bootstrap_share, share, wilson
from harness.records import Flips, Interval, Share, Transfer

Index = NDArray[np.int64]
Labels = NDArray[np.integer]
Right = NDArray[np.bool_]


def right(labels: Labels, clean: Labels, adversarial: Labels) -> Right:
    """r_s^M, bool (n,), from a model's predictions on the clean images and on x', int (n,).

    Raises:
        ValueError: the arrays are not of one length, or empty.
    """
    _check_lengths(labels=labels, clean=clean, adversarial=adversarial)
    return np.asarray((clean == labels) & (adversarial == labels), dtype=np.bool_)


def flips(twin_right: Right, engine_right: Right) -> Flips:
    """The paired 2x2 table of two bool (n,) arrays.

    Raises:
        ValueError: the arrays are not of one length, or empty.
    """
    _check_lengths(twin=twin_right, engine=engine_right)
    return Flips(
        both_right=int(np.sum(twin_right & engine_right)),
        twin_only=int(np.sum(twin_right & ~engine_right)),
        engine_only=int(np.sum(~twin_right & engine_right)),
        both_wrong=int(np.sum(~twin_right & ~engine_right)),
    )


def transfer_rate(
    labels: Labels, source_clean: Labels, engine_clean: Labels, source_adversarial: Labels, engine_adversarial: Labels
) -> Share | None:
    """Of the images both have right when clean and that fool the source, how many fool the engine too; None if there is no such image.

    TR(S -> T) = #{both clean-correct, S fooled, T fooled} / #{both clean-correct, S fooled}, S the model that the set was made on. All
    arrays are int (n,).
    """
    fooled = (source_clean == labels) & (engine_clean == labels) & (source_adversarial != labels)
    n = int(fooled.sum())
    return share(int(np.sum(fooled & (engine_adversarial != labels))), n) if n else None


def transfer_over_seeds(n: int, sets: Sequence[tuple[Index, Right, Right]], *, seed: int) -> tuple[float, Interval] | None:
    """Transfer rate of one attack over the sets of several seeds, and its 95 % interval by a bootstrap over images.

    One image's sets with several seeds are not independent trials, so that a binomial interval over all of them would be too narrow.

    Args:
        n: images in all.
        sets: of each seed, the positions of its images, int64 (m,), where both models are right when clean and the set fools the model
            it was made on, bool (m,), and where it fools the engine too, bool (m,).
        seed: of the resampling.

    Returns:
        None where no set fools the model that it was made on.
    """
    fooled, both = np.zeros(n), np.zeros(n)
    for index, first, second in sets:
        fooled[index] += first
        both[index] += first & second
    return bootstrap_share(both, fooled, seed=seed)


def transfer(
    labels: Labels,
    twin_clean: Labels,
    engine_clean: Labels,
    twin_adversarial: Labels,
    engine_adversarial: Labels,
    *,
    made_on: tuple[Labels, Labels] | None = None,
    engine: str,
    source: str,
    target: str = TWIN,
    attack: str,
    eps: Fraction,
) -> Transfer:
    """The record of one set on one engine, from labels and predictions, int (n,) each, in the order of the set.

    `made_on`: predictions, clean and adversarial, of the model that the set was made on, where that is not the twin; the transfer rate is
    about it. `ci95` is the Wilson interval of the engine's accuracy; `label_disagreement` compares the two predictions on x'.

    Raises:
        ValueError: the arrays are not of one length, or empty.
    """
    twin_right = right(labels, twin_clean, twin_adversarial)
    engine_right = right(labels, engine_clean, engine_adversarial)
    table, n = flips(twin_right, engine_right), len(labels)
    source_clean, source_adversarial = made_on or (twin_clean, twin_adversarial)
    rate = transfer_rate(labels, source_clean, engine_clean, source_adversarial, engine_adversarial)
    return Transfer(
        engine=engine,
        source=source,
        target=target,
        attack=attack,
        eps=float(eps),
        eps_exact=str(eps),
        n=n,
        twin_accuracy=float(twin_right.mean()),
        engine_accuracy=float(engine_right.mean()),
        ci95=wilson(int(engine_right.sum()), n),
        transfer_rate=rate.accuracy if rate else None,
        transfer_ci95=rate.ci95 if rate else None,
        flips=table,
        label_disagreement=float(np.mean(twin_adversarial != engine_adversarial)),
        differential_evasion=table.twin_only / n,
    )


def _check_lengths(**arrays: NDArray[np.generic]) -> None:
    """One length for all, because numpy would broadcast a length of one in silence."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 or shape[0] == 0 for shape in shapes.values()):
        raise ValueError(f"got arrays of shapes {shapes}; expected one and the same length n >= 1, one value per image")
