"""The harness from Python: objects in place of files, nothing on standard output, no reading of `sys.argv`; the page's examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from devices.host.session import EngineId, EngineSession
from harness.errors import UsageError
from harness.in_process import function_session
from harness.records import RunRecord, Step
from reports.tables import COLUMNS

pytestmark = pytest.mark.slow(40)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/python.md").read_text()
EXAMPLES = dict(re.findall(r"```python (\w+)\n(.*?)```", PAGE, re.S))
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8), np.arange(60) % 4


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4)
    )


MODULE, REFERENCE = network(), network().eval()


def logits(images: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return REFERENCE(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def labels_only(images: np.ndarray) -> np.ndarray:
    return logits(images).argmax(1).numpy()


def broken(images: np.ndarray) -> torch.Tensor:
    if len(images) > 1:
        raise RuntimeError("no memory for so many")
    return logits(images)


def two_classes(images: np.ndarray) -> torch.Tensor:
    return logits(images)[:, :2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, str, str]:
    """A bench of a module, with every kind of engine: its folder, record, and what it wrote to the two streams."""
    out = tmp_path_factory.mktemp("api") / "run"
    session = function_session("held", logits, (32, 32, 3), 4)
    with session, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["harness", "--not", "an option"])
        from contextlib import redirect_stderr, redirect_stdout
        from io import StringIO

        with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()) as stderr:
            engines = ["onnx-fp32", logits, labels_only, broken, two_classes, session]
            record = harness.bench(
                MODULE.train(), IMAGES, LABELS, engines=engines, attacks=["fgsm"], out=out, samples=8, device="null", sources=("S1",),
                batches=(1,), calibration=255 - IMAGES[:16],
            )  # fmt: skip
        assert session.is_open, "a session that was open stays open"
        assert MODULE.training, "the module is left as it was"
    return out, record, stdout.getvalue(), stderr.getvalue()


def test_it_returns_the_record_that_it_wrote_and_prints_nothing(run):
    out, record, stdout, stderr = run
    assert RunRecord.load(out) == record and record.status == Step.FINISHED
    assert stdout == ""
    assert "held" in stderr, "progress goes to standard error"
    assert {path.name for path in out.iterdir()} >= {"report.html", "report.md", "record.json", "samples.parquet"}


def test_functions_and_sessions_answer_as_the_module_does(run):
    record = run[1]
    by_name = {engine.name: engine for engine in record.engines}
    assert [by_name[name].status for name in ("onnx-fp32", "logits", "labels_only", "held")] == ["ok"] * 4
    clean = {name: by_name[name].clean.correct for name in ("onnx-fp32", "logits", "labels_only", "held")}
    expected = int((labels_only(IMAGES) == LABELS).sum())
    assert set(clean.values()) == {expected}
    assert by_name["logits"].latency["1"].n > 0 and by_name["logits"].flavour == "python:logits"
    assert {claim.engine for claim in record.claims} >= {"logits", "labels_only", "held"}
    assert record.data.n_clean == len(IMAGES) and record.data.calibration_n == 16


def test_a_function_that_fails_is_that_engines_result(run):
    by_name = {engine.name: engine for engine in run[1].engines}
    assert by_name["broken"].status == "crashed" and "RuntimeError: no memory for so many" in by_name["broken"].error
    assert by_name["two_classes"].status == "refused" and "2 classes" in by_name["two_classes"].error
    assert [line for line in run[3].splitlines() if line.startswith("two_classes")] == [
        f"two_classes: refused: {by_name['two_classes'].error}"
    ]


def test_labels_alone_are_not_taken_for_probabilities(run):
    passed = {gate.engine: gate.passed for gate in run[1].gates if gate.name == "logits"}
    assert passed["labels_only"] is None and passed["logits"] is passed["held"] is passed["onnx-fp32"] is True


def test_an_engine_of_labels_is_attacked_itself(tmp_path):
    record = harness.bench(
        MODULE, IMAGES, LABELS, engines=[labels_only], attacks=["fgsm"], out=tmp_path / "run", samples=20, device="null",
        sources=("S1", "S4"), batches=(1,), calibration=255 - IMAGES[:16],
    )  # fmt: skip
    made = {(attack.target, attack.name): attack for attack in record.attacks if attack.source == "S4"}
    assert made.keys() == {(target, name) for target in ("twin", "labels_only") for name in ("bpda-20", "hopskipjump-30")}
    assert all(attack.queries.largest > 5 for attack in made.values() if attack.n)
    (claim,) = record.claims
    assert claim.sources == ["S1", "S4"] and "was not attacked" not in claim.reason


def test_the_command_of_the_record_is_one_that_a_shell_could_run(run):
    out, record, *_ = run
    words = record.command
    assert words[:2] == ["harness", "bench"] and "--not" not in words
    assert words[words.index("--model") + 1] == str(out / "given/Sequential.pt2") and (out / "given/images.npz").exists()
    assert [words[i + 1] for i, word in enumerate(words) if word == "--batch"] == ["1"]


def test_an_onnx_file_is_an_engine_that_runs_as_it_is(run, tmp_path):
    (file,) = (run[0] / "artefacts").glob("onnx-fp32-*.onnx")
    record = harness.bench(
        MODULE, IMAGES, LABELS, engines=[file], attacks=[], out=tmp_path / "run", samples=8, device="null", sources=("S1",), batches=(),
        calibration=255 - IMAGES[:16],
    )  # fmt: skip
    (engine,) = record.engines
    assert engine.status == "ok" and engine.clean == next(e for e in run[1].engines if e.name == "onnx-fp32").clean


def test_load_run_has_the_documented_columns_and_the_records_figures(run):
    out, record, *_ = run
    tables = harness.load_run(out)
    for name, columns in COLUMNS.items():
        assert list(getattr(tables, name).columns) == list(columns), name
    assert tables.record == record
    assert tables.engines.set_index("engine")["clean_correct"]["held"] == next(e for e in record.engines if e.name == "held").clean.correct
    assert len(tables.calls) == sum(latency.n for engine in record.engines for latency in engine.latency.values())
    assert tables.transfer["both_right"].tolist() == [t.flips.both_right for t in record.transfer]
    assert len(tables.samples) and len(tables.gates) == len(record.gates) and tables.requirements.empty


def test_the_page_tells_of_every_column():
    for name, columns in COLUMNS.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`")]
        assert [word.strip() for word in row.split("|")[3].split(",")] == list(columns)


def test_attack_gives_arrays_in_the_order_of_the_images():
    found = harness.attack(network(), IMAGES[:12], LABELS[:12], "pgd", eps="4/255")
    assert found.images.shape == (12, 32, 32, 3) and found.images.dtype == np.uint8
    assert np.abs(found.images.astype(int) - IMAGES[:12]).max() <= 4
    clean = labels_only(IMAGES[:12]) == LABELS[:12]
    assert found.right.tolist() == (clean & (labels_only(found.images) == LABELS[:12])).tolist()
    assert (found.images[~clean] == IMAGES[:12][~clean]).all()
    again = harness.attack(network(), IMAGES[:12], LABELS[:12], "pgd", eps=4 / 255)
    assert (again.images == found.images).all()


WRONG = {
    "float images": (lambda out: harness.bench(network(), IMAGES / 255, LABELS, out=out), "expected uint8"),
    "channels first": (lambda out: harness.bench(network(), IMAGES.transpose(0, 3, 1, 2), LABELS, out=out), "expected uint8 (n, "),
    "labels": (lambda out: harness.bench(network(), IMAGES, LABELS[:5], out=out), "labels"),
    "no labels": (lambda out: harness.bench(network(), IMAGES, out=out), "without labels"),
    "an option": (lambda out: harness.bench(network(), IMAGES, LABELS, out=out, teir="quick"), "unknown option 'teir'. Did you mean tier"),
    "a value": (lambda out: harness.bench(network(), IMAGES, LABELS, out=out, tier="quik"), "--tier quik"),
    "an engine": (lambda out: harness.bench(network(), IMAGES, LABELS, engines=[3], out=out), "int; expected a flavour's name"),
    "two of a name": (lambda out: harness.bench(network(), IMAGES, LABELS, engines=[logits, logits], out=out), "two engines"),
    "a flavour": (lambda out: harness.bench(network(), IMAGES, LABELS, engines=["ort-int4"], out=out), "unknown flavour 'ort-int4'"),
    "a module without an array": (lambda out: harness.bench(network(), "cifar10-sample", out=out), "give them as an array"),
    "labels of named data": (lambda out: harness.bench("resnet8", "cifar10-sample", LABELS, out=out), "has its own"),
    "attack": (lambda _: harness.attack(network(), IMAGES, LABELS, "pdg"), "unknown attack 'pdg'"),
    "attack's labels": (lambda _: harness.attack(network(), IMAGES[:4], LABELS[:4] + 4, "fgsm"), "out of range"),
    "attack's option": (lambda _: harness.attack(network(), IMAGES, LABELS, "fgsm", steps=3), "options are arch"),
    "images in a list": (lambda _: harness.attack(network(), list(IMAGES[:4]), LABELS[:4]), "the images are list; expected an array"),
    "a generator": (lambda _: harness.attack(network(), (i for i in IMAGES), LABELS), "the images are generator; expected an array"),
    "a list of data": (lambda out: harness.bench("resnet8", list(IMAGES[:4]), out=out), "the images are list; expected an array"),
    "no model": (lambda out: harness.bench(None, IMAGES, LABELS, out=out), "the model is NoneType; expected a torch.nn.Module"),
    "a function": (lambda out: harness.bench(logits, IMAGES, LABELS, out=out), "the model is function; expected a torch.nn.Module"),
    "a class": (lambda _: harness.attack(torch.nn.Linear, IMAGES, LABELS), "the model is the class Linear; expected a torch.nn.Module"),
    "nowhere to write": (lambda _: harness.bench(network(), IMAGES, LABELS, out=None), "out is NoneType; expected a folder"),
    "no attack": (lambda _: harness.attack(network(), IMAGES, LABELS, None), "the attack is NoneType; expected a name"),
    "attack's seed": (lambda _: harness.attack(network(), IMAGES, LABELS, "pgd", seed=1.5), "the seed is 1.5; expected a whole number"),
    "a seed below 0": (lambda _: harness.attack(network(), IMAGES, LABELS, "pgd", seed=-1), "--seed -1: expected a whole number"),
    "attack's eps": (lambda _: harness.attack(network(), IMAGES, LABELS, "fgsm", eps="8"), "8/255"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_says_what_was_expected(case, tmp_path):
    call, words = WRONG[case]
    with pytest.raises(UsageError, match=re.escape(words)):
        call(tmp_path / "run")
    assert list(tmp_path.iterdir()) == [], "the folder may be used again"


class Unexportable(torch.nn.Module):
    def forward(self, images):  # which way it goes depends on what it sees
        return images.mean((2, 3)) if float(images.sum()) > 0 else images.amax((2, 3))


def test_a_module_that_cannot_be_exported_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"torch\.export cannot export this Unexportable"):
        harness.bench(Unexportable(), IMAGES, LABELS, out=tmp_path / "run")


def test_an_engine_given_from_python_is_refused_where_it_is_not(tmp_path):
    from commandline import harness as command

    words = ("bench", "--model", "resnet8", "--device", "null", "--flavour", "python:mine", "--attack", "fgsm", "--samples", "4")
    assert command(*words, "--source", "S1", "--out", str(tmp_path / "run")) == 4
    (engine,) = RunRecord.load(tmp_path / "run").engines
    assert engine.status == "refused" and "Call harness.bench again" in engine.error


ANSWERS = [
    np.full((5, 4), np.nan), np.zeros((4, 4)), np.zeros((5, 4, 1)), np.arange(5), "nonsense", np.full((5, 4), 1 + 2j),
    np.full((5, 4), "1"), np.full((5, 4), "no number"), np.zeros((5, 4), np.bool_),
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_what_a_function_returns_is_checked(answer):
    from devices.host.session import EngineError

    session = EngineSession(EngineId("f"), function_session("f", lambda i: logits(i) if len(i) == 1 else answer, (32, 32, 3), 4).open, 8)
    with session, pytest.raises(EngineError):
        session.logits(IMAGES[:5])


def ends(images: np.ndarray) -> np.ndarray:
    if len(images) > 1:
        sys.exit(3)
    return np.zeros((1, 4))


def labels_at_first(images: np.ndarray) -> np.ndarray:
    """Labels, and 1.7 for what is no blank image: cut off, it would be the label 1."""
    return np.full(len(images), 1.7) if images.any() else np.zeros(len(images), np.int64)


@pytest.mark.parametrize("function", [ends, labels_at_first])
def test_a_function_that_ends_the_program_or_changes_its_mind_is_that_engines_result(function):
    from devices.host.session import EngineError

    with function_session("f", function, (32, 32, 3), 4) as session, pytest.raises(EngineError) as raised:
        session.logits(IMAGES[:5])
    assert raised.value.status == "crashed"


def test_importing_harness_imports_nothing_heavy_and_names_are_there():
    code = "import harness, sys; print([n for n in ('torch','numpy','pandas','pydantic') if n in sys.modules]); harness.load_run; "
    code += "print('torch' in sys.modules); print(callable(harness.bench), callable(harness.attack))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:3] == ["[]", "False", "True True"]
    with pytest.raises(AttributeError, match="no attribute 'benhc'"):
        _ = harness.benhc


def test_the_examples_of_the_page_run_one_after_another(tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "my.npz", images=IMAGES, labels=LABELS)
    monkeypatch.chdir(tmp_path)
    assert list(EXAMPLES) == ["bench", "attack", "load_run"]
    for name, text in EXAMPLES.items():
        exec(compile(text, f"{name}.py", "exec"), {"__name__": "__main__"})  # each a programme of its own: no name of another's
        assert capsys.readouterr().out.strip(), name
