"""Does one INT8 file give the same answers on every CPU? Emulates other CPUs and compares their labels with this one's; not a pytest test.

    python tests/benchmarks/cpu_answers.py resnet18x16-at --device x86-avx2 --device x86-sse4 --device raspberry-pi-4

Every device classifies the same bytes: clean images, and Auto-PGD examples made once on the PyTorch model. Finished work in --out is kept,
so an interrupted comparison goes on. A device with a sysroot needs `harness devices prepare NAME` first.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from devices.worker.environment import describe_machine
from harness.attacks.sets import make_set
from harness.settings import Settings
from harness.stages.export import export_and_check
from harness.stages.subject import load_subject
from harness.validate.cpus import ask_on

FLAVOURS = ("ort-int8", "ort-int8-precise", "ort-int8-rr")


def main() -> None:
    """Print one row per device and flavour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--arch")
    parser.add_argument("--device", action="append", required=True)
    parser.add_argument("--flavour", action="append")
    parser.add_argument("--attack", default="apgd-ce")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("runs/cpu-answers"))
    given = parser.parse_args()

    settings = Settings(
        model=given.model, arch=given.arch, flavours=tuple(given.flavour or FLAVOURS), attacks=(given.attack,),
        samples=given.samples, batches=(),
    )  # fmt: skip
    whole = load_subject(settings)
    subject = replace(whole, test=whole.test.subset(whole.index), index=np.arange(given.samples))
    exported = export_and_check(subject, settings, given.out / "artefacts", print)
    sets = given.out / "adversarial"
    record, images = make_set(
        subject.twin.module, subject.test, subject.index, subject.attacks[0], subject.eps, settings.seed, source="S1", folder=sets
    )
    asked = {subject.test.sha256: subject.test.images, record.set_sha256: images}

    answers = {
        device: ask_on(device, subject, settings, exported, asked, given.out / device, print)
        for device in dict.fromkeys(("host", *given.device))
    }

    labels = subject.test.labels
    print(f"\nCompared with {reference()}.")
    print(f"{record.name} at {record.eps_exact}, {len(labels)} clean and adversarial images each; twin {record.target_accuracy:.1%} right")
    print("| device | flavour | other labels, clean | adversarial | images with another logit | largest difference | robust here | there |")
    print("|---|---|---|---|---|---|---|---|")
    for device, results in answers.items():
        for flavour, there in results.items():
            here = answers["host"][flavour]
            if isinstance(there, str) or isinstance(here, str):
                print(f"| {device} | {flavour} | {there if isinstance(there, str) else here} |")
                continue
            labelled = [int((one.argmax(1) != other.argmax(1)).sum()) for one, other in zip(here, there, strict=True)]
            apart = np.concatenate([np.abs(one - other).max(axis=1) for one, other in zip(here, there, strict=True)])
            robust = [int(((clean.argmax(1) == labels) & (shown.argmax(1) == labels)).sum()) for clean, shown in (here, there)]
            cells = (device, flavour, *labelled, int((apart > 0).sum()), f"{apart.max():.2f}", *robust)
            print(f"| {' | '.join(map(str, cells))} |")


def reference() -> str:
    """What this CPU is, as far as INT8 depends on it: without VNNI it saturates itself, and is no reference for `ort-int8`."""
    seen = describe_machine()
    flags = [flag for flag in ("avx512_vnni", "avx_vnni", "asimddp", "i8mm") if flag in seen["isa_flags"]]
    if flags:
        return f"this CPU: {seen['cpu_model']}, with {', '.join(flags)}"
    return (
        f"this CPU: {seen['cpu_model']}, WITHOUT VNNI. Its own ort-int8 saturates, so agreement in that row says nothing against "
        "saturation; ort-int8-precise and ort-int8-rr do not"
    )


if __name__ == "__main__":
    main()
