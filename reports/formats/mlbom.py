"""An entry for a software bill of materials: CycloneDX 1.6 with a model card (https://cyclonedx.org/docs/1.6/json/).

One component is the model that was qualified, with what it holds inside: a component for each engine's artefact, with hash and figures.
The images are components of type `data`, so that whoever signs can say which bytes the figures rest on.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from harness.records import EngineRecord, RunRecord, Share
from reports.format import significant
from reports.run import Run
from reports.sections.verdict import caveat

MODEL, IMAGES = "model", "images"  # references inside the document


def to_mlbom(run: Run) -> str:
    """The bill as JSON. Its serial number follows from the record's own figures: the same run gives the same document."""
    record = run.record
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, record.model_dump_json())}",
        "version": 1,
        "metadata": {
            "timestamp": record.created,
            "tools": {"components": [{"type": "application", "name": "edge-harness", "version": record.harness_version}]},
            "component": _model(record),
        },
        "components": [*(_engine(record, engine) for engine in record.engines), _images(record)],
    }
    return json.dumps(document, indent=1) + "\n"


def _model(record: RunRecord) -> dict[str, Any]:
    model = record.model
    family = {} if model.arch is None else {"modelArchitecture": model.arch}
    channels, height, width = model.input_shape
    metrics = [_metric("robust accuracy", claim.twin_robust, f"eps {claim.eps_exact}") for claim in record.claims[:1] if claim.twin_robust]
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": model.name,
        "hashes": [_hash(model.sha256)],
        "modelCard": {
            "modelParameters": {
                "task": f"image classification, {model.classes} classes",
                **family,
                "datasets": [{"ref": IMAGES}],
                "inputs": [{"format": f"image, {height} x {width}, {channels} channels, 8 bits, divided by 255"}],
                "outputs": [{"format": f"{model.classes} logits"}],
            },
            **({"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}),
        },
        "properties": _properties(record, {"parameters": str(model.parameters), "macs": str(model.macs)}),
    }


def _engine(record: RunRecord, engine: EngineRecord) -> dict[str, Any]:
    claims = [claim for claim in record.claims if claim.engine == engine.name]
    metrics = [
        *([_metric("accuracy", engine.clean, "clean images")] if engine.clean else []),
        *(_metric("robust accuracy", c.engine_robust, f"eps {c.eps_exact}, {', '.join(c.sources)}") for c in claims if c.engine_robust),
        *_latencies(record, engine),
    ]
    limits = [f"{claim.verdict}: {claim.reason}" for claim in claims if not claim.verdict.sound or claim.verdict.exit_code]
    precision = engine.precision_evidence.label if engine.precision_evidence else "unknown"
    return {
        "type": "machine-learning-model",
        "bom-ref": f"engine:{engine.name}",
        "name": f"{record.model.name}, {engine.name}",
        "description": f"run by {engine.runtime} {engine.runtime_version or ''}".rstrip() + f" on {record.device.name}: {engine.status}",
        **({"hashes": [_hash(engine.artefact_sha256)]} if engine.artefact_sha256 else {}),
        "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": record.model.name, "hashes": [_hash(record.model.sha256)]}]},
        "modelCard": {
            "modelParameters": {"datasets": [{"ref": IMAGES}]},
            "quantitativeAnalysis": {"performanceMetrics": metrics},
            **({"considerations": {"technicalLimitations": limits}} if limits else {}),
        },
        "properties": _properties(record, {"precision": precision, **{f"verdict:eps={c.eps_exact}": str(c.verdict) for c in claims}}),
    }


def _latencies(record: RunRecord, engine: EngineRecord) -> list[dict[str, Any]]:
    """Medians that count; an emulated device has none, and those of a made-up clock are none."""
    withheld = record.device.emulated or record.device.synthetic
    valid = {} if withheld else {batch: latency for batch, latency in engine.latency.items() if not latency.invalid}
    return [{"type": "latency p50 (ms)", "value": significant(one.p50), "slice": f"batch {batch}"} for batch, one in valid.items()]


def _images(record: RunRecord) -> dict[str, Any]:
    data = record.data
    return {
        "type": "data",
        "bom-ref": IMAGES,
        "name": data.name,
        "hashes": [_hash(data.sha256)],
        "data": [{"type": "dataset", "name": f"{data.n:,} images attacked, {data.n_clean:,} classified"}],
    }


def _metric(kind: str, share: Share, slice_: str) -> dict[str, Any]:
    low, high = (f"{end:.4f}" for end in share.ci95)
    interval = {"lowerBound": low, "upperBound": high}
    return {"type": kind, "value": f"{share.accuracy:.4f}", "slice": f"{slice_}, n = {share.n}", "confidenceInterval": interval}


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}


def _properties(record: RunRecord, more: dict[str, str]) -> list[dict[str, str]]:
    """Named values under this program's own prefix; all of them say how the run was made."""
    told = {"caveat": caveat(record)} if caveat(record) else {}
    every = {**more, **told, "device": record.device.name, "tier": record.tier, "verdict": str(record.verdict or record.status)}
    return [{"name": f"edge-harness:{name}", "value": value} for name, value in every.items()]
