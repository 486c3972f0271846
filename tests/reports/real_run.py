"""A real `harness bench --device null` of a classifier that every CPU answers alike, and its report without what differs by machine."""

from __future__ import annotations

import re
from pathlib import Path

from nearest import make_nearest

from harness.settings import Settings
from harness.spine import bench


def make_case(folder: Path) -> Settings:
    model, data = make_nearest(folder)
    return Settings(
        model=str(model), data=str(data), device="null", flavours=("onnx-fp32", "ort-int8-rr"),
        attacks=("fgsm", "pgd-5"), eps="4/255", samples=64, batches=(1, 8), threads=1,
    )  # fmt: skip


def report(folder: Path) -> str:
    """report.md of a run in `folder`, as it reads on every machine."""
    settings = make_case(folder)
    command = ["harness", "bench", "--device", "null", "--model", "nearest.onnx", "--data", "four.npz", "--eps", "4/255"]
    bench(settings, folder / "run", command)
    here = re.escape(f"{folder}/").replace("_", r"\\?_")  # Markdown escapes some of its underscores
    return steady(re.sub(here, "", (folder / "run/report.md").read_text()))


PROPERTIES = "cpu_model isa_flags cpus affinity machine kernel python numpy platform gradients torch torchvision onnx "
PROPERTIES += "CPU onnxruntime foolbox pyautoattack scipy"
MACHINE: list[tuple[str, str]] = [
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "DATE"),
    (r"\b[0-9a-f]{64}\b", "SHA-256"),
    (r"\| [0-9a-f]{12} \|", "| SHA |"),
    (rf"(?m)^\| ({PROPERTIES.replace(' ', '|')}) \| .* \|$", r"| \1 | OF THE MACHINE |"),
    (r"onnxruntime \d[\w.]*", "onnxruntime VERSION"),
    (r"providers = [^|]*", "OPTIONS "),
    (r"\b\d\.\d+e-0\d\b", "TINY"),  # a difference of roundings
    (r"(\| onnx-fp32 \| passed \| 100\.0 % \|) (?:0\.00|TINY) \|", r"\1 TINY |"),
    (r"rows sum to -?[\w.-]+ … -?[\w.-]+", "rows sum to …"),
    (r"logits at most (0|TINY) apart", "logits at most TINY apart"),
    (r"0 failed, \d+ undecided, \d+ passed, \d+ not tested", "0 failed, …"),  # saturation among them
    (r"\| [\d,]+ \(\d+, \d+\) \|", "| QUERIES |"),  # gradients in bfloat16, where the CPU computes in it, are checked in float32
    (r"(\| 64\.0 \|) [\d.]+ \| [\d.]+ \|", r"\1 L2 | L2 |"),  # far from the image, where rounding leads elsewhere
    (r"(?m)^\| (quota_cpus|emulator|clock_skew_s|governor|saturation) \| .*\n", ""),  # not on every machine
]


def steady(text: str) -> str:
    """The text with a word in place of what differs by machine, versions and day."""
    for pattern, word in MACHINE:
        text = re.sub(pattern, word, text)
    return text
