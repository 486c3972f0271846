"""Forms for other programs: each is read back by the program, or held against the schema, that it is for."""

from __future__ import annotations

import json
import re
from importlib import resources

import pandas as pd
import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from synthetic import make_run

from harness.records import Gate, RunRecord, Verdict
from reports.formats.robustbench import to_robustbench
from reports.render import render
from reports.run import Run
from reports.tables import COLUMNS, load_run

VARIANTS = ["plain", "hostile", "emulated", "unrun", "unfinished", "bare"]


BILL, *PARTS = ("bom-1.6", "spdx", "jsf-0.82")  # the schema of CycloneDX, and those that it refers to


def schema(name: str) -> dict:
    return json.loads(resources.files("cyclonedx.schema").joinpath(f"_res/{name}.SNAPSHOT.schema.json").read_text())


def record_of(path) -> RunRecord:
    return RunRecord.load(path.parent)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_bill_of_materials_keeps_to_its_schema(rendered, variant):
    text = rendered(variant, "mlbom").read_text()
    parts = Registry().with_resources((part["$id"], Resource.from_contents(part)) for part in map(schema, PARTS))
    Draft7Validator(schema(BILL), registry=parts).validate(json.loads(text))
    assert text.isascii()


def test_the_bill_names_every_file_by_its_hash_and_every_figure_with_its_interval(rendered):
    path = rendered("plain", "mlbom")
    record, bill = record_of(path), json.loads(path.read_text())
    components = {component["bom-ref"]: component for component in (bill["metadata"]["component"], *bill["components"])}
    assert components["model"]["hashes"] == [{"alg": "SHA-256", "content": record.model.sha256}]
    assert components["images"]["hashes"] == [{"alg": "SHA-256", "content": record.data.sha256}]
    for engine in record.engines:
        component = components[f"engine:{engine.name}"]
        assert [entry["content"] for entry in component.get("hashes", [])] == [engine.artefact_sha256] * (
            engine.artefact_sha256 is not None
        )
        metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        (clean,) = (metric for metric in metrics if metric["type"] == "accuracy")
        assert float(clean["value"]) == pytest.approx(engine.clean.accuracy, abs=5e-5)
        assert clean["confidenceInterval"] == dict(zip(("lowerBound", "upperBound"), (f"{e:.4f}" for e in engine.clean.ci95), strict=True))


def test_the_time_of_an_emulator_is_in_no_bill(rendered):
    assert "latency p50" in rendered("plain", "mlbom").read_text()
    assert "latency p50" not in rendered("emulated", "mlbom").read_text()
    assert "latency p50" not in rendered("synthetic", "mlbom").read_text()


@pytest.mark.parametrize(("variant", "word"), [("synthetic", "SYNTHETIC"), ("emulated", "EMULATED"), ("unrun", "NOT RUN")])
@pytest.mark.parametrize("form", ["latex", "robustbench", "mlbom"])
def test_a_device_that_is_not_real_is_named(rendered, variant, word, form):
    assert word in rendered(variant, form).read_text()


@pytest.mark.parametrize("variant", VARIANTS)
def test_csv_and_parquet_are_the_tables(rendered, variant):
    folder = rendered(variant, "csv")
    rendered(variant, "parquet")
    tables = load_run(folder.parent)
    for name in COLUMNS:
        frame = getattr(tables, name)
        assert list(pd.read_parquet(folder / f"{name}.parquet").columns) == list(frame.columns)
        assert len(pd.read_parquet(folder / f"{name}.parquet")) == len(frame)
        if name in ("calls", "samples"):
            assert not (folder / f"{name}.csv").exists()
        else:
            assert pd.read_csv(folder / f"{name}.csv").shape == frame.shape


def test_csv_figures_are_those_of_the_record(rendered):
    folder = rendered("plain", "csv")
    engines = pd.read_csv(folder / "engines.csv").set_index("engine")
    for engine in RunRecord.load(folder.parent).engines:
        assert engines.loc[engine.name, "clean_accuracy"] == pytest.approx(engine.clean.accuracy)


@pytest.mark.parametrize("variant", VARIANTS)
def test_latex_escapes_everything_from_outside(rendered, variant):
    path = rendered(variant, "latex")
    text = path.read_text()
    assert text.isascii()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    bare = re.sub(r"\\[&%$#_{}\\]|\\text[a-z]+\{\}|\$-\$|\$\\varepsilon\$", "", "\n".join(rows))
    assert not re.search(r"[%#_${}~^]", bare), bare
    record = record_of(path)
    assert ("tab:claims" in text, "tab:engines" in text) == (bool(record.claims), bool(record.engines))


def test_a_count_in_csv_is_a_whole_number_beside_one_that_is_not_known(tmp_path):
    record = make_run(tmp_path / "run")
    first, *others = (claim.model_copy(update={"n_required": None}) for claim in record.claims)
    record.model_copy(update={"claims": [first.model_copy(update={"n_required": 193}), *others]}).save(tmp_path / "run")
    render(tmp_path / "run", ["csv"])
    cells = pd.read_csv(tmp_path / "run/tables/claims.csv", dtype="string")["n_required"]
    assert len(others) and cells.isna().tolist() == [False] + [True] * len(others) and cells[0] == "193"


def test_latex_has_a_row_for_each_claim_and_engine(rendered):
    path = rendered("plain", "latex")
    record, text = record_of(path), path.read_text()
    claims, engines = text.split("tab:engines")
    assert claims.count(r"\\") == 1 + len(record.claims)
    assert engines.count(r"\\") == 1 + len(record.engines)
    attacked, clean = (caption for caption in re.findall(r"\\caption\{(.*)\}", text))
    assert record.data.n != record.data.n_clean
    assert f"n = {record.data.n}, " in attacked and f"n = {record.data.n_clean}, " in clean, "clean accuracy is over all images"


@pytest.mark.parametrize("variant", VARIANTS)
def test_robustbench_has_the_twin_and_every_claim(rendered, variant):
    path = rendered(variant, "robustbench")
    record, entries = record_of(path), json.loads(path.read_text())
    assert len(entries) == (1 + len(record.claims) if record.claims else 0)
    for entry, claim in zip(entries[1:], record.claims, strict=True) if entries else ():
        assert entry["eps"] == claim.eps_exact
        assert entry["unreliable"] is not claim.verdict.sound
        assert entry["external"] == (f"{100 * claim.engine_robust.accuracy:.2f}" if claim.engine_robust else None)
        assert "autoattack_acc" not in entry, "AutoAttack's standard version was not run"


def gate(engine):
    return Gate(name="twin fidelity", engine=engine, passed=False, observed="no", limit="yes", remedy="mend it")


@pytest.mark.parametrize(
    ("gates", "verdicts", "unreliable"),
    [
        ([gate("ort-int8")], [Verdict.UNTRUSTED, Verdict.HOLDS], False),
        ([gate("ort-int8")], [Verdict.UNTRUSTED, Verdict.ENGINE_FAILED], False),
        ([gate(None)], [Verdict.UNTRUSTED, Verdict.UNTRUSTED], True),
    ],
)
def test_robustbench_does_not_doubt_the_twin_for_an_engines_gate(gates, verdicts, unreliable, tmp_path):
    record = make_run(tmp_path)
    claims = [record.claims[0].model_copy(update={"verdict": verdict}) for verdict in verdicts]
    changed = record.model_copy(update={"gates": gates, "claims": claims})
    twin, *engines = json.loads(to_robustbench(Run(tmp_path, changed)))
    assert twin["unreliable"] is unreliable and [one["unreliable"] for one in engines] == [not verdict.sound for verdict in verdicts]
