"""Gates on what an engine and its file answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export import scale
from harness.audit.gates.table import GIVEN_OTHERWISE, HALF, at_most, decided, not_tested, undecided
from harness.audit.metrics import Labels, Right
from harness.audit.paired import pair
from harness.audit.statistics import highest_rank_correlation, order_correlation
from harness.limits import LIMITS
from harness.records import Gate, Parity, PrecisionEvidence

Logits = NDArray[np.floating]
Agreement = tuple[float, Labels, Labels]  # the least share on which two models must name the same classes, and these
PROBABILITY_SUMS, PROBABILITY_END = 0.05, 0.02  # that rounding may move a row's sum by, and the end of a sigmoid that has saturated
UNITS = (1, 100, 127, 255, 1000, 32_767, 65_535)  # of a probability: itself, percent, per mille, integers of 7, 8, 15 and 16 bits
MOST_NAMED = 3  # classes that an engine has lost


def artefact_parity(engine: str, parity: Parity, *, given: bool = False) -> Gate:
    """The exporter's own comparison of the artefact with the twin; `given`: of a file that it did not write."""
    agreement = f"same label on {parity.top1_agreement:.1%}, logits at most {parity.max_logit_error:.3g} apart"
    observed = f"on {parity.n} images: {agreement} ({parity.limit})"
    gate = decided("artefact parity", parity.passed, observed, engine)
    return gate.model_copy(update={"remedy": GIVEN_OTHERWISE}) if given else gate


def logits_not_probabilities(logits: Logits, engine: str | None = None, twin: Logits | None = None) -> Gate:
    """Probabilities detected, of float (n, classes). Log-probabilities pass: they are valid logits. So are an engine's scores that tell
    no more than a label, where its twin's do: one margin on most images leads no attack that follows margins.

    Of a softmax every row is >= 0 and sums to 1; in another unit (percent, bytes), or rounded, the rows sum nearly to what that unit has
    for 1, which a single class of some row nearly has. Of a sigmoid for each class all lie in [0, 1], most of them at its ends.
    """
    low, high, sums = float(logits.min()), float(logits.max()), logits.sum(axis=1, dtype=np.float64)
    whole = any(np.allclose(sums, unit, rtol=1e-3, atol=0) for unit in (1, 100))
    total, spread = float(sums.mean()), float(sums.max() - sums.min())
    of_a_unit = any(abs(total / unit - 1) <= PROBABILITY_SUMS for unit in UNITS)
    alike = of_a_unit and spread <= PROBABILITY_SUMS * total and high >= (1 - PROBABILITY_SUMS) * total
    ends = high <= 1 and float(np.mean((logits < PROBABILITY_END) | (logits > 1 - PROBABILITY_END))) > HALF
    probabilities = bool(low >= 0 and high > 0 and (whole or alike or (ends and high > 1 - PROBABILITY_END)))
    observed = f"rows sum to {sums.min():.3g} … {sums.max():.3g}, smallest value {low:.3g}" + f", largest {high:.3g}" * probabilities
    alone, flat = (0.0 if scores is None else _of_one_margin(scores) for scores in (twin, None if twin is None else logits))
    if flat > HALF >= alone:
        observed += f"; the top class leads by the same on {flat:.0%} of the images (the twin's on {alone:.0%})"
    return decided("logits", not (probabilities or flat > HALF >= alone), observed, engine)


def _of_one_margin(logits: Logits) -> float:
    """The share of the images on which the largest logit is as far above the next as on any other: within rounding of float32."""
    lead, rounded = scale.leads(logits)
    order = np.argsort(lead)
    lead, rounded = lead[order], rounded[order]
    same = np.searchsorted(lead, lead + rounded, side="right") - np.arange(len(lead))
    return float(same.max() / len(lead))


def _led_alike(twin: Logits, found: Logits) -> float:
    """How the leads of the top class go together, of the images on which two models name the same one, beyond doubt: 1 at the best."""
    same = twin.argmax(1) == found.argmax(1)
    return highest_rank_correlation(scale.leads(twin[same])[0], scale.leads(found[same])[0])


def _in_another_order(twin: Logits, found: Logits) -> tuple[int, int]:
    """Of the same images as in `_led_alike` those on which the classes are in another order, and how many they are in all."""
    same = twin.argmax(1) == found.argmax(1)
    return int(np.sum(order_correlation(twin[same], found[same]) < LIMITS.class_order)), int(same.sum())


def clean_parity(engine: str, labels: Labels, twin_clean: Labels, engine_clean: Labels) -> Gate:
    """Non-inferiority on clean images by Tango's bound, from labels and predictions, int (n,); MLPerf's ratio (99 % of fp32) beside it.

    Passed where the upper bound is below the margin. Failed where the engine is below the twin beyond doubt (lower bound above 0)
    and the gap reaches the margin; a gap that chance may have made is undecided, however large. Failed too where a class is lost, which of
    many classes costs few points.
    """
    found = pair(twin_clean == labels, engine_clean == labels, LIMITS.clean_loss)
    lost = _lost_classes(labels, twin_clean == labels, engine_clean == labels)
    worse = found.lower > 0 and found.gap >= LIMITS.clean_loss
    passed = True if found.upper < LIMITS.clean_loss else False if worse else None
    twin, engine_ = found.twin, found.engine
    ratio = f", {engine_.correct / twin.correct:.1%} of the twin (MLPerf asks 99 %)" if twin.correct else ""
    observed = (
        f"twin {twin.accuracy:.1%}, engine {engine_.accuracy:.1%} of {found.n}{ratio}; "
        f"gap {found.gap * 100:.2f} points, at most {found.upper * 100:.2f}"
    )
    if lost:
        passed = False
        observed += "; of the images that the twin has right, the engine loses " + ", ".join(lost[:MOST_NAMED])
        observed += f" and most of {len(lost) - MOST_NAMED} other classes" if len(lost) > MOST_NAMED else ""
    if passed is None:
        needed = found.more_images()
        observed += ": undecided" + ("" if needed is None else f", about {needed:,} images would decide")
    return decided("clean parity", passed, observed, engine)


def _lost_classes(labels: Labels, twin_right: Right, engine_right: Right) -> list[str]:
    """The classes of which the engine loses more than it may of the images that the twin has right, beyond chance, in words."""
    held = np.bincount(labels[twin_right])
    missing = np.bincount(labels[twin_right & ~engine_right], minlength=len(held))
    return [
        f"{missing[one]} of {held[one]} of class {one}"
        for one in np.flatnonzero(missing).tolist()
        if at_most(LIMITS.class_loss, int(missing[one]), int(held[one])) is False
    ]


def determinism(engine: str, repeats: int, deterministic: bool) -> Gate:
    """Whether `repeats` passes over the same images, in one process on the device, gave the same bits."""
    if repeats < 2:
        return not_tested("determinism", f"{repeats} run of this engine", engine)
    return decided("determinism", deterministic, f"{repeats} runs gave {'the same' if deterministic else 'different'} bits", engine)


def twin_fidelity(engine: str, ste_clean: Labels, engine_clean: Labels, ste_adversarial: Labels, engine_adversarial: Labels) -> Gate:
    """Agreement of the STE twin's predictions with the engine's, clean and on the STE twin's own adversarial images, int (n,), n >= 0."""
    clean, adversarial = (
        (LIMITS.fidelity_clean, ste_clean, engine_clean),
        (LIMITS.fidelity_adversarial, ste_adversarial, engine_adversarial),
    )
    passed, seen = _agree(clean, adversarial)
    return decided("twin fidelity", passed, f"same label on {seen} images" + undecided(passed), engine)


def _agree(clean: Agreement, adversarial: Agreement) -> tuple[bool | None, str]:
    """Whether two models name the same classes on clean and on adversarial images, and on how many."""
    results, words = [], []
    for name, (limit, one, other_) in (("clean", clean), ("adversarial", adversarial)):
        other, n = int(np.sum(one != other_)), len(one)
        if not n:  # nothing is left that such a set could change
            words.append(f"no {name}")
            continue
        results.append(at_most(1 - limit, other, n))
        words.append(f"{1 - other / n:.1%} of {n} {name}")
    return _all(results), " and ".join(words)


def _all(results: Sequence[bool | None]) -> bool | None:
    """What several findings come to: failed where one is, undecided where one of the others is."""
    return False if False in results else None if None in results else True


def saturation(engine: str, exact: Logits, found: Logits) -> Gate:
    """The engine's logits, float (n, classes), against those of the same file with exact integers, on the same images."""
    other = scale.beyond(LIMITS.logit_error, exact, found)
    same = float(np.mean(exact.argmax(1) == found.argmax(1)))
    most = scale.most(exact, found)
    observed = f"other logits on {other.sum()} of {len(other)} images, at most {most:.3g} apart; same label on {same:.1%}"
    return decided("saturation", not other.any(), observed, engine)


def blame_saturation(gates: Sequence[Gate]) -> list[Gate]:
    """One engine's gates. Where its CPU saturates, that is what helps against the differences from the twin which it makes too; those of a
    file that is itself another network it does not make.
    """
    failed = {gate.name for gate in gates if gate.passed is False}
    if "saturation" not in failed:
        return list(gates)
    made = ("twin fidelity",) if "artefact parity" in failed else ("clean parity", "twin fidelity")
    remedy = "The CPU saturates, see the gate 'saturation': take ort-int8-precise or ort-int8-rr."
    return [gate.model_copy(update={"remedy": remedy}) if gate.name in made and gate.passed is not True else gate for gate in gates]


def precision_evidence(engine: str, evidence: PrecisionEvidence | None) -> Gate:
    """Whether the precision that the artefact claims is the one that may be printed."""
    if evidence is None:
        return not_tested("precision evidence", "the runtime's optimised graph could not be read", engine)
    ran = "unknown share" if evidence.integer_mac_share is None else f"{evidence.integer_mac_share:.0%}"
    observed = f"claimed {evidence.claimed}, label {evidence.label}; {ran} of the MACs in integer kernels"
    return decided("precision evidence", evidence.label == evidence.claimed, observed, engine)


def engine_parity(
    engine: str,
    twin: Labels,
    own: Labels,
    twin_adversarial: Labels,
    own_adversarial: Labels,
    kept: Right | None = None,
    moved: tuple[Labels, Labels] | None = None,
    scores: Mapping[str, tuple[Logits, Logits]] | None = None,
) -> Gate:
    """The class that a user's own engine names against the twin's, int (n,) each, on the same clean images, and on such as were attacked on
    the twin, int (m,), m >= 0: two networks may agree on all that is easy.

    Args:
        engine, twin, own, twin_adversarial, own_adversarial: its name, and the classes.
        kept: of the images that the claim's attacks take from the twin, bool (k,), those on which the engine stays right; None where it was
            not attacked itself. A second network on part of the inputs shows here: what leads through the twin misses it.
        moved: the twin's classes and its own of images that it was never shown before, int (l,) each: it may know those of the test.
        scores: kind of images -> the twin's logits and its own, float (n, classes) each; None of an engine that names labels only. Where
            both name one class, how far that leads must go together: leads that grow where the twin's fall lead attacks astray. So must the
            order of all classes: a second network that answers what is easy for it, or some classes, names the same one and has the others
            otherwise.
    """
    passed, seen = _agree((LIMITS.own_agreement, twin, own), (LIMITS.own_adversarial, twin_adversarial, own_adversarial))
    observed = f"same label as the twin on {seen} images"
    if kept is not None and len(kept):
        passed = _all([passed, at_most(LIMITS.own_kept, int(kept.sum()), len(kept))])
        observed += f"; it keeps {kept.sum()} of {len(kept)} that the attacks take from the twin"
    if moved is not None and (n := len(moved[0])):
        other = int(np.sum(moved[0] != moved[1]))
        passed = _all([passed, at_most(1 - LIMITS.own_adversarial, other, n)])
        observed += f"; same label on {1 - other / n:.1%} of {n} that were mirrored and moved, which it had not seen"
    for kind, (twins, its) in (scores or {}).items():
        if (alike := _led_alike(twins, its)) < LIMITS.lead_correlation and _of_one_margin(twins) <= HALF:
            passed = False
            observed += f"; on {kind} images its leads go with the twin's by a rank correlation of at most {alike:.2f}"
        other, n = _in_another_order(twins, its)
        if n and at_most(LIMITS.other_order, other, n) is False:
            passed = False
            observed += f"; on {other} of {n} {kind} images its other classes are in another order than the twin's"
    return decided("engine parity", passed, observed + undecided(passed), engine)


def file_fidelity(engine: str, file: Logits, found: Logits, other_way: Logits | None = None) -> Gate:
    """The engine's logits against those that its file defines, float (n, classes) each.

    Args:
        engine, file, found: its name, and both.
        other_way: the file's once more, computed with roundings in other places, where the engine's CPU may round elsewhere too; `file`
            itself where it cannot. None: the labels alone count.
    """
    n = len(file)
    labels = int(np.sum(file.argmax(1) != found.argmax(1)))
    other = int(scale.beyond(LIMITS.logit_error, file, found).sum())
    observed = f"other logits on {other} of {n} images, at most {scale.most(file, found):.3g} apart; another label on {labels}"
    if other_way is None:
        passed = at_most(1 - LIMITS.fidelity_clean, labels, n)
    elif not (room := float(scale.apart(file, other_way).mean())):
        passed = at_most(1 - LIMITS.fidelity_clean, other, n)
    else:
        mean = float(scale.apart(file, found).mean())
        observed += f"; {mean:.2g} in the mean, two ways to round here {room:.2g}"
        passed = mean <= LIMITS.logit_error * scale.largest(file) + LIMITS.rounding_room * room
    return decided("file fidelity", passed, observed + undecided(passed), engine)


def fresh_answers(engine: str, before: Logits, now: Mapping[int, Logits]) -> Gate:
    """The answers of the run against those of the engine opened anew, to the same images.

    Args:
        engine, before: its name, and its answers, float (n, classes).
        now: images in a request -> the answers then, float (n, classes). An image counts where those to any size are other ones.
    """
    n = len(before)
    relabelled = {size: before.argmax(1) != found.argmax(1) for size, found in now.items()}
    differs = {size: relabelled[size] | scale.beyond(LIMITS.fresh_error, before, found) for size, found in now.items()}
    other, labels = (int(np.any(list(found.values()), axis=0).sum()) for found in (differs, relabelled))
    passed = at_most(1 - LIMITS.fresh_same, other, n)
    most = max(scale.most(before, found) for found in now.values())
    observed = f"other answers to {other} of {n} images (another label on {labels}), logits at most {most:.3g} apart"
    sizes = [size for size in now if differs[size].any()]
    if sizes and len(sizes) < len(now):
        observed += f"; in requests of {', '.join(map(str, sizes))} alone, not of {', '.join(str(s) for s in now if s not in sizes)}"
    return decided("fresh answers", passed, observed + undecided(passed), engine)


def lost_anew(engine: str, error: str) -> Gate:
    """An engine that answered to everything, and does not when it is opened anew."""
    return decided("fresh answers", False, f"opened anew, it does not answer: {error}", engine)


def engine_gain(engine: str, twin_right: Right, engine_right: Right) -> Gate:
    """Worst cases under the same sets, bool (n,). Failed where the engine's advantage is above the limit beyond chance (Tango's bound)."""
    found = pair(engine_right, twin_right, LIMITS.engine_gain)
    observed = f"twin {found.engine.accuracy:.1%}, engine {found.twin.accuracy:.1%} of {found.n} images right under the claim's attacks"
    return decided("engine gain", found.lower <= LIMITS.engine_gain, observed, engine)


def rebuild_spread(engine: str, first: Labels, this: Labels) -> Gate:
    """The classes that the first build and this one name on the same clean and adversarial images, int (n,)."""
    other, n = int(np.sum(first != this)), len(first)
    passed = at_most(LIMITS.rebuild_spread, other, n)
    return decided("rebuild spread", passed, f"another label than the first build's on {other} of {n} images" + undecided(passed), engine)
