"""Gates on the attacks: whether they were as strong as they look."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.audit.gates.table import GATES, HALF, LAST, at_most, decided, not_tested, of_images, undecided
from harness.audit.metrics import Right
from harness.audit.paired import pair
from harness.limits import LIMITS
from harness.records import Gate

Margins = NDArray[np.floating]
Counted = tuple[str, int, int]  # a set in words, images of it that are counted, images attacked
DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4


def large_radius(twin_right: Right, led: Right | None = None, fallen: Right | None = None) -> Gate:
    """The twin under its white-box attack at eps = 64/255 (Carlini et al. 2019, arXiv:1902.06705).

    A network may be robust at that radius: handwritten digits are trained at 0.3. Where the gradients lead on nearly all images that stay
    right, and nearly all of these fall where every image is within reach, it is undecided.

    Args:
        twin_right: of the images that it has right when clean, bool (n,).
        led: of those that stay right, bool (m,): the attack lowers the margin by more than `LIMITS.beyond_noise` times what noise of that
            radius does.
        fallen: of some of those, bool (k,): the attack wins at a radius that holds every image.
    """
    n, kept = len(twin_right), int(twin_right.sum())
    if not n:
        return not_tested("large radius", "the twin has no image right when clean")
    passed = at_most(LIMITS.large_radius_accuracy, kept, n)
    observed = f"{kept / n:.1%} of {n} attacked images stay right"
    if passed is False and led is not None and fallen is not None and len(led) and len(fallen):
        observed += (
            f"; the attack lowers the margin of {led.sum()} of these by more than {LIMITS.beyond_noise:g} times what noise does, and wins "
            f"{fallen.sum()} of {len(fallen)} where every image is within reach"
        )
        if all(at_most(LIMITS.large_radius_accuracy, int((~part).sum()), len(part)) is not False for part in (led, fallen)):
            passed, observed = None, observed + ", so that the network may be robust at this radius"
    return decided("large radius", passed, observed + undecided(passed))


def zero_gradient(counts: Sequence[Counted], engine: str | None = None) -> Gate:
    """The worst of the sets made along gradients, by the images whose gradient is zero at the start. `engine`: of its own graph alone."""
    if not counts:
        return not_tested("zero gradient", "no gradient attack ran", engine)
    return _worst("zero gradient", LIMITS.zero_gradient, counts, engine)


def noise_floor(draws: Margins, attack_margin: Margins, attack: str) -> Gate:
    """The twin's margins under each draw of random-sign noise (S0), float (draws, n), and under the attacks of the same eps, float (n,).

    Of the images that the twin has right when clean; below 0 it is wrong. The attack must win an image that no draw wins, and may not leave
    more of them right than any single draw does. Where it wins none, it has failed if it does not even lower the margins below those under
    the worst draw of each image (on fewer than half of the images that all draws leave right, beyond chance); if it does, or no image is
    left, a robust network may be the reason: undecided.
    """
    noise_margin = draws.min(axis=0)
    n, left = len(noise_margin), noise_margin > 0
    fallen = int(np.sum(left & (attack_margin < 0)))
    if not left.any():
        return decided("noise floor", None, f"undecided: noise leaves none of {n} images right, so none is left for an attack to win")
    kept, attacked = (draws > 0).sum(axis=1), int(np.sum(attack_margin > 0))
    spread = f"one draw leaves {kept.min()} to {kept.max()} of {n} attacked images right ({kept.mean():.1f} on average)"
    observed = f"{spread}, {attack} {attacked}; all {len(draws)} draws leave {left.sum()}, of which {attack} wins {fallen}"
    if attacked > kept.max():
        return decided("noise floor", False, observed)
    if fallen:
        return decided("noise floor", True, observed)
    lower = int(np.sum(attack_margin[left] < noise_margin[left]))
    passed = False if at_most(HALF, int(left.sum()) - lower, int(left.sum())) is False else None
    return decided("noise floor", passed, f"{observed}; it lowers the margin of {lower} below that under noise" + undecided(passed))


def rounding(undone: Sequence[Counted]) -> Gate:
    """The worst of the sets, by the images that its attack fooled in floats and no bytes do."""
    return _worst("rounding", LIMITS.undone_by_rounding, undone)


def undone_remark(undone: Sequence[Counted]) -> str | None:
    """What must be said beside the figures of attacks of which rounding undoes more than the limit, as `rounding` takes them; else None."""
    beyond = [f"{name} of {count} of {n} images" for name, count, n in undone if count > LIMITS.undone_by_rounding * n]
    if not beyond:
        return None
    return f"rounding to bytes undoes the success of {', '.join(beyond)}. {GATES['rounding'].remedy}"


def dlr_classes(classes: int, dlr: Collection[str], targeted: Collection[str] = ()) -> Gate:
    """Whether the DLR attacks that ran, and the targeted ones, had enough classes (Croce & Hein 2020, arXiv:2003.01690).

    Below 3 classes the attacks `dlr` follow a margin loss instead; the targeted loss has no such stand-in.
    """
    if not dlr and not targeted:
        return not_tested("DLR classes", "no attack with the DLR loss ran")
    observed = f"{classes} classes"
    if dlr and classes < DLR_CLASSES:
        observed += f": a margin loss took the place of DLR in {', '.join(sorted(set(dlr)))}"
    short = targeted if classes < TARGETED_DLR_CLASSES else ()
    if short:
        observed += f"; {', '.join(short)} needs {TARGETED_DLR_CLASSES}"
    return decided("DLR classes", not short, observed)


def query_attack(white_box_right: Right, query_right: Right) -> Gate:
    """One model under its white-box attacks and under a query attack of the same eps, worst case of each, bool (n,).

    Failed where the query attack's advantage is above the limit beyond chance (Tango's lower bound).
    """
    found = pair(white_box_right, query_right, LIMITS.query_advantage)
    white_box, query = found.twin.accuracy, found.engine.accuracy
    observed = f"{white_box:.1%} of {found.n} images right under the white-box attacks, {query:.1%} under the query attack"
    passed = True if found.gap <= LIMITS.query_advantage else False if found.lower > LIMITS.query_advantage else None
    return decided("query attack", passed, observed + undecided(passed))


def rising_loss(attack: str, steps: int, margins: Margins) -> Gate:
    """Whether an attack had settled, from the smallest margin so far, float (steps + 1, n), of images that the target has right when clean.

    An image counts that is still right at the end, and whose margin has made more of its whole fall in the last steps than it may.
    """
    if not margins.shape[1]:
        return not_tested("rising loss", "the twin has no image right when clean")
    if len(margins) <= 2 * LAST:
        return not_tested("rising loss", f"{attack} takes {steps} steps")
    late, whole = margins[-1 - LAST] - margins[-1], margins[0] - margins[-1]
    rising = (margins[-1] > 0) & (late > LIMITS.late_fall * whole)
    return of_images("rising loss", LIMITS.rising_loss, rising, f"{attack}: the margin of ", " still falls")


def zero_gradient_along(attack: str, zero: Right) -> Gate:
    """`zero`, bool (n,): the gradient was zero at a step of the attack while the target was right."""
    if not len(zero):
        return not_tested("zero gradient along the path", "the twin has no image right when clean")
    return of_images("zero gradient along the path", LIMITS.zero_gradient, zero, f"{attack}: ")


def increasing_loss(attack: str, each: Margins) -> Gate:
    """Whether an attack went forwards, from the margin of each iterate, float (asked, n), of images that the target has right when clean.

    An image counts that no iterate fools, and whose last margin is no smaller than the first.
    """
    if not each.shape[1]:
        return not_tested("increasing loss", "the twin has no image right when clean")
    if len(each) <= LAST:
        return not_tested("increasing loss", f"{attack} takes {len(each)} steps")
    backwards = (each > 0).all(axis=0) & (each[-1] >= each[0])
    return of_images("increasing loss", LIMITS.increasing_loss, backwards, f"{attack}: the margin of ", " has not fallen")


def silent_success(attack: str, lost: Right) -> Gate:
    """`lost`, bool (n,): an iterate of the attack fooled the target, and the image that was kept does not."""
    if not len(lost):
        return not_tested("silent success", "the twin has no image right when clean")
    return of_images("silent success", LIMITS.silent_success, lost, f"{attack}: ")


def _worst(name: str, limit: float, counts: Sequence[Counted], engine: str | None = None) -> Gate:
    """A gate on a share of the attacked images: fails where one set does, and shows the worst of the sets that decide, so that a large
    share of few images hides no smaller one of many.
    """
    tried = [(at_most(limit, count, n), count / n, n, one) for one, count, n in counts if n]
    if not tried:
        return not_tested(name, "no image was attacked", engine)
    passed, share_, n, one = max(tried, key=lambda found: (found[0] is False, found[0] is None, found[1]))
    return decided(name, passed, f"at most {share_:.1%} of {n} attacked images ({one})" + undecided(passed), engine)
