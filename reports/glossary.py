"""The words of the report in plain English: the one table of definitions, and how a text is linked to them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A word with its meaning. `forms`: a regular expression of how it appears in texts; None: the word itself."""

    word: str
    meaning: str
    forms: str | None = None

    @property
    def anchor(self) -> str:
        """Where it stands on the page."""
        return f"term-{re.sub(r'[^a-z0-9]+', '-', self.word.lower()).strip('-')}"


TERMS = (
    Term("twin", "The PyTorch model for which the robustness was claimed. Engines are held against it.", "(?<!STE )[Tt]wins?"),
    Term("engine", "A file made from the twin, loaded by a runtime on the device: what will really run.", "[Ee]ngines?"),
    Term(
        "flavour", "One way to deploy a model: which runtime, which precision. Its name says both, such as openvino-int8.", "[Ff]lavours?"
    ),
    Term("artefact", "The file, or files, of one flavour.", "[Aa]rtefacts?"),
    Term("build", "One making of an engine. Runtimes that tune themselves may make another one from the same file.", "[Bb]uilds"),
    Term("runtime", "The library that executes the file on the device, such as onnxruntime or TensorRT.", "[Rr]untimes?"),
    Term("INT8", "Numbers of 8 bits: smaller and faster than float, and rounded.", "INT8|int8"),
    Term("fp32", "Numbers of 32 bits (float), as the twin uses. fp16: half of that.", "fp32|fp16|float32"),
    Term("MACs", "Multiply-accumulates: how many multiplications a network needs for one image.", "MACs"),
    Term("calibration", "Choosing the scales of INT8 on some images, none of which is tested.", "[Cc]alibration"),
    Term("parity", "The file gives the twin's answers to the same images, within a limit.", "parity"),
    Term("logits", "What a classifier outputs before the class is named: one number per class.", "[Ll]ogits?"),
    Term("top-1", "The class with the largest logit: the answer."),
    Term(
        "margin (of an image)", "Logit of the right class less the largest other one; below 0 the answer is wrong.", "difference of margins"
    ),
    Term("ε", "The radius of an attack: how much every pixel value may change, where black is 0 and white is 1.", "ε|eps"),
    Term("L∞", "The largest change of any pixel value.", "L∞|L-inf"),
    Term("L2", "The length of the change of all pixels together (Euclid).", "L2"),
    Term(
        "adversarial image", "An image changed by so little that a person sees no difference, such that a model is wrong.", "[Aa]dversarial"
    ),
    Term("clean", "Images as they are, without an attack.", "[Cc]lean"),
    Term(
        "robust accuracy",
        "Share of images that a model has right when clean and under every attack.",
        "[Rr]obust accuracy|[Rr]obustness lost",
    ),
    Term("worst case", "Each image counts with the attack that hurts it most.", "[Ww]orst cases?"),
    Term("gap", "Robust accuracy of the twin less the engine's, on the same images: what the conversion cost.", "[Gg]aps?"),
    Term("margin", "The gap that is allowed.", "[Mm]argins?"),
    Term("claim", "That an engine keeps the twin's robust accuracy to within the margin.", "[Cc]laims?"),
    Term("control", "The float engine beside quantized ones: it shows what the conversion without rounding does.", "[Cc]ontrol"),
    Term("gate", "A check of the measurement itself. A failed one that guards the verdict makes it UNTRUSTED.", "[Gg]ates?"),
    Term("source", "Who a set of adversarial images was aimed at, and how: S0 to S7.", "[Ss]ources?"),
    Term("S0", "Random noise of the same size: what happens without an adversary."),
    Term("S1", "Attacks that follow the twin's gradients (white-box on the twin; on an engine they are transferred)."),
    Term("S2", "Attacks on the compressed network without its quantizers."),
    Term("S3", "The same attacks on the engine's own graph, read back into PyTorch: the STE twin."),
    Term("S4", "Attacks on the engine itself, by asking it; the twin gets the same ones."),
    Term("S7", "Attacks on the twin with weights of 4 and of 2 bits, shown to quantized engines."),
    Term("S5", "Attacks that look for images on which twin and engine part."),
    Term("S6", "Images made on one engine, shown to another."),
    Term(
        "STE twin",
        "The exported graph read back into PyTorch: it rounds as the engine does, and gradients go straight through the rounding.",
        "STE twin|STE|straight-through",
    ),
    Term(
        "transfer rate",
        "Of the images that fool the model they were made on, how many fool the other one too.",
        "[Tt]ransfer rates?|[Tt]ransferred",
    ),
    Term("replay", "Images made on one model, shown byte for byte to another.", "[Rr]eplays?|[Rr]eplayed"),
    Term("adaptive", "Attacks that take the engine itself into account, not the twin alone.", "[Aa]daptive"),
    Term("flip", "An image that exactly one of twin and engine has right.", "[Ff]lips?|[Ff]lipped"),
    Term("cascade", "Attacks one after another; an image leaves once every model that counts was fooled on it.", "[Cc]ascade"),
    Term("security curve", "Accuracy left, over the radius of the attack.", "[Ss]ecurity curve"),
    Term(
        "minimum-norm attack", "It looks for the nearest image that fools, instead of one within a radius.", "[Mm]inimum-norm|smallest L2"
    ),
    Term("FGSM", "One step along the gradient's sign.", "fgsm|FGSM"),
    Term(
        "PGD",
        "Many small steps along the gradient's sign, back into the radius after each. BIM: without a random start.",
        r"pgd(?:-\d+)?|PGD|bim(?:-\d+)?|BIM",
    ),
    Term(
        "Auto-PGD",
        "PGD that chooses its steps by itself: with cross-entropy (-ce), a ratio of logits (-dlr), towards a class (-t).",
        r"apgd(?:-[a-z]+)?(?:-\d+)?|Auto-PGD|APGD-\w+",
    ),
    Term("BPDA", "Auto-PGD on the engine's own answers, with the gradient of a model that is nearly the engine.", r"bpda(?:-\d+)?|BPDA"),
    Term(
        "Square",
        "An attack that only asks for logits, changing squares at random; warm: from an earlier attack's best failure.",
        r"square(?:-warm|-l2)?(?:-\d+)?|Square",
    ),
    Term("C&W", "A minimum-norm attack (Carlini and Wagner 2017).", r"cw-l2|C&W"),
    Term(
        "zero gradient",
        "The attack sees no direction to go: the model may look robust without being so (masked gradients).",
        "[Zz]ero gradient|masked gradients",
    ),
    Term(
        "95 % interval",
        "Had other images been drawn, the true value would lie in such an interval 95 times of 100.",
        "95 % (?:Wilson )?intervals?|intervals are 95 %",
    ),
    Term("Wilson", "How the interval of a share is computed (Wilson 1927); good for few images too."),
    Term("Tango", "How the bounds of a difference of two shares on the same images are computed (Tango 1998)."),
    Term("Holm", "Makes several claims together as hard to pass by chance as one (Holm 1979).", "Holm(?:-adjusted)?"),
    Term("McNemar", "A test whether two models differ at all on the same images.", "McNemar"),
    Term("Bonferroni", "Makes several limits together as hard to pass by chance as one."),
    Term("p", "How likely figures such as these are by chance alone, if the opposite were true.", r"(?<![\w-])p(?=:| of)"),
    Term("HOLDS", "The gap is below the margin, with 95 % confidence, and the engine itself was attacked."),
    Term("NOT REFUTED BY TRANSFER", "Nothing speaks against the claim, but the engine itself was not attacked: no proof."),
    Term("INCONCLUSIVE", "The images at hand do not decide."),
    Term("DEGRADED", "The engine is less robust than the twin; whether by more than the margin is open."),
    Term("FAILS", "The gap is above the margin, with 95 % confidence."),
    Term("UNTRUSTED", "A gate failed that the verdict rests on: the figures decide nothing."),
    Term("ENGINE FAILED", "An engine did not run."),
    Term("INVALID", "A measurement that does not count, such as one that other programs disturbed; its figures are withheld."),
    Term("withheld", "Not shown, since it would mislead: of an emulated device, or of too few calls."),
    Term("p50", "Half of the calls took no longer (the median). p90, p99, p99.9: that many of 100.", r"p50|p90|p95|p99(?:\.9)?"),
    Term("batch", "Images per call.", "[Bb]atch(?: size)?"),
    Term("round", "Engines are timed in turns; a round is one turn of all.", "[Rr]ounds|round by round|per round"),
    Term(
        "floor", "No call can be faster than this: operations over the processor's peak, or bytes over the memory's (roofline).", "[Ff]loor"
    ),
    Term(
        "peak memory",
        "The largest memory in use by the engine's process, above what it used before the runtime was loaded.",
        "[Pp]eak memory",
    ),
    Term("Pareto front", "The engines that no other one beats in both robustness and cost.", "Pareto fronts?|on the front"),
    Term("plan", "What a runtime makes of the file before it runs.", "[Pp]lan"),
    Term("tier", "How thorough the run was: quick, bench or qualify.", "[Tt]ier"),
    Term("SHA-256", "A fingerprint of a file: another file has another one."),
    Term(
        "emulated",
        "Run on another processor that imitates the device: its answers are right, its times mean nothing.",
        "[Ee]mulated",
    ),
    Term("synthetic", "A made-up device, for tests: none of its times was measured.", "[Ss]ynthetic"),
    Term("simulated", "An engine that did not run: its answers were computed another way.", "[Ss]imulated"),
)

_FORMS = "|".join(f"(?P<t{i}>{term.forms or re.escape(term.word)})" for i, term in enumerate(TERMS))
_ANY = re.compile(rf"(?<![\w/.-])(?:{_FORMS})(?![\w/-]|\.\w)")


def parts(text: str, seen: set[str]) -> list[tuple[str, Term | None]]:
    """The text in pieces: each term at its first place with its definition, the rest plain. `seen` words are left plain, and grows."""
    found: list[tuple[str, Term | None]] = []
    done = 0
    for match in _ANY.finditer(text):
        term = TERMS[int((match.lastgroup or "t0")[1:])]
        if term.word not in seen:
            seen.add(term.word)
            found += [(text[done : match.start()], None), (match[0], term)]
            done = match.end()
    return [*found, (text[done:], None)]
