"""What is asked of each gate and what helps where it fails; how a gate is made of counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import binomtest

from export.scale import LEADS
from harness.audit.metrics import Right
from harness.audit.statistics import ALPHA, wilson
from harness.limits import LIMITS
from harness.records import Gate

HALF = 0.5
TINY = 1e-9  # of an image, in products of limits and counts
OF_LARGEST = f"of the largest logit, counted from its image's mean, or of {LEADS} times the largest lead where that is less"
LAST = 10  # steps of an attack, at whose end its loss should have settled


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
        "on clean images the twin is better than chance (than always naming the most frequent class or, of unequal classes, than as many "
        "guesses of each), not below what its card says of these images, and no other reading of labels or pixels has clearly more of them "
        "right",
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
        f"{LIMITS.own_adversarial:.0%} of those that were attacked on the twin, and of some of both that were mirrored and moved; attacked "
        f"itself, it keeps at most {LIMITS.own_kept:.0%} of the images that the same attacks take from the twin; how far the twin's class "
        f"leads goes with the twin's lead (a rank correlation of {LIMITS.lead_correlation:g}, beyond chance), and on "
        f"{1 - LIMITS.other_order:.0%} of the images so does the order of all classes (a Gini correlation of {LIMITS.class_order:g})",
        "The engine computes another network: check its weights, the order of its classes, its input's scale, layout and colours. Where "
        "only attacked images part them, the twin's gradients do not lead through the engine, and no attack here is an attack on it: look "
        "for a second network, or one that cleans or recognises inputs, on part of the images; attack it with more queries (--tier bench).",
        refutable=True,
    ),
    "file fidelity": Kind(
        f"on {LIMITS.fidelity_clean:.0%} of the clean images the engine answers as its file defines (onnxruntime: logits within "
        f"{LIMITS.logit_error:.1%} {OF_LARGEST}; on another CPU no farther from the file's, in the mean, than that and "
        f"{LIMITS.rounding_room:g} times the distance between fused and unfused kernels here; other runtimes: the same label)",
        "The device runs another file, or other arithmetic: compare the hash of what runs, the runtime's version and options.",
    ),
    "fresh answers": Kind(
        f"opened anew and asked in another order and in requests of other sizes, those that were timed among them, the engine names the "
        f"same class on {LIMITS.fresh_same:.0%} of the images, with logits within {LIMITS.fresh_error:.0%} {OF_LARGEST}",
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
    "calibration disjoint": Kind(
        f"no test image is among the calibration images, and at most {LIMITS.near_copies:.0%} nearly",
        "Calibrate on other images, from the training set.",
    ),
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
        f"where the CPU's INT8 kernels can saturate, the logits are those of exact integers (within {LIMITS.logit_error:.1%} {OF_LARGEST})",
        "The CPU computes another network than the file's, and its own figures are shown. For the file's: --flavour ort-int8-precise (the "
        "same file, exact kernels) or ort-int8-rr (weights of 7 bits). If it is one of these: compare the versions of onnxruntime.",
        guards=False,
    ),
    "precision evidence": Kind(
        "the runtime runs the precision that is claimed",
        "The label is withheld: read the kernel list. Quantize in the form that this runtime fuses, or take a device with such kernels.",
        guards=False,
    ),
    "timed outputs": Kind(
        f"the outputs of the timed runs are those that were judged (within {LIMITS.logit_error:.1%} {OF_LARGEST}; of a "
        f"user's own engine {LIMITS.fresh_error:.0%})",
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
        "The device slows down: heat, a power limit, a clock that falls, or another program. Cool it, lock the clocks, end the program, or "
        "report the later figures.",
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


def decided(name: str, passed: bool | None, observed: str, engine: str | None = None) -> Gate:
    """The gate `name` with what was observed; `passed=None`: it cannot decide."""
    return Gate(name=name, engine=engine, passed=passed, observed=observed, limit=GATES[name].limit, remedy=GATES[name].remedy)


def at_most(limit: float, count: int, n: int) -> bool | None:
    """Whether a share is at most `limit`, as it was seen; None where it is above by what may be chance: its 95 % Wilson interval holds the
    limit, or, of so few images that this interval is too narrow, chance makes as many in one of twenty (exact binomial test)."""
    if count <= limit * n + TINY:
        return True
    by_chance = binomtest(count, n, limit, alternative="greater").pvalue
    return False if wilson(count, n)[0] > limit and by_chance < ALPHA else None


def undecided(passed: bool | None) -> str:
    """The end of a sentence that does not decide."""
    return ": undecided" if passed is None else ""


def of_images(name: str, limit: float, hit: Right, before: str, after: str = "") -> Gate:
    """Whether at most a share `limit` of images is hit, bool (n,), n > 0; how many stands between `before` and `after`."""
    count, n = int(hit.sum()), len(hit)
    passed = at_most(limit, count, n)
    return decided(name, passed, f"{before}{count} of {n} images{after}" + undecided(passed))
