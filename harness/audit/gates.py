"""Gates: the conditions under which the figures may be believed. One function each; `GATES` holds every limit and remedy.

A gate that cannot decide (too few images, nothing to look at) is `passed=None` and says why, as does one that a tier does not run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from harness.audit import scale
from harness.audit.metrics import Labels, Right
from harness.audit.paired import pair
from harness.audit.statistics import ALPHA, no_information_rate, share, wilson
from harness.data.split import contents
from harness.limits import LIMITS, apart
from harness.records import Gate, Mismatch, Parity, PrecisionEvidence, Share

Logits = NDArray[np.floating]
Margins = NDArray[np.floating]
Counted = tuple[str, int, int]  # a set in words, images of it that are counted, images attacked
Agreement = tuple[float, Labels, Labels]  # the least share on which two models must name the same classes, and these

HALF = 0.5
PROBABILITY_SUMS, PROBABILITY_END = 0.05, 0.02  # that rounding may move a row's sum by, and the end of a sigmoid that has saturated
UNITS = (1, 100, 127, 255, 1000, 32_767, 65_535)  # of a probability: itself, percent, per mille, integers of 7, 8, 15 and 16 bits
TINY = 1e-9  # of an image, in products of limits and counts
DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4
NOT_TIMED = "nothing was timed"
LAST = 10  # steps of an attack, at whose end its loss should have settled
THIRD = 3
SURELY = 0.995  # a share that is all but one
MOST_NAMED = 3  # classes that an engine has lost
FEWEST_CALIBRATION = 30  # images, below which no course of their statistics is told


@dataclass(frozen=True)
class Kind:
    """What is asked of a gate and what helps where it fails.

    Attributes:
        limit, remedy: in words.
        guards: the robustness verdict is not to be trusted where it fails.
        refutable: but a claim that fails beside it fails: it doubts that the attacks on the engine are strong, and they were.
    """

    limit: str
    remedy: str
    guards: bool = True
    refutable: bool = False


GIVEN_OTHERWISE = (
    "The file computes another network than the model: check whose weights it has, the order of its classes, its input's scale, layout and "
    "colours; where these agree, the images that it was calibrated on, with the tool that made it."
)
GATES: dict[str, Kind] = {
    "artefact parity": Kind(
        "the exported file agrees with the twin within the exporter's limits",
        "Look at the layers that the exporter warned about; for INT8, use more calibration images or another --calibration.",
    ),
    "logits": Kind(
        "the outputs are logits, not probabilities, and not one lead of the top class on most images",
        "Remove the final softmax from the model: it flattens the gradients that attacks follow. An engine that names a class and nothing "
        'else says so: "output": "labels".',
    ),
    "clean accuracy": Kind(
        "on clean images the twin is better than always naming the most frequent class, not below what its card says of these images, and "
        "no other reading of labels or pixels has clearly more of them right",
        "Check that labels and outputs number the classes alike (folders sorted as text, an offset of one), that normalisation is given "
        "once (--normalize), that colours are RGB, and the size the network was trained at.",
    ),
    "clean parity": Kind(
        f"on clean images the engine is less than 1 point below the twin (one-sided 95 % bounds), and of no class it loses more than "
        f"{LIMITS.class_loss:.0%} of the images that the twin has right",
        "Failed: mend the artefact (calibration, precision of the first and last layer). Undecided: classify more images.",
    ),
    "engine parity": Kind(
        f"the user's own engine names the twin's class on at least {LIMITS.own_agreement:.0%} of the clean images, and on "
        f"{LIMITS.own_adversarial:.0%} of those that were attacked on the twin",
        "The engine computes another network: check its weights, the order of its classes, its input's scale, layout and colours. Where "
        "only attacked images part them, the twin's gradients do not lead through the engine, and no attack here is an attack on it.",
        refutable=True,
    ),
    "file fidelity": Kind(
        f"on {LIMITS.fidelity_clean:.0%} of the clean images the engine answers as its file defines (onnxruntime: logits within "
        f"{LIMITS.logit_error:.1%} of the largest; on another CPU no farther from the file's, in the mean, than that and "
        f"{LIMITS.rounding_room:g} times the distance between fused and unfused kernels here; other runtimes: the same label)",
        "The device runs another file, or other arithmetic: compare the hash of what runs, the runtime's version and options.",
    ),
    "fresh answers": Kind(
        f"opened anew and asked in another order and in requests of other sizes, those that were timed among them, the engine names the "
        f"same class on {LIMITS.fresh_same:.0%} of the images, with logits within {LIMITS.fresh_error:.0%} of the largest",
        "Its answers depend on what else it was asked: look for a memory of earlier inputs, statistics over the batch (batch norm in "
        "training mode, scales of dynamic quantization), randomness, or a build that differs from the last.",
    ),
    "engine gain": Kind(
        f"under the same attacks the engine is at most {LIMITS.engine_gain:.0%} more robust than the twin (beyond chance)",
        "Deploying makes no network more robust: the attacks on the engine are weaker than they look. Look for masked gradients, inputs "
        "that are cleaned or recognised, and randomness; attack the engine itself with more queries.",
    ),
    "determinism": Kind(
        "repeated runs over the same images give the same bits",
        "Fix the thread count and the runtime's tuning options; otherwise judge several builds and let the worst count.",
    ),
    "calibration disjoint": Kind("no test image is among the calibration images", "Calibrate on other images, from the training set."),
    "distinct images": Kind(
        f"at most {LIMITS.copies:.0%} of the test images are copies of others, byte for byte",
        "A copy is no further evidence, and every interval counts it as one: leave each image in once, with the label that is right.",
    ),
    "calibration images": Kind(
        f"the calibration images are like the test images: the twin names classes of at least {LIMITS.calibration_cover:.0%} of the test "
        f"images among them, or of {LIMITS.calibration_cover:.0%} of those whose class as many other test images have, and brightness, "
        f"contrast and roughness are spread alike (Kolmogorov-Smirnov distance at most {LIMITS.calibration_distance:g})",
        "Calibrate on a random sample of the training set, prepared as the test images are.",
        guards=False,
    ),
    "large radius": Kind(
        f"at eps = 64/255 at most {LIMITS.large_radius_accuracy:.0%} of the attacked images stay right",
        "Suspect masked gradients: attack the STE twin, divide the logits by a temperature, or use a query attack.",
    ),
    "zero gradient": Kind(
        f"at most {LIMITS.zero_gradient:.0%} of the attacked images start from a gradient that is zero",
        "Use a margin loss (apgd-dlr), or divide the logits by a temperature.",
    ),
    "noise floor": Kind(
        "the attack wins images that every draw of random noise of the same eps leaves right, and leaves no more right than one draw does",
        "Failed: the attack does no more than noise, check its step size and steps. Undecided: nothing is left to win at this eps; a "
        "larger one would show whether the attack works.",
    ),
    "rounding": Kind(
        f"rounding to bytes undoes the success of at most {LIMITS.undone_by_rounding:.0%} of the attacked images",
        "The attack looks weaker than it is: some images survive the rounding, not the attack. Attack with more steps, and read its "
        "distances as too large.",
        guards=False,
    ),
    "DLR classes": Kind(
        "the DLR loss has at least 3 classes or a margin loss takes its place; its targeted form has at least 4",
        "Use apgd-ce or pgd: the targeted DLR loss divides by the fourth-largest logit.",
    ),
    "query attack": Kind(
        f"a query attack beats the white-box attacks by at most {LIMITS.query_advantage * 100:g} point",
        "The gradients are masked: attack the STE twin or use a smoother loss.",
    ),
    "twin fidelity": Kind(
        f"the STE twin and the engine agree on {LIMITS.fidelity_clean:.0%} of clean and "
        f"{LIMITS.fidelity_adversarial:.0%} of adversarial images",
        "The STE twin is not the engine: check scales, zero points, rounding and the runtime's fusions.",
    ),
    "saturation": Kind(
        "where the CPU's INT8 kernels can saturate, the logits are those of exact integers "
        f"(within {LIMITS.logit_error:.1%} of the largest)",
        "The CPU computes another network than the file's, and its own figures are shown. For the file's: --flavour ort-int8-precise (the "
        "same file, exact kernels) or ort-int8-rr (weights of 7 bits). If it is one of these: compare the versions of onnxruntime.",
        guards=False,
    ),
    "precision evidence": Kind(
        "the runtime runs the precision that is claimed",
        "The label is withheld: read the kernel list, and quantize in the form that this runtime fuses.",
        guards=False,
    ),
    "timed outputs": Kind(
        f"the outputs of the timed runs are those that were judged (within {LIMITS.logit_error:.1%} of the largest logit, of a user's own "
        f"engine {LIMITS.fresh_error:.0%})",
        "Do not use the latency: the timed session ran something else.",
        guards=False,
    ),
    "repeated inputs": Kind(
        f"one input repeated takes at least {LIMITS.repeated_speed:.0%} of the time of fresh inputs",
        "Do not use the latency: results are cached somewhere.",
        guards=False,
    ),
    "own clock": Kind(
        f"the nanoseconds that an engine with a clock of its own reports are at least {LIMITS.own_clock:.0%} of those that pass here, and "
        f"of those that it takes where its answers are asked for, and at most {1 / LIMITS.own_clock:.2f} times those that pass here",
        "Do not use the latency: time whole calls, from the input to the answer of every image, on a clock that runs as the wall's.",
        guards=False,
    ),
    "steady latency": Kind(
        f"the fastest calls of the last third of the rounds take at most {1 + LIMITS.latency_drift:g} times those of the first third",
        "The device slows down: heat, a power limit or a clock that falls. Cool it, lock the clocks, or report the later figures.",
        guards=False,
    ),
    "device state": Kind(
        "before and after the run, the device is as its profile declares it: instructions, memory, versions",
        "Do what the reason says, then measure again: the figures are those of another device.",
    ),
    "conditions": Kind(
        "the declared power mode and clocks; while it was timed no throttling, no lost clock, no heat beyond the profile's limits, no "
        "other program's load and no CPU quota that stopped it",
        "The measurement is INVALID and its latency and energy are withheld. Do what the reason says, then measure again.",
        guards=False,
    ),
    "rising loss": Kind(
        f"of at most {LIMITS.rising_loss:.0%} of the attacked images the margin makes more than {LIMITS.late_fall:.0%} of its fall in the "
        f"attack's last {LAST} steps",
        "Attack with more steps (apgd-ce-200) and compare.",
    ),
    "zero gradient along the path": Kind(
        f"on at most {LIMITS.zero_gradient:.0%} of the attacked images the gradient becomes zero at a step of the attack before it fools",
        "Use a margin loss (apgd-dlr), or divide the logits by a temperature.",
    ),
    "increasing loss": Kind(
        f"on at most {LIMITS.increasing_loss:.0%} of the attacked images an attack that never fools ends with a margin no smaller than "
        "its first",
        "The gradients lead nowhere: look for randomness or steps in the network; average gradients over noise, or use a query attack.",
    ),
    "silent success": Kind(
        f"of at most {LIMITS.silent_success:.0%} of the attacked images an iterate fools and the image that was kept does not",
        "The network answers the same image now so, now otherwise: take the randomness out, or attack the expectation of its answers.",
    ),
    "rebuild spread": Kind(
        f"engines built anew from the same artefact name the same class on {1 - LIMITS.rebuild_spread:.0%} of clean and adversarial images",
        "Judge several builds (--builds) and let the worst count.",
        guards=False,
    ),
}


def guards(gate: Gate) -> bool:
    """Whether the robustness verdict hangs on this gate. One that `GATES` does not know does, to be safe."""
    return gate.name not in GATES or GATES[gate.name].guards


def refutable(gate: Gate) -> bool:
    """Whether a claim that fails does so all the same where this gate fails."""
    return gate.name in GATES and GATES[gate.name].refutable


def not_tested(name: str, reason: str, engine: str | None = None) -> Gate:
    """The gate `name` with `passed=None` and the reason why."""
    return Gate(name=name, engine=engine, passed=None, observed=f"not tested: {reason}", limit=GATES[name].limit, remedy=GATES[name].remedy)


def untested(gates: Iterable[Gate], reason: str) -> list[Gate]:
    """A `not_tested` gate for each name in `GATES` that none of `gates` bears, so that a report shows what nobody looked at.

    `reason` is given for those that a run can test; the others have their own.
    """
    seen = {gate.name for gate in gates}
    return [not_tested(name, reason) for name in GATES if name not in seen]


def artefact_parity(engine: str, parity: Parity, *, given: bool = False) -> Gate:
    """The exporter's own comparison of the artefact with the twin; `given`: of a file that it did not write."""
    agreement = f"same label on {parity.top1_agreement:.1%}, logits at most {parity.max_logit_error:.3g} apart"
    observed = f"on {parity.n} images: {agreement} ({parity.limit})"
    gate = _gate("artefact parity", parity.passed, observed, engine)
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
    return _gate("logits", not (probabilities or flat > HALF >= alone), observed, engine)


def _of_one_margin(logits: Logits) -> float:
    """The share of the images on which the largest logit is as far above the next as on any other: within rounding of float32."""
    second, first = np.sort(logits, axis=1)[:, -2:].T.astype(np.float64)
    lead = np.sort(first - second)
    same = np.searchsorted(lead, lead + scale.rounding(logits), side="right") - np.arange(len(lead))
    return float(same.max() / len(lead))


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
    return _gate("clean parity", passed, observed, engine)


def _lost_classes(labels: Labels, twin_right: Right, engine_right: Right) -> list[str]:
    """The classes of which the engine loses more than it may of the images that the twin has right, beyond chance, in words."""
    held = np.bincount(labels[twin_right])
    missing = np.bincount(labels[twin_right & ~engine_right], minlength=len(held))
    return [
        f"{missing[one]} of {held[one]} of class {one}"
        for one in np.flatnonzero(missing).tolist()
        if _at_most(LIMITS.class_loss, int(missing[one]), int(held[one])) is False
    ]


def determinism(engine: str, repeats: int, deterministic: bool) -> Gate:
    """Whether `repeats` passes over the same images, in one process on the device, gave the same bits."""
    if repeats < 2:
        return not_tested("determinism", f"{repeats} run of this engine", engine)
    return _gate("determinism", deterministic, f"{repeats} runs gave {'the same' if deterministic else 'different'} bits", engine)


def calibration_disjoint(calibration: NDArray[np.uint8], test: NDArray[np.uint8]) -> Gate:
    """No image of `test` is, byte for byte, one of `calibration`; both uint8 (n, h, w, c)."""
    shared = int(np.isin(contents(test), contents(calibration)).sum())
    return _gate(
        "calibration disjoint", shared == 0, f"{shared} of {len(test)} test images are among the {len(calibration)} calibration images"
    )


def distinct_images(test: NDArray[np.uint8], labels: Labels) -> Gate:
    """How many images of `test`, uint8 (n, h, w, c), are copies of one before them, and how many of these have another label, int (n,)."""
    _, first, kind = np.unique(contents(test), return_index=True, return_inverse=True)
    before = first[kind]  # of each image, the first one like it
    copies, otherwise = len(test) - len(first), int(np.sum(labels[before] != labels))
    labelled = f", {otherwise} of them with another label" if otherwise else ""
    return _gate("distinct images", copies <= LIMITS.copies * len(test), f"{copies} of {len(test)} test images are copies{labelled}")


def clean_accuracy(labels: Labels, predictions: Labels, classes: int, card: Share | None = None, cause: str = "") -> Gate:
    """The twin on clean images, int (n,) each, against the no-information rate and, on the same images, its card.

    Passed where it is better than the most frequent class alone (one-sided exact binomial test at 5 %). Failed where it is not and has
    fewer images right than half way from there to all (95 % Wilson interval), or is below its card's interval; else undecided.

    Args:
        classes: of the network.
        card: what the card says of a test set of the same name.
        cause: a reading that would explain the figure, see `harness.audit.causes`: it is then of other labels or pixels than were meant.
    """
    chance = no_information_rate(labels, classes)
    found = share(int(np.sum(labels == predictions)), len(labels))
    better = binomtest(found.correct, found.n, chance, alternative="greater").pvalue < ALPHA
    passed = True if better else False if found.ci95[1] < (1 + chance) / 2 else None
    observed = f"{found.accuracy:.1%} of {found.n} images right; one class named for all would have {chance:.1%}"
    if card is not None:
        observed += f"; the card says {card.accuracy:.1%}"
        if found.ci95[1] < card.ci95[0]:
            passed = False
    if cause:
        passed = False
    return _gate("clean accuracy", passed, observed + (f"; {cause}" if cause else "") + _undecided(passed))


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
    passed = _at_most(LIMITS.large_radius_accuracy, kept, n)
    observed = f"{kept / n:.1%} of {n} attacked images stay right"
    if passed is False and led is not None and fallen is not None and len(led) and len(fallen):
        observed += (
            f"; the attack lowers the margin of {led.sum()} of these by more than {LIMITS.beyond_noise:g} times what noise does, and wins "
            f"{fallen.sum()} of {len(fallen)} where every image is within reach"
        )
        if min(led.mean(), fallen.mean()) >= 1 - LIMITS.large_radius_accuracy:
            passed, observed = None, observed + ", so that the network may be robust at this radius"
    return _gate("large radius", passed, observed + _undecided(passed))


def zero_gradient(counts: Sequence[Counted]) -> Gate:
    """The worst of the sets made along gradients, by the images whose gradient is zero at the start."""
    if not counts:
        return not_tested("zero gradient", "no gradient attack ran")
    return _worst("zero gradient", LIMITS.zero_gradient, counts)


def noise_floor(draws: Margins, attack_margin: Margins, attack: str) -> Gate:
    """The twin's margins under each draw of random-sign noise (S0), float (draws, n), and under the attacks of the same eps, float (n,).

    Of the images that the twin has right when clean; below 0 it is wrong. The attack must win an image that no draw wins, and may not leave
    more of them right than any single draw does. Where it wins none, it has failed if it does not even lower the margins below those under
    the worst draw of each image (on fewer than half of the images that all draws leave right, 95 % Wilson interval); if it does, or no
    image is left, a robust network may be the reason: undecided.
    """
    noise_margin = draws.min(axis=0)
    n, left = len(noise_margin), noise_margin > 0
    fallen = int(np.sum(left & (attack_margin < 0)))
    if not left.any():
        return _gate("noise floor", None, f"undecided: noise leaves none of {n} images right, so none is left for an attack to win")
    kept, attacked = (draws > 0).sum(axis=1), int(np.sum(attack_margin > 0))
    spread = f"one draw leaves {kept.min()} to {kept.max()} of {n} attacked images right ({kept.mean():.1f} on average)"
    observed = f"{spread}, {attack} {attacked}; all {len(draws)} draws leave {left.sum()}, of which {attack} wins {fallen}"
    if attacked > kept.max():
        return _gate("noise floor", False, observed)
    if fallen:
        return _gate("noise floor", True, observed)
    lower = int(np.sum(attack_margin[left] < noise_margin[left]))
    passed = False if wilson(lower, int(left.sum()))[1] < HALF else None
    return _gate("noise floor", passed, f"{observed}; it lowers the margin of {lower} below that under noise" + _undecided(passed))


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
    return _gate("DLR classes", not short, observed)


def query_attack(white_box_right: Right, query_right: Right) -> Gate:
    """One model under its white-box attacks and under a query attack of the same eps, worst case of each, bool (n,).

    Failed where the query attack's advantage is above the limit beyond chance (Tango's lower bound).
    """
    found = pair(white_box_right, query_right, LIMITS.query_advantage)
    white_box, query = found.twin.accuracy, found.engine.accuracy
    observed = f"{white_box:.1%} of {found.n} images right under the white-box attacks, {query:.1%} under the query attack"
    passed = True if found.gap <= LIMITS.query_advantage else False if found.lower > LIMITS.query_advantage else None
    return _gate("query attack", passed, observed + _undecided(passed))


def twin_fidelity(engine: str, ste_clean: Labels, engine_clean: Labels, ste_adversarial: Labels, engine_adversarial: Labels) -> Gate:
    """Agreement of the STE twin's predictions with the engine's, clean and on the STE twin's own adversarial images, int (n,), n >= 0."""
    clean, adversarial = (
        (LIMITS.fidelity_clean, ste_clean, engine_clean),
        (LIMITS.fidelity_adversarial, ste_adversarial, engine_adversarial),
    )
    passed, seen = _agree(clean, adversarial)
    return _gate("twin fidelity", passed, f"same label on {seen} images" + _undecided(passed), engine)


def _agree(clean: Agreement, adversarial: Agreement) -> tuple[bool | None, str]:
    """Whether two models name the same classes on clean and on adversarial images, and on how many."""
    results, words = [], []
    for name, (limit, one, other_) in (("clean", clean), ("adversarial", adversarial)):
        other, n = int(np.sum(one != other_)), len(one)
        if not n:  # nothing is left that such a set could change
            words.append(f"no {name}")
            continue
        results.append(_at_most(1 - limit, other, n))
        words.append(f"{1 - other / n:.1%} of {n} {name}")
    passed = False if False in results else None if None in results else True
    return passed, " and ".join(words)


def saturation(engine: str, exact: Logits, found: Logits) -> Gate:
    """The engine's logits, float (n, classes), against those of the same file with exact integers, on the same images."""
    apart = np.abs(found - exact).max(axis=1)
    within = scale.allowed(LIMITS.logit_error, exact)
    same = float(np.mean(exact.argmax(1) == found.argmax(1)))
    observed = f"other logits on {np.sum(apart > within)} of {len(apart)} images, at most {apart.max():.3g} apart; same label on {same:.1%}"
    return _gate("saturation", bool((apart <= within).all()), observed, engine)


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
    return _gate("precision evidence", evidence.label == evidence.claimed, observed, engine)


def timed_outputs(engine: str, equal: bool | None, max_logit_error: float | None, *, own_clock: bool = False) -> Gate:
    """Whether the logits of the timed calls were those of the accuracy pass (MLPerf TEST01); `own_clock`: its timed calls give none."""
    if max_logit_error is None:
        return not_tested("timed outputs", "calls on a clock of its own give no answers" if own_clock else NOT_TIMED, engine)
    return _gate("timed outputs", equal, f"logits at most {max_logit_error:.3g} apart", engine)


def repeated_inputs(engine: str, repeated_to_fresh: float | None) -> Gate:
    """Latency of one input again and again over that of inputs in turn (MLPerf TEST04)."""
    if repeated_to_fresh is None:
        return not_tested("repeated inputs", NOT_TIMED, engine)
    observed = f"a repeated input takes {apart(repeated_to_fresh, LIMITS.repeated_speed, 2)} of the time of fresh ones"
    return _gate("repeated inputs", repeated_to_fresh >= LIMITS.repeated_speed, observed, engine)


def device_state(engine: str, wrong: Sequence[Mismatch], *, read: bool = True, declared: bool = True) -> Gate:
    """Whether the device is the one that its profile declares. `read`: its state was looked at; `declared`: there is one.

    `wrong` holds what makes the answers another device's; a power mode changes no answer, and is for `conditions`.
    """
    if not read:
        return not_tested("device state", "the device's state was not read", engine)
    return _gate(
        "device state",
        not wrong,
        "; ".join(map(in_words, wrong)) or ("as declared" if declared else "nothing is declared") + ", and unchanged",
        engine,
    )


def engine_parity(engine: str, twin: Labels, own: Labels, twin_adversarial: Labels, own_adversarial: Labels) -> Gate:
    """The class that a user's own engine names against the twin's, int (n,) each, on the same clean images, and on such as were attacked on
    the twin, int (m,), m >= 0: two networks may agree on all that is easy.
    """
    passed, seen = _agree((LIMITS.own_agreement, twin, own), (LIMITS.own_adversarial, twin_adversarial, own_adversarial))
    return _gate("engine parity", passed, f"same label as the twin on {seen} images" + _undecided(passed), engine)


def file_fidelity(engine: str, file: Logits, found: Logits, other_way: Logits | None = None) -> Gate:
    """The engine's logits against those that its file defines, float (n, classes) each.

    Args:
        engine, file, found: its name, and both.
        other_way: the file's once more, computed with roundings in other places, where the engine's CPU may round elsewhere too; `file`
            itself where it cannot. None: the labels alone count.
    """
    n = len(file)
    labels = int(np.sum(file.argmax(1) != found.argmax(1)))
    apart, bound = np.abs(found - file).max(axis=1), scale.allowed(LIMITS.logit_error, file)
    other = int(np.sum(apart > bound))
    observed = f"other logits on {other} of {n} images, at most {apart.max():.3g} apart; another label on {labels}"
    if other_way is None:
        passed = _at_most(1 - LIMITS.fidelity_clean, labels, n)
    elif (room := float(np.abs(other_way - file).max(axis=1).mean())) == 0:
        passed = _at_most(1 - LIMITS.fidelity_clean, other, n)
    else:
        observed += f"; {apart.mean():.2g} in the mean, two ways to round here {room:.2g}"
        passed = bool(apart.mean() <= bound + LIMITS.rounding_room * room)
    return _gate("file fidelity", passed, observed + _undecided(passed), engine)


def fresh_answers(engine: str, before: Logits, now: Mapping[int, Logits]) -> Gate:
    """The answers of the run against those of the engine opened anew, to the same images.

    Args:
        engine, before: its name, and its answers, float (n, classes).
        now: images in a request -> the answers then, float (n, classes). An image counts where those to any size are other ones.
    """
    n, within = len(before), scale.allowed(LIMITS.fresh_error, before)
    relabelled = {size: before.argmax(1) != found.argmax(1) for size, found in now.items()}
    apart = {size: np.abs(before - found).max(axis=1) for size, found in now.items()}
    differs = {size: relabelled[size] | (apart[size] > within) for size in now}
    other, labels = (int(np.any(list(found.values()), axis=0).sum()) for found in (differs, relabelled))
    passed = _at_most(1 - LIMITS.fresh_same, other, n)
    most = max(float(one.max()) for one in apart.values())
    observed = f"other answers to {other} of {n} images (another label on {labels}), logits at most {most:.3g} apart"
    sizes = [size for size in now if differs[size].any()]
    if sizes and len(sizes) < len(now):
        observed += f"; in requests of {', '.join(map(str, sizes))} alone, not of {', '.join(str(s) for s in now if s not in sizes)}"
    return _gate("fresh answers", passed, observed + _undecided(passed), engine)


def lost_anew(engine: str, error: str) -> Gate:
    """An engine that answered to everything, and does not when it is opened anew."""
    return _gate("fresh answers", False, f"opened anew, it does not answer: {error}", engine)


def engine_gain(engine: str, twin_right: Right, engine_right: Right) -> Gate:
    """Worst cases under the same sets, bool (n,). Failed where the engine's advantage is above the limit beyond chance (Tango's bound)."""
    found = pair(engine_right, twin_right, LIMITS.engine_gain)
    observed = f"twin {found.engine.accuracy:.1%}, engine {found.twin.accuracy:.1%} of {found.n} images right under the claim's attacks"
    return _gate("engine gain", found.lower <= LIMITS.engine_gain, observed, engine)


def calibration_images(covered: float, distances: Mapping[str, float], n: int, possible: float = 1.0) -> Gate:
    """Whether `n` calibration images are like the test images.

    Args:
        covered: share of the test images whose class, by the twin, is named among the calibration images too.
        distances: statistic of an image -> Kolmogorov-Smirnov distance between the two sets.
        n: calibration images; so few that chance makes the distance are not judged.
        possible: the share whose class the twin names on as many other test images.
    """
    least = LIMITS.calibration_cover * possible
    worst = max(distances, key=lambda name: distances[name])
    others = "" if possible > SURELY else f" (on as many other test images: of {possible:.0%})"
    observed = (
        f"the classes that the twin names on {n} calibration images are those of {apart(covered, least, 0, '%')} of the "
        f"test images{others}; the largest distance is {apart(distances[worst], LIMITS.calibration_distance, 2)} ({worst})"
    )
    if n < FEWEST_CALIBRATION:
        return _gate("calibration images", None, f"undecided: {n} images are too few; {observed}")
    return _gate("calibration images", covered >= least and distances[worst] <= LIMITS.calibration_distance, observed)


def own_clock(engine: str, share: float) -> Gate:
    """What an engine's own clock says of the time of a call, as a share of what passed here."""
    limit = LIMITS.own_clock if share < 1 else 1 / LIMITS.own_clock
    sound = LIMITS.own_clock <= share <= 1 / LIMITS.own_clock
    return _gate("own clock", sound, f"it reports {apart(share, limit, 2)} of the time that a call takes here", engine)


def steady_latency(engine: str, rounds_ns: Mapping[int, Sequence[float]]) -> Gate:
    """The fastest call of each round in order, in nanoseconds, by batch size; the batch size that slowed down most."""
    long = {batch: fastest for batch, fastest in rounds_ns.items() if len(fastest) >= THIRD}
    if not long:
        return not_tested("steady latency", NOT_TIMED, engine)
    slower = {}
    for batch, fastest in long.items():
        part = len(fastest) // THIRD
        slower[batch] = float(np.median(fastest[-part:]) / np.median(fastest[:part]))
    worst = max(slower, key=lambda batch: slower[batch])
    limit = 1 + LIMITS.latency_drift
    took = apart(slower[worst], limit, 2)
    return _gate("steady latency", slower[worst] <= limit, f"batch {worst}: the last rounds take {took} of the time of the first", engine)


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
    return _of_images("rising loss", LIMITS.rising_loss, rising, f"{attack}: the margin of ", " still falls")


def zero_gradient_along(attack: str, zero: Right) -> Gate:
    """`zero`, bool (n,): the gradient was zero at a step of the attack while the target was right."""
    if not len(zero):
        return not_tested("zero gradient along the path", "the twin has no image right when clean")
    return _of_images("zero gradient along the path", LIMITS.zero_gradient, zero, f"{attack}: ")


def increasing_loss(attack: str, each: Margins) -> Gate:
    """Whether an attack went forwards, from the margin of each iterate, float (asked, n), of images that the target has right when clean.

    An image counts that no iterate fools, and whose last margin is no smaller than the first.
    """
    if not each.shape[1]:
        return not_tested("increasing loss", "the twin has no image right when clean")
    if len(each) <= LAST:
        return not_tested("increasing loss", f"{attack} takes {len(each)} steps")
    backwards = (each > 0).all(axis=0) & (each[-1] >= each[0])
    return _of_images("increasing loss", LIMITS.increasing_loss, backwards, f"{attack}: the margin of ", " has not fallen")


def silent_success(attack: str, lost: Right) -> Gate:
    """`lost`, bool (n,): an iterate of the attack fooled the target, and the image that was kept does not."""
    if not len(lost):
        return not_tested("silent success", "the twin has no image right when clean")
    return _of_images("silent success", LIMITS.silent_success, lost, f"{attack}: ")


def _of_images(name: str, limit: float, hit: Right, before: str, after: str = "") -> Gate:
    """Whether at most a share `limit` of images is hit, bool (n,), n > 0; how many stands between `before` and `after`."""
    count, n = int(hit.sum()), len(hit)
    passed = _at_most(limit, count, n)
    return _gate(name, passed, f"{before}{count} of {n} images{after}" + _undecided(passed))


def rebuild_spread(engine: str, first: Labels, this: Labels) -> Gate:
    """The classes that the first build and this one name on the same clean and adversarial images, int (n,)."""
    other, n = int(np.sum(first != this)), len(first)
    passed = _at_most(LIMITS.rebuild_spread, other, n)
    return _gate("rebuild spread", passed, f"another label than the first build's on {other} of {n} images" + _undecided(passed), engine)


def in_words(wrong: Mismatch) -> str:
    """A difference between profile and device as a sentence, with its remedy."""
    return f"{wrong.what}: declared {wrong.declared}, observed {wrong.observed}. {wrong.remedy}"


def conditions(engine: str, invalid: Mapping[str, Sequence[str]], unchecked: Mapping[str, Sequence[str]]) -> Gate:
    """Whether every timed batch size counts.

    Args:
        engine: a flavour.
        invalid: batch size -> why it does not count, for those whose conditions were watched.
        unchecked: batch size -> what no sensor tells of.
    """
    if not invalid:
        return not_tested("conditions", "nothing was sampled beside the timing", engine)
    reasons = [f"batch {batch}: {reason}" for batch, found in invalid.items() for reason in found]
    sound = f"nothing against {len(invalid)} batch size{'s' if len(invalid) > 1 else ''}"
    unseen = list(dict.fromkeys(name for names in unchecked.values() for name in names))
    seen = [*(reasons or [sound]), *([f"not checked: {', '.join(unseen)}"] if unseen else [])]
    return _gate("conditions", not reasons, "; ".join(seen), engine)


def _worst(name: str, limit: float, counts: Sequence[Counted]) -> Gate:
    """A gate on a share of the attacked images: fails where one set does, and shows the worst of the sets that decide, so that a large
    share of few images hides no smaller one of many.
    """
    tried = [(_at_most(limit, count, n), count / n, n, one) for one, count, n in counts if n]
    if not tried:
        return not_tested(name, "no image was attacked")
    passed, share_, n, one = max(tried, key=lambda found: (found[0] is False, found[0] is None, found[1]))
    return _gate(name, passed, f"at most {share_:.1%} of {n} attacked images ({one})" + _undecided(passed))


def _at_most(limit: float, count: int, n: int) -> bool | None:
    """Whether a share is at most `limit`, as it was seen; None where it is above by what may be chance (95 % Wilson interval)."""
    if count <= limit * n + TINY:
        return True
    return False if wilson(count, n)[0] > limit else None


def _undecided(passed: bool | None) -> str:
    return ": undecided" if passed is None else ""


def _gate(name: str, passed: bool | None, observed: str, engine: str | None = None) -> Gate:
    return Gate(name=name, engine=engine, passed=passed, observed=observed, limit=GATES[name].limit, remedy=GATES[name].remedy)
