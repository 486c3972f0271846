"""The command line: every wrong input is one clear line and exit 2, before any work; help is quick and says how."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from commandline import harness
from safetensors.torch import save_file

from harness import cli
from harness.commands import bench, options
from harness.errors import UsageError
from harness.models.zoo import ARCHITECTURES
from harness.records import EngineRecord, Gate, RunRecord, Verdict
from harness.run import RunFolder
from harness.settings import TIERS, Settings, check_output, make_settings
from harness.stages import attack as attack_stage

pytestmark = pytest.mark.slow(50)


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    code = stop.value.code
    out, err = capsys.readouterr()
    return code if isinstance(code, int) else 0, out, err


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one good model and data set, and many bad ones."""
    torch.manual_seed(0)
    weights = ARCHITECTURES["resnet8"](10).state_dict()
    save_file(weights, tmp_path / "good.safetensors")
    save_file({k: v for k, v in weights.items() if "linear" not in k} | {"head.weight": torch.zeros(2)}, tmp_path / "keys.safetensors")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "garbage.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "garbage.onnx").write_bytes(b"\x08\x07garbage")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8), np.arange(60) % 10
    np.savez(tmp_path / "good.npz", images=images, labels=labels)
    np.savez(tmp_path / "labels.npz", images=images, labels=labels + 5)
    np.savez(tmp_path / "floats.npz", images=images / 255, labels=labels)
    np.savez(tmp_path / "empty.npz", images=images[:0], labels=labels[:0])
    np.savez(tmp_path / "small.npz", images=images[:, :16, :16], labels=labels)
    np.savez(tmp_path / "keys.npz", x=images, y=labels)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object), labels=labels[:1])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("kept")
    return tmp_path


GOOD = ("--model", "good.safetensors", "--arch", "resnet8", "--data", "good.npz")

WRONG = {
    "model": (("--model", "resnet18x16-ta"), ("unknown model", "resnet18x16-at")),
    "device": ((*GOOD, "--device", "hots"), ("unknown device 'hots'", "Did you mean host", "null")),
    "flavour": ((*GOOD, "--flavour", "ort-int4"), ("unknown flavour 'ort-int4'", "ort-int8")),
    "attack": ((*GOOD, "--attack", "apgd"), ("unknown attack 'apgd'", "apgd-ce")),
    "an empty attack": ((*GOOD, "--attack", "fgsm,"), ("unknown attack ''",)),
    "model without its option": (("resnet8",), ("harness bench --model resnet8",)),
    "architecture for a model": (("--model", "resnet18"), ("--arch resnet18", "torch.export.save")),
    "missing model": (("--model", "none.safetensors", "--arch", "resnet8"), ("none.safetensors",)),
    "no arch": (("--model", "good.safetensors"), ("--arch", "torch.export.save")),
    "unknown arch": (("--model", "good.safetensors", "--arch", "resnet81"), ("resnet81", "resnet8")),
    "wrong arch": (("--model", "good.safetensors", "--arch", "resnet18x16"), ("55 missing", "stages.0.1.conv1.weight", "another shape")),
    "wrong keys": (("--model", "keys.safetensors", "--arch", "resnet8"), ("linear.weight", "head.weight")),
    "pickle": (("--model", "pickle.pt"), ("pickle", "safetensors", "torch.export.save")),
    "garbage weights": (("--model", "garbage.safetensors", "--arch", "resnet8"), ("garbage.safetensors",)),
    "garbage onnx": (("--model", "garbage.onnx"), ("garbage.onnx",)),
    "missing data": ((*GOOD[:4], "--data", "none.npz"), ("none.npz",)),
    "labels": ((*GOOD[:4], "--data", "labels.npz"), ("label", "out of range", "10 classes")),
    "floats": ((*GOOD[:4], "--data", "floats.npz"), ("float64", "uint8")),
    "empty": ((*GOOD[:4], "--data", "empty.npz"), ("hold no pixel", "(0, 32, 32, 3)")),
    "keys": ((*GOOD[:4], "--data", "keys.npz"), ("images", "labels", "x")),
    "objects": ((*GOOD[:4], "--data", "objects.npz"), ("pickle",)),
    "samples": ((*GOOD, "--samples", "1000"), ("1000",)),
    "no builds": ((*GOOD, "--builds", "0"), ("--builds 0",)),
    "an own engine without a program": ((*GOOD, "--flavour", "exec:"), ("--flavour exec:", "names no program")),
    "an own engine with a pipe": ((*GOOD, "--flavour", "exec:sh engine.sh | tee log"), ("| is for a shell", "exec:sh -c")),
    "an own engine with half a quote": ((*GOOD, "--flavour", "exec:./a 'b"), ("No closing quotation",)),
    "an own engine that is not there": ((*GOOD, "--flavour", "exec:./engine"), ("no program ./engine can be run here",)),
    "no samples": ((*GOOD, "--samples", "0"), ("--samples 0",)),
    "eps": ((*GOOD, "--eps", "8"), ("Did you mean 8/255",)),
    "eps twice": ((*GOOD, "--eps", "0.03.1"), ("0.03.1", "8/255")),
    "no eps": ((*GOOD, "--eps", "0"), ("attacks nothing",)),
    "fine eps": ((*GOOD, "--eps", "0.001"), ("level",)),
    "tier": ((*GOOD, "--tier", "quik"), ("tier", "quick")),
    "calibration": ((*GOOD, "--calibration", "max"), ("calibration", "minmax")),
    "threads": ((*GOOD, "--threads", "0"), ("--threads 0",)),
    "batches beyond the memory": ((*GOOD, "--batch", "100000000"), ("--batch 100000000: the images", "GiB are free", "smaller batches")),
    "more threads than CPUs": ((*GOOD, "--threads", "5000"), ("--threads 5000: host has", "at most as many")),
    "batch": ((*GOOD, "--batch", "0"), ("--batch 0",)),
    "seed": ((*GOOD, "--seed", "-1"), ("--seed -1",)),
    "large seed": ((*GOOD, "--seed", "99999999999999999999"), ("--seed 99999999999999999999", "at most 2,147,483,647")),
    "image size": ((*GOOD, "--image-size", "-5"), ("--image-size -5",)),
    "classes": ((*GOOD, "--classes", "7"), ("good.safetensors", "7")),
    "emulate": ((*GOOD, "--emulate"), ("--emulate", "host")),
    "out under a file": ((*GOOD, "--out", "good.npz/run"), ("good.npz", "not a folder")),
    "out too long": ((*GOOD, "--out", "x" * 300), ("too long",)),
    "out": ((*GOOD, "--out", "full"), ("not empty", "--resume")),
    "out is a file": ((*GOOD, "--out", "good.npz"), ("is a file",)),
    "resume": (("--resume", "full"), ("not a run folder",)),
    "option": (("--modle", "x"), ("--modle", "--model")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_2(
    case: str, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    before = sorted(p.name for p in files.rglob("*"))
    words, expected = WRONG[case]
    code, out, err = run(capsys, monkeypatch, "bench", *words)
    assert code == 2
    assert out == ""
    for word in expected:
        assert word in err
    assert "Traceback" not in err
    if case != "option":
        assert err.count("\n") == 1, err
    assert sorted(p.name for p in files.rglob("*")) == before


def test_softmax_output_is_refused(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    shape = [None, 3, 32, 32]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["f"]),
            onnx.helper.make_node("MatMul", ["f", "w"], ["l"]),
            onnx.helper.make_node("Softmax", ["l"], ["p"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, [None, 10])],
        [onnx.numpy_helper.from_array(np.random.default_rng(0).normal(size=(3072, 10)).astype(np.float32), "w")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), files / "softmax.onnx")
    code, _, err = run(capsys, monkeypatch, "bench", "--model", "softmax.onnx", "--data", "good.npz")
    assert code == 2
    assert "softmax" in err.lower()


def test_no_disk_space_is_told_before_any_work(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.chdir(files)
    usage = shutil.disk_usage(files)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    code, _, err = run(capsys, monkeypatch, "bench", *GOOD, "--device", "null", "--out", "run")
    assert code == 2
    assert "no disk space" in err
    assert not (files / "run").exists()


def test_an_adversarial_set_is_not_written_over(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    before = (files / "good.npz").read_bytes()
    words = ("good.safetensors", "--arch", "resnet8", "--data", "good.npz", "--attack", "fgsm", "--samples", "4")
    code, _, err = run(capsys, monkeypatch, "attack", *words, "--out", "good.npz")
    assert code == 2
    assert "does not exist yet" in err
    assert (files / "good.npz").read_bytes() == before
    with RunFolder(Path("set.npz.parts")):  # as another `harness attack` for that very file has it
        (Path("set.npz.parts") / "half-made").write_text("of the other")
        code, _, err = run(capsys, monkeypatch, "attack", *words, "--out", "set.npz")
    assert (code, Path("set.npz").exists()) == (2, False)
    assert "another harness is writing to set.npz.parts" in err
    assert (files / "set.npz.parts" / "half-made").read_text() == "of the other"
    code, out, _ = run(capsys, monkeypatch, "attack", *words, "--out", "set.npz", "--json")
    assert code == 0
    assert json.loads(out)["file"] == "set.npz"
    assert np.load(files / "set.npz")["images"].dtype == np.uint8
    assert not list(files.glob("set.npz.parts*"))


@pytest.mark.parametrize(
    ("status", "gate", "passed", "verdict", "code"),
    [
        ("ok", "determinism", None, None, 0),
        ("ok", "determinism", False, None, 3),
        ("hung", "determinism", None, None, 4),
        ("ok", "determinism", False, Verdict.NOT_REFUTED, 0),
        ("ok", "determinism", True, Verdict.FAILS, 1),
        ("ok", "conditions", False, None, 3),
        ("ok", "repeated inputs", False, None, 0),
        ("ok", "conditions", False, Verdict.NOT_REFUTED, 0),
    ],
)
def test_exit_codes(status: str, gate: str, passed: bool | None, verdict: Verdict | None, code: int) -> None:
    """An INVALID measurement is all that a run without claims has; a verdict does not hang on the time."""
    engine = EngineRecord.model_construct(status=status)
    check = Gate(name=gate, engine=None, passed=passed, observed="", limit="", remedy="")
    assert bench.exit_code(RunRecord.model_construct(verdict=verdict, engines=[engine], gates=[check])) == code


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(capsys, monkeypatch, "bench", "--debug", "--eps", "8")
    assert code == 2
    assert "Traceback" in err
    assert "UsageError" in err


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['harness', '--help']\n"
        "from harness import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'pandas', 'pydantic', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "bench" in done.stdout


def test_an_attack_says_where_rounding_undoes_it(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    made: list[int] = [0]
    true = attack_stage.attack_once
    monkeypatch.setattr(
        attack_stage, "attack_once", lambda *words: true(*words).model_copy(update={"undone_by_rounding": made[0], "n_attacked": 40})
    )
    words = ("good.safetensors", "--arch", "resnet8", "--data", "good.npz", "--attack", "fgsm", "--samples", "4")
    assert "rounding" not in run(capsys, monkeypatch, "attack", *words, "--out", "a.npz")[2]
    made[0] = 1
    code, _, err = run(capsys, monkeypatch, "attack", *words, "--out", "b.npz")
    assert code == 0 and "note: rounding to bytes undoes the success of fgsm of 1 of 40 images." in err


def test_an_attack_without_a_radius_takes_none(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    words = ("good.safetensors", "--arch", "resnet8", "--data", "good.npz", "--attack", "cw-l2-2", "--samples", "4", "--out", "a.npz")
    code, _, err = run(capsys, monkeypatch, "attack", *words, "--eps", "4/255")
    assert code == 2 and "--eps 4/255: cw-l2-2 looks for the smallest distance and takes no radius" in err
    code, out, _ = run(capsys, monkeypatch, "attack", *words)
    assert code == 0 and re.match(r"cw-l2-2: the twin has [\d.]+% of 4 images right", out), out


def test_builds_are_about_engines_built_ahead_of_time(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(capsys, monkeypatch, "export", "resnet8", "--builds", "0", "--out", "artefacts")
    assert code == 2 and "--builds 0 is about engines built ahead of time. Add --aot" in err


COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run(capsys, monkeypatch, command, "--help")
    assert code == 0
    assert "Usage" in out
    assert command in ("devices", "models") or "Example:" in out


@pytest.mark.parametrize("words", [(), ("devices",), ("models",)])
def test_every_commands_summary_fits_its_line(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(capsys, monkeypatch, *words, "--help")
    lines = [line for line in out.partition("Commands:")[2].splitlines() if line]
    assert len(lines) > 1 and not any("..." in line for line in lines)


def test_lists_are_json_where_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, _ = run(capsys, monkeypatch, "devices", "list", "--json")
    assert {"host", "null"} <= {d["name"] for d in json.loads(out)}
    _, out, _ = run(capsys, monkeypatch, "models", "list", "--json")
    assert {"resnet8", "resnet18x16-at"} <= set(json.loads(out))
    _, out, _ = run(capsys, monkeypatch, "devices", "show", "null", "--json")
    assert json.loads(out)["synthetic_clock"] is True


def test_a_broken_profile_of_a_user_disables_itself_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "edge-harness" / "devices"
    own.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name, text in {"torn": b"name = [", "bytes": b"\xff", "deep": b"a = " + b"[" * 5000, "empty": b""}.items():
        (own / f"{name}.toml").write_bytes(text)
    code, out, err = run(capsys, monkeypatch, "devices", "list", "--json")
    assert code == 0
    assert {"host", "null", "jetson-orin"} <= {d["name"] for d in json.loads(out)}
    assert err.count("harness: not usable: ") == 4
    code, _, err = run(capsys, monkeypatch, "devices", "show", "torn")
    assert code == 2
    assert "torn.toml" in err


def test_a_device_is_shown_with_its_remedies_and_limits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, out, _ = run(capsys, monkeypatch, "devices", "show", "jetson-agx-orin")
    shown = " ".join(out.split())
    for fact in ("sudo nvpmodel -m 0", "sudo jetson_clocks", "64 GiB", "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", "171 TOPS", "60 °C"):
        assert fact in shown, fact
    _, out, _ = run(capsys, monkeypatch, "devices", "list")
    assert "jetson-thor" in out


def test_a_machine_without_a_gpu_says_so_in_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = run(capsys, monkeypatch, "bench", "--device", "cuda", "--model", "resnet8")
    assert code == 4
    assert "nvidia-smi does not answer" in err


def test_names_may_stand_in_one_word_with_commas() -> None:
    assert options.each(["pgd, apgd-ce", "fgsm"]) == ("pgd", "apgd-ce", "fgsm")
    assert options.each(["exec:./engine --sizes 1,8"]) == ("exec:./engine --sizes 1,8",)
    assert options.each(None) is None


def test_flavours_follow_the_device_where_nobody_names_them() -> None:
    assert Settings(model="m", device="jetson-orin").flavour_names == ("trt-fp16", "trt-int8")
    assert Settings(model="m", device="jetson-orin", emulate=True).flavour_names == ("onnx-fp32", "ort-int8")
    assert Settings(model="m", device="jetson-orin", flavours=("ort-int8",)).flavour_names == ("ort-int8",)


def test_the_help_of_bench_names_every_flavour_and_attack():
    """Without importing their tables: help is quick."""
    from export.flavours import FLAVOURS
    from harness.attacks.table import ATTACKS

    lines = {paragraph.split(": ")[0]: paragraph for paragraph in bench.EPILOG.strip().split("\n\n")}
    named = {
        kind: set(re.findall(r"[\w:-]+", re.sub(r"\(.*?\)|;.*", "", lines[kind].partition(": ")[2]))) for kind in ("Flavours", "Attacks")
    }
    assert named == {"Flavours": {*FLAVOURS, "exec:COMMAND"}, "Attacks": set(ATTACKS)}


def test_quiet_leaves_the_result_and_errors(tmp_path):
    """Wherever it stands on the line; what went wrong is still said."""

    def call(*line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "harness.cli", *line], capture_output=True, text=True, cwd=tmp_path)

    shown = call("attack", "resnet8", "--attack", "fgsm", "--samples", "8", "--out", "a.npz", "--quiet")
    assert (shown.returncode, shown.stderr) == (0, "") and "a.npz" in shown.stdout
    wrong = call("--quiet", "attack", "resnet8", "--attack", "fgsn", "--out", "b.npz")
    assert (wrong.returncode, wrong.stdout) == (2, "") and "Did you mean fgsm" in wrong.stderr


def test_shells_can_complete_the_line():
    asked = {**os.environ, "_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness ben", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'harness'; from harness.cli import main; main()"
    shown = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True)
    assert shown.stdout.split() == ["bench"]


@pytest.mark.parametrize(
    "line",
    ["bench --flavour nosuch", "bench --attack nosuch", "bench --device nosuch", "bench --model no.onnx",
     "attack resnet8 --attack x --out a.npz", "export resnet8 --flavour nosuch --out a", "bench --source S9",
     "bench --device null --device nosuch", "bench --device null --device null", "bench --fleet no.toml"],
)  # fmt: skip
def test_a_wrong_name_is_answered_before_torch_is_imported(line):
    """Importing it takes seconds."""
    code = (
        "import sys\nfrom harness import cli\n"
        f"sys.argv = ['harness', *{line.split()!r}]\n"
        "try:\n    cli.main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("harness: ") and done.stderr.count("\n") == 1


def test_a_margin_is_the_claims(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text, words in (
        ("2", "has no unit"),
        ("0pt", "at least 0.01 points and below 100"),
        ("1e-300pt", "at least 0.01"),
        ("100pt", "below 100"),
    ):
        code, _, err = run(capsys, monkeypatch, "bench", "--margin", text)
        assert code == 2 and words in " ".join(err.split())
    assert make_settings(model="resnet8", margin="1.5pt").allowed == 0.015
    assert make_settings(model="resnet8", tier="bench").allowed == TIERS["bench"].margin


def test_a_folder_in_which_no_run_was_begun_is_as_good_as_empty(tmp_path: Path) -> None:
    """Of a process that died before its first record was whole: no command would go on with it."""
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "record.tmp").write_text("{")
    check_output(tmp_path / "my run")
    (tmp_path / "my run" / "record.json").write_text("{}")
    with pytest.raises(UsageError, match=r"harness bench --resume '.*my run'"):
        check_output(tmp_path / "my run")


RESUMED = {
    "the same again": (("--eps", "4/255", "--samples", "16", "--batch", "1", "--out", "begun"), ()),
    "another radius": (("--eps", "2/255"), ("--eps 2/255 (begun with 4/255)", "begun/record.json")),
    "other engines": (("--flavour", "ort-int8", "--seed", "3"), ("--flavour ort-int8 (begun with none)", "--seed 3 (begun with 0)")),
    "other data": (("--data", "mine.npz"), ("--data mine.npz (begun with cifar10-sample)",)),
    "another folder": (("--out", "elsewhere"), ("--out elsewhere: the run goes on where it was begun, in begun",)),
}


@pytest.mark.parametrize("case", RESUMED)
def test_what_is_said_beside_resume_is_done_or_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begun at 4/255 and asked to go on at 2/255 answered for 4/255, without a word."""
    words, said = RESUMED[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "begun").mkdir()
    settings = Settings(model="resnet8", eps="4/255", samples=16, batches=(1,))
    (tmp_path / "begun" / "record.json").write_text(json.dumps({"schema": 0, "settings": settings.model_dump(mode="json")}))
    code, _, err = run(capsys, monkeypatch, "bench", "--resume", "begun", *words)
    assert code == (2 if said else 3), err  # a record of no schema is untrusted, and was looked at
    assert all(part in " ".join(err.split()) for part in said) and ("schema" in err) == (not said)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("reproduce", "--out", "there.md"), "--out there.md is a file; expected a folder"),
        (("reproduce", "--out", "there.md/below"), "there.md is not a folder that can be written to"),
        (("validate", "--out", "there.md"), "--out there.md is a file; expected a folder"),
        (("validate", "--write", "."), "--write . is a folder; expected the name of a file"),
        (("selftest", "--write", "nowhere/a.md"), "--write nowhere/a.md: there is no folder nowhere"),
    ],
)
def test_what_is_written_after_hours_is_looked_at_before_them(
    line: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.md").touch()
    assert harness(*line) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("line", [("reproduce", "--samples", "8"), ("validate", "--only", "saturation", "--samples", "8")])
def test_one_process_at_a_time_has_the_folder_of_what_takes_hours(
    line: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two wrote into each other's files, and the record of one was the report of the other."""
    with RunFolder(tmp_path / "out"):
        assert harness(*line, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")) == 2
    assert f"another harness is writing to {tmp_path / 'out'}" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists(), "no work was begun"
