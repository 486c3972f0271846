"""A small run folder made without a model: margins are drawn and every figure is counted from them, so that record and raw files agree."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from harness.answers import TWIN, Answers
from harness.records import (
    AttackRecord,
    Claim,
    CrossCheck,
    DataRecord,
    DeviceRecord,
    EngineRecord,
    Flips,
    Floor,
    Gate,
    KernelShare,
    Latency,
    Memory,
    ModelRecord,
    Parity,
    PrecisionEvidence,
    Queries,
    Roofline,
    RunRecord,
    Share,
    Spread,
    Step,
    Transfer,
    Verdict,
)

HOSTILE = "<script>alert(1)</script>|\"'`x`](javascript:alert(1))${7*7}{{7*7}}\x1b[31m\u202e"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
ENGINES = ("onnx-fp32", "ort-int8")
SETS = (
    ("S0", "twin", "noise", "8/255"),
    ("S1", "twin", "pgd", "8/255"),
    ("S1", "twin", "apgd-ce", "8/255"),
    ("S1", "twin", "apgd-dlr", "8/255"),
    ("S1", "twin", "cw-l2", "0"),
    *(("S1", "twin", "pgd", eps) for eps in ("1/255", "2/255", "4/255")),
    ("S3", "ort-int8", "apgd-ce", "8/255"),
    ("gate", "twin", "pgd", "64/255"),
)
# Margin lost per 1/255 of radius; steps; library. A minimum-norm attack stops just behind the boundary.
STRENGTH = {"noise": 0.02, "pgd": 0.21, "apgd-ce": 0.24, "apgd-dlr": 0.26, "cw-l2": 0.0}
STEPS = {"noise": 10, "pgd": 20, "apgd-ce": 50, "apgd-dlr": 50, "cw-l2": 60}
LIBRARY = {"noise": "harness", "pgd": "foolbox", "cw-l2": "foolbox", "apgd-ce": "pyautoattack", "apgd-dlr": "pyautoattack"}
BATCHES = (1, 8, 32)


def share(correct: int, n: int) -> Share:
    low, high = binomtest(correct, n).proportion_ci(method="wilson")
    return Share(correct=correct, n=n, accuracy=correct / n, ci95=(low, high))


def make_run(
    folder: Path,
    *,
    n: int = 64,
    n_clean: int = 96,
    noise: float = 0.35,
    attacked: bool = True,
    hostile: bool = False,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    failed: bool = False,
    emulated: bool = False,
    synthetic: bool = False,
    unrun: bool = False,
    accelerator: bool = False,
    rounds: int = 0,
    **changes: Any,
) -> RunRecord:
    """Write a finished run into `folder` and give back its record.

    Args:
        folder: created where it is not there.
        n: attacked images; `n_clean` are classified.
        noise: how far an engine's margins stray from the twin's; 0 gives no flip.
        attacked: whether there are adversarial sets at all.
        hostile: every free text of the record holds markup, quotes, pipes, templates and control characters.
        images: uint8 (n_clean, h, w, c) with `labels` int64 (n_clean,); drawn where not given.
        failed: a third engine crashed.
        unrun: the INT8 engine was simulated on the workstation, so it has a floor but no latency.
        accelerator: the INT8 engine ran on a device with memory and kernels of its own, and says so.
        rounds: in which the engines were timed in turns; 0: that was not kept.
        changes: fields of the record to set.
    """
    rng = np.random.default_rng(0)
    evil = HOSTILE if hostile else ""
    (folder / "adversarial").mkdir(parents=True)
    (folder / "timings").mkdir()
    if images is None or labels is None:
        labels = rng.integers(0, 10, n_clean)
        images = (rng.integers(0, 256, (n_clean, 4, 4, 3)).repeat(2, axis=1).repeat(2, axis=2)).astype(np.uint8)
    np.savez_compressed(folder / "adversarial/clean.npz", images=images[:n], index=np.arange(n), labels=labels[:n])

    base = rng.normal(1.6, 1.7, n_clean)
    strays = {engine: noise * (0.1 if engine == "onnx-fp32" else 1.0) * rng.normal(0, 1, (n_clean, 2)) for engine in ENGINES}
    rows = [
        _rows(
            labels,
            base,
            base + strays[engine][:, 0],
            engine,
            source="clean",
            target="clean",
            attack="clean",
            eps="0",
            rng=rng,
            distance=np.zeros(n_clean),
        )
        for engine in ENGINES
    ]
    attacks, transfers = [], []
    for source, target, name, eps in SETS if attacked else ():
        radius, size = Fraction(eps), 16 if source == "gate" else n
        margin, distance = _attacked(base[:size], name, float(radius) * 255)
        file = f"adversarial/{source}-{target}-{name}-{radius.numerator}-{radius.denominator}.npz"
        signs = rng.choice([-1, 1], images[:size].shape)
        shifted = np.clip(images[:size].astype(int) + signs * int(radius * 255), 0, 255).astype(np.uint8)
        np.savez_compressed(folder / file, images=shifted, index=np.arange(size), labels=labels[:size])
        attacks.append(_attack(source, target, name, eps, file, base[:size], margin, distance))
        for engine in ENGINES:
            stray = margin + strays[engine][:size, 1]
            where = {"source": source, "target": target, "attack": name, "eps": eps}
            rows.append(_rows(labels[:size], margin, stray, engine, rng=rng, distance=distance, **where))
            if source != "gate":
                transfers.append(_transfer(engine, where, base[:size], base[:size] + strays[engine][:size, 0], margin, stray))
    frame = pd.concat(rows).reset_index(drop=True)
    frame.to_parquet(folder / "samples.parquet")
    _answers(folder, frame, labels, np.arange(n), attacks)

    engines = [_engine(folder, name, base + strays[name][:, 0], evil, rng, rounds) for name in ENGINES]
    if unrun:
        engines[1] = _unrun(engines[1])
    if accelerator:
        engines[1] = _accelerated(engines[1])
    if emulated:
        engines = [engine if engine.simulated else engine.model_copy(update={"roofline": None}) for engine in engines]
    if failed:
        engines.append(_failed(evil))
    record = RunRecord(
        status=Step.FINISHED,
        created="2026-11-22T18:00:00Z",
        harness_version="0.1.0",
        command=["harness", "bench", "--model", f"resnet18x16-at{evil}", "--data", "my images", "--out", "runs/first"],
        settings={"eps": None, "samples": n, "threads": 2, "note": evil or "none"},
        tier="quick",
        seed=0,
        environment={"platform": f"Linux x86_64{evil}", "python": "3.11.2", "packages": {"torch": "2.14.1", "onnxruntime": "1.32.0"}},
        device=DeviceRecord(
            name=f"host{evil}",
            kind="cpu",
            emulated=emulated,
            synthetic=synthetic,
            observed={
                "cpu": f"Example CPU @ 2.4 GHz{evil}",
                "isa": ["avx2", "avx512f", "avx512_vnni"],
                "threads": 2,
                "governor": None,
                "load": {"1min": 0.12},
            },
        ),
        model=ModelRecord(
            name=f"resnet18x16-at{evil}",
            source="zoo",
            arch="resnet18x16",
            sha256="1a" * 32,
            parameters=701_466,
            nonzero_parameters=700_001,
            macs=35_217_408,
            input_shape=(3, 32, 32),
            classes=10,
        ),
        data=DataRecord(
            name=f"cifar10-sample{evil}",
            sha256="2b" * 32,
            n=n,
            n_clean=n_clean,
            class_names=[f"{name}{evil}" for name in CLASSES],
            calibration_name="cifar10-calibration",
            calibration_sha256="3c" * 32,
            calibration_n=512,
        ),
        engines=engines,
        attacks=attacks,
        transfer=transfers,
        gates=_gates(evil),
        claims=[_claim(t, evil) for t in transfers if t.attack == "apgd-dlr"],
        verdict=Verdict.NOT_REFUTED,
    ).model_copy(update=changes)
    record.save(folder)
    return record


def _answers(folder, frame, labels, index, attacks):
    """The cells that the samples are counted from: a one for the class that is named."""
    answers = Answers(folder)
    answers.begin(labels, index)
    columns = [("clean", "clean", "clean", "0", "2b" * 32), *((a.source, a.target, a.name, a.eps_exact, a.set_sha256) for a in attacks)]
    for source, target, attack, eps, sha256 in columns:
        here = frame[(frame.source == source) & (frame.target == target) & (frame.attack == attack) & (frame.eps == eps)]
        for engine, rows in here.groupby("engine"):
            for model, side in ((TWIN, "twin"), (engine, "engine")):
                answers.ask(_Named(model, rows[f"{side}_prediction"].to_numpy()), sha256, rows.index.to_numpy())


class _Named:
    sha256 = "7c" * 32

    def __init__(self, name, predictions):
        self.id, self.predictions = name, predictions

    def logits(self, images):
        return np.eye(10, dtype=np.float32)[self.predictions]


def _rows(labels, twin, engine, name, *, source, target, attack, eps, rng, distance):
    """Rows of samples.parquet from margins: a positive margin is the right answer, any other the next class."""
    n = len(labels)
    wrong = (labels + rng.integers(1, 10, n)) % 10
    return pd.DataFrame(
        {
            "index": np.arange(n, dtype=np.int32),
            "label": labels.astype(np.int32),
            "source": source,
            "target": target,
            "attack": attack,
            "eps": eps,
            "engine": name,
            "twin_prediction": np.where(twin > 0, labels, wrong).astype(np.int32),
            "engine_prediction": np.where(engine > 0, labels, wrong).astype(np.int32),
            "twin_margin": twin.astype(np.float32),
            "engine_margin": engine.astype(np.float32),
            "linf": (distance / 14).astype(np.float32),
            "l2": distance.astype(np.float32),
        }
    )


def _attacked(base, name, radius):
    """Margins after the attack and L2 distances, both (n,)."""
    if name == "cw-l2":
        return np.where(base > 0, -0.01, base), np.where(base > 0, 0.3 * base, 0.0)
    return base - radius * STRENGTH[name], np.where(base > 0, 0.054 * radius, 0.0)


def _attack(source, target, name, eps, file, clean, margin, distance):
    radius, smallest = float(Fraction(eps)), name == "cw-l2"
    return AttackRecord(
        source=source,
        target=target,
        name=name,
        library=LIBRARY[name],
        norm="L2" if smallest else "Linf",
        eps=radius,
        eps_exact=eps,
        steps=STEPS[name],
        step_size="eps/4" if name == "pgd" else "adaptive, from 2 eps",
        seed=0,
        n=len(clean),
        n_attacked=int((clean > 0).sum()),
        target_accuracy=float((margin > 0).mean()),
        linf_max=radius,
        l2_mean=float(distance[clean > 0].mean()),
        l2_median=float(np.median(distance[clean > 0])) if smallest else None,
        zero_gradient_share=0.0,
        queries=Queries.of([STEPS[name]] * int((clean > 0).sum())),
        set_sha256=hashlib.sha256(file.encode()).hexdigest(),
        file=file,
    )


def _transfer(engine, where, clean, engine_clean, margin, stray):
    twin, right = (clean > 0) & (margin > 0), (engine_clean > 0) & (stray > 0)
    fooled = (clean > 0) & (engine_clean > 0) & (margin <= 0)
    n = len(clean)
    rate = share(int((fooled & (stray <= 0)).sum()), int(fooled.sum())) if fooled.any() else None
    return Transfer(
        engine=engine,
        source=where["source"],
        target=where["target"],
        attack=where["attack"],
        eps=float(Fraction(where["eps"])),
        eps_exact=where["eps"],
        n=n,
        twin_accuracy=twin.mean(),
        engine_accuracy=right.mean(),
        ci95=share(int(right.sum()), n).ci95,
        transfer_rate=rate.accuracy if rate else None,
        transfer_ci95=rate.ci95 if rate else None,
        flips=Flips(
            both_right=(twin & right).sum(),
            twin_only=(twin & ~right).sum(),
            engine_only=(~twin & right).sum(),
            both_wrong=(~twin & ~right).sum(),
        ),
        label_disagreement=((margin > 0) != (stray > 0)).mean(),
        differential_evasion=(twin & ~right).mean(),
    )


def _engine(folder, flavour, margin, evil, rng, rounds):
    integer = flavour == "ort-int8"
    latency = {}
    for batch in BATCHES:
        n = {1: 2_000, 8: 700, 32: 100}[batch]
        values = (0.9 if integer else 1.2) * batch**0.8 * 1e6 * (1 + rng.gamma(1.2, 0.04, n) + (rng.random(n) < 0.01) * rng.random(n) * 2)
        raw = f"timings/{flavour}-b{batch}.npz"
        turns = {"round": np.arange(n) * rounds // n} if rounds else {}
        np.savez(folder / raw, latency_ns=values.astype(np.int64), warmup_ns=values[:50].astype(np.int64), **turns)
        latency[str(batch)] = _latency(values / 1e6, batch, raw)
    return EngineRecord(
        flavour=flavour,
        name=flavour,
        plan_sha256=("8d" if integer else "9e") * 32,
        runtime="onnxruntime",
        runtime_version="1.32.0",
        options={"intra_op_num_threads": 2, "graph_optimization_level": "all"},
        artefact_sha256=("4d" if integer else "5e") * 32,
        status="ok",
        error=None,
        parity=Parity(
            n=96, max_logit_error=0.213 if integer else 4.1e-7, top1_agreement=0.984 if integer else 1.0, passed=True, limit="top-1 ≥ 97 %"
        ),
        precision_evidence=PrecisionEvidence(
            claimed="int8" if integer else "fp32",
            label="int8" if integer else "fp32",
            integer_mac_share=0.987 if integer else 0.0,
            kernels={"QLinearConv": 20, "QGemm": 1} if integer else {"FusedConv": 20, "Gemm": 1},
            note=f"the first convolution ran in float{evil}" if integer else "",
        ),
        load_ms=41.7,
        latency=latency,
        memory=Memory(artefact_bytes=760_123 if integer else 2_811_904, baseline_bytes=31_000_000, peak_bytes=48_200_000),
        roofline=_roofline(1.2e12 if integer else 4e11, "int8" if integer else "fp32", "measured in this run"),
        clean=share(int((margin > 0).sum()), len(margin)),
        warnings=[f"the first call took 8.1 ms, 8 times the median: warm up before serving{evil}"] if integer else [],
    )


def _roofline(operations_per_s, arithmetic, source):
    """Of 35 million MACs."""
    floors = {str(batch): Floor(ms=2 * 35e6 * batch / operations_per_s * 1e3, bound="arithmetic") for batch in BATCHES}
    return Roofline(
        arithmetic=arithmetic, operations_per_s=operations_per_s, bytes_per_s=27e9, cache_bytes=32 << 20, source=source, floors=floors
    )


def _unrun(engine):
    evidence = engine.precision_evidence.model_copy(update={"label": "int8, simulated", "integer_mac_share": None, "kernels": {}})
    return engine.model_copy(
        update={
            "runtime": "tensorrt",
            "runtime_version": None,
            "simulated": "onnxruntime, node by node",
            "precision_evidence": evidence,
            "latency": {},
            "load_ms": None,
            "roofline": _roofline(85.5e12, "int8", "declared for power mode MAXN: the vendor"),
            "warnings": ["Simulated, not run."],
        }
    )


def _accelerated(engine):
    shares = {
        "int8": KernelShare(layers=0.5, time=0.75, macs=0.96),
        "unknown": KernelShare(layers=0.5, time=0.25, macs=0.04),
        "sparse": KernelShare(layers=0.25, time=0.125, macs=0.3),
    }
    part = Spread(mean=0.031, p50=0.03, p90=0.04, p99=None)
    latency = {
        batch: found.model_copy(update={"parts": {"host_to_device": part, "compute": part}}) for batch, found in engine.latency.items()
    }
    return engine.model_copy(
        update={
            "precision_evidence": engine.precision_evidence.model_copy(update={"shares": shares}),
            "memory": engine.memory.model_copy(update={"device_bytes": 5 << 20}),
            "cross_check": CrossCheck(tool="trtexec", batch=8, n=900, parts={"compute": part}),
            "latency": latency,
        }
    )


def _latency(values, batch, raw):
    def at(quantile: float, needed: int) -> float | None:
        return float(np.quantile(values, quantile)) if len(values) >= needed else None

    return Latency(
        n=len(values),
        mean=values.mean(),
        minimum=values.min(),
        maximum=values.max(),
        p50=np.quantile(values, 0.5),
        p90=at(0.9, 64),
        p95=at(0.95, 130),
        p99=at(0.99, 662),
        p999=at(0.999, 6_636),
        variation=values.std() / values.mean(),
        first=8 * values[0],
        warmup_n=50,
        stable=batch != 32,
        throughput_per_s=1000 * batch / values.mean(),
        raw=raw,
    )


def _failed(evil):
    return EngineRecord(
        flavour="onnx-fp16",
        name="onnx-fp16",
        plan_sha256=None,
        runtime="onnxruntime",
        runtime_version=None,
        options={},
        artefact_sha256="6f" * 32,
        status="crashed",
        error=f"the worker died with signal 11 (SIGSEGV){evil}\nlast line: Loading model",
        parity=Parity(n=96, max_logit_error=0.004, top1_agreement=1.0, passed=True, limit="top-1 ≥ 97 %"),
        precision_evidence=None,
        load_ms=None,
        latency={},
        memory=Memory(artefact_bytes=1_405_952, baseline_bytes=None, peak_bytes=None),
        clean=None,
        warnings=[],
    )


def _gates(evil):
    return [
        Gate(
            name="clean parity", engine="ort-int8", passed=True, observed="0.0 points", limit="≤ 1 point", remedy="calibrate on more images"
        ),
        Gate(
            name="attack converged",
            engine=None,
            passed=False,
            observed=f"loss rose 3.1 % in the last 10 steps{evil}",
            limit="< 1 %",
            remedy="more steps",
        ),
        Gate(
            name="Square against white box",
            engine="ort-int8",
            passed=None,
            observed="not tested: not run",
            limit="≤ 1 point",
            remedy="--tier bench",
        ),
    ]


def _claim(transfer, evil):
    gap = transfer.twin_accuracy - transfer.engine_accuracy
    n = transfer.n
    return Claim(
        statement=f"keeps the twin's robust accuracy at 8/255 within 5 points{evil}",
        engine=transfer.engine,
        verdict=Verdict.NOT_REFUTED,
        eps_exact="8/255",
        twin_robust=share(round(transfer.twin_accuracy * n), n),
        engine_robust=share(round(transfer.engine_accuracy * n), n),
        gap=gap,
        lower=gap - 0.021,
        upper=gap + 0.037,
        margin=0.05,
        n=n,
        n_required=310,
        p_value=0.0314,
        mcnemar_p=binomtest(transfer.flips.twin_only, transfer.flips.twin_only + transfer.flips.engine_only).pvalue
        if transfer.flips.twin_only + transfer.flips.engine_only
        else 1.0,
        relative_robustness=transfer.engine_accuracy / transfer.twin_accuracy,
        relative_ci95=(transfer.engine_accuracy / transfer.twin_accuracy - 0.04, transfer.engine_accuracy / transfer.twin_accuracy + 0.05),
        reason=f"the lower bound is below the margin; no query attack was run{evil}",
    )
