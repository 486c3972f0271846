"""Runs side by side: only bytes that are the same are compared, and an artefact is the same by its hash alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import harness
from synthetic import make_run

from harness.records import Verdict
from reports.compare import render_comparison, to_text
from reports.render import render

pytestmark = pytest.mark.slow(20)


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A synthetic run in `folder`, whose record was changed."""
    make_run(folder)
    raw = json.loads((folder / "record.json").read_text())
    change(raw)
    (folder / "record.json").write_text(json.dumps(raw))
    return folder


def row(text: str, engine: str) -> list[str]:
    """The cells of the engine's row under "The same images, another label"."""
    lines = text[text.index("### The same images, another label") :].splitlines()
    (line,) = [line for line in lines if f"| {engine} |" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def nothing(raw: dict[str, Any]) -> None:
    pass


def other_set(raw: dict[str, Any]) -> None:
    (one,) = [a for a in raw["attacks"] if a["source"] == "S3"]
    one["set_sha256"] = "0" * 64


def other_artefact(raw: dict[str, Any]) -> None:
    for engine in raw["engines"]:
        if engine["flavour"] == "ort-int8":
            engine["artefact_sha256"] = "0" * 64


def smaller_margin(raw: dict[str, Any]) -> None:
    for claim in raw["claims"]:
        claim["margin"] = 0.01


def other_radius(raw: dict[str, Any]) -> None:
    for claim in raw["claims"]:
        claim["eps_exact"] = "2/255"


def fewer_attacks(raw: dict[str, Any]) -> None:
    raw["attacks"] = [attack for attack in raw["attacks"] if (attack["source"], attack["name"]) != ("S1", "apgd-dlr")]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return changed(tmp_path / "first", nothing)


def test_the_same_run_twice_differs_nowhere(first: Path, tmp_path: Path) -> None:
    text = to_text({"first": first, "second": changed(tmp_path / "second", nothing)})
    for engine in ("onnx-fp32", "ort-int8"):
        _, _, artefact, clean, differ, adversarial, differ_too, others = row(text, engine)
        assert (artefact, differ, differ_too, others) == ("the same", "0", "0", "0")
        assert int(clean) and int(adversarial)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (smaller_margin, "in the margin (first: 5.0; second: 1.0)"),
        (other_radius, "in the radius (first: 8/255; second: 2/255)"),
        (fewer_attacks, "in the attacks (first: S1 apgd-dlr; second: no other)"),
    ],
)
def test_claims_that_answer_different_questions_are_said_to(change: Callable[..., None], said: str, first: Path, tmp_path: Path) -> None:
    text = to_text({"first": first, "second": changed(tmp_path / "second", change)})
    assert f"The runs differ {said}: their gaps and verdicts answer different questions." in text
    assert "answer different questions" not in to_text({"first": first, "second": changed(tmp_path / "third", nothing)})


def test_a_set_of_other_bytes_is_not_compared(first: Path, tmp_path: Path) -> None:
    same = row(to_text({"first": first, "second": changed(tmp_path / "same", nothing)}), "ort-int8")
    other = row(to_text({"first": first, "second": changed(tmp_path / "other", other_set)}), "ort-int8")
    assert int(same[5]) - int(other[5]) == 64, "the images of the set that is another"
    assert (other[2], other[3], other[7]) == ("the same", same[3], "1")


def test_another_artefact_is_said(first: Path, tmp_path: Path) -> None:
    text = to_text({"first": first, "second": changed(tmp_path / "other", other_artefact)})
    assert row(text, "ort-int8")[2] == "another"
    assert row(text, "onnx-fp32")[2] == "the same"
    assert "by the same artefact" not in text


def without_artefact(raw: dict[str, Any]) -> None:
    for engine in raw["engines"]:
        if engine["flavour"] == "ort-int8":
            engine["artefact_sha256"] = None


def test_of_engines_without_a_file_it_is_not_said_that_they_are_the_same(tmp_path: Path) -> None:
    """A command of the user's own has no file here, and may be another one each time."""
    runs = {name: changed(tmp_path / name, without_artefact) for name in ("a", "b")}
    assert row(to_text(runs), "ort-int8")[2] == "not known"


def unfinished(raw: dict[str, Any]) -> None:
    raw.update(status="attacked", engines=[], claims=[], verdict=None)


def test_a_run_that_has_not_finished_is_said(first: Path, tmp_path: Path) -> None:
    text = to_text({"first": first, "second": changed(tmp_path / "cut", unfinished)})
    assert f"second has not finished (attacked), so that its figures are missing: harness bench --resume {tmp_path / 'cut'}" in text
    assert "first has not finished" not in text


def other_network(raw: dict[str, Any]) -> None:
    raw["model"]["sha256"] = "f" * 64


def changed_answers(folder: Path) -> Path:
    """A run of another network, which answers the next class to clean images 0 to 4."""
    import pandas as pd

    changed(folder, other_network)
    path = folder / "samples.parquet"
    rows = pd.read_parquet(path)
    for column in ("twin_prediction", "engine_prediction"):
        rows.loc[(rows["attack"] == "clean") & (rows["index"] < 5), column] += 1
    rows.to_parquet(path)
    return folder


def test_labels_that_changed_between_two_networks_are_counted(first: Path, tmp_path: Path) -> None:
    import pandas as pd

    before = pd.read_parquet(first / "samples.parquet").query("attack == 'clean' and index < 5")
    text = to_text({"first": first, "second": changed_answers(tmp_path / "second")})
    lines = text[text.index("### One network against the other") :].splitlines()
    for model, column in (("twin", "twin_prediction"), ("ort-int8", "engine_prediction")):
        part = before[before["engine"] == "ort-int8"]
        was_right = int((part[column] == part["label"]).sum())
        is_right = int((part[column] + 1 == part["label"]).sum())
        (line,) = [line for line in lines if f"| {model} |" in line]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[3:] == ["5", str(was_right), str(is_right), str(5 - was_right - is_right)]
    assert "One network against the other" not in to_text({"first": first, "same": changed(tmp_path / "same", nothing)})


def test_a_comparisons_words_are_explained_on_its_page(first: Path, tmp_path: Path) -> None:
    render_comparison({"first": first, "second": changed_answers(tmp_path / "second")}, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'class="term" href="#term-twin"' in page and 'id="term-twin"' in page


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((Verdict.HOLDS, Verdict.HOLDS), 0),
        ((Verdict.FAILS, Verdict.FAILS), 0),
        ((Verdict.HOLDS, Verdict.NOT_REFUTED), 3),
        ((Verdict.FAILS, Verdict.HOLDS), 3),
        ((Verdict.HOLDS, Verdict.DEGRADED), 1),
        ((Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS), 1),
        ((Verdict.HOLDS, None), 3),
    ],
)
def test_a_verdict_that_became_another_one_is_in_the_exit_code(verdicts: tuple[Verdict | None, ...], code: int, tmp_path: Path) -> None:
    runs = []
    for number, verdict in enumerate(verdicts):
        make_run(tmp_path / str(number), verdict=verdict)
        runs.append(str(tmp_path / str(number)))
    assert harness("compare", *runs, "--out", str(tmp_path / "out")) == code


def test_a_report_is_written_again_but_never_among_other_files(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second, out = changed(tmp_path / "second", nothing), tmp_path / "out"
    for _ in range(2):
        assert harness("compare", str(first), str(second), "--out", str(out)) == 0
    (out / "notes.txt").write_text("mine")
    for words in (["compare", str(first), str(second)], ["history", str(tmp_path)]):
        assert harness(*words, "--out", str(out)) == 2
        assert "expected a folder with report.html and report.md alone" in " ".join(capsys.readouterr().err.split())


def test_a_fleet_of_which_one_device_finished_is_one_run(tmp_path):
    make_run(tmp_path / "a")
    text = to_text({"a": tmp_path / "a"})
    assert text.startswith("# resnet18x16-at: 1 run\n") and "1 run of resnet18x16-at." in text


def test_of_an_emulated_device_neither_latency_nor_memory_is_shown_beside_others(tmp_path):
    make_run(tmp_path / "a")
    record = make_run(tmp_path / "b", emulated=True)
    assert all(engine.memory.peak_bytes for engine in record.engines)
    rows = [line for line in to_text({"a": tmp_path / "a", "b": tmp_path / "b"}).splitlines() if line.startswith("| b | ok |")]
    assert rows and all(row.endswith("| withheld | withheld | withheld | withheld | EMULATED |") for row in rows)
    latex = render(tmp_path / "b", ["latex"])["latex"].read_text()
    assert latex.count("withheld & withheld & withheld & withheld &") == len(rows)
