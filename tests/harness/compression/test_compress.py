"""`harness compress`, whole: a network and its card; every wrong input is one clear line and exit 2 before any training."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.onnx import export_onnx
from harness import cli
from harness.compression.compress import prepare
from harness.compression.recipe import load_recipe
from harness.compression.request import Request
from harness.compression.table import METHODS
from harness.data.load import load_data
from harness.errors import UsageError
from harness.models.architectures import build
from harness.models.load import load_twin
from harness.run import RunFolder
from harness.training.train import Training

pytestmark = pytest.mark.slow(50)

RECIPE = """
description = "a test"
[common]
objective = "{objective}"
epochs = 1
batch = 20
lr = 0.02
holdout = 20
steps = 1
[{stages}]
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of ten classes and one of seven, images, recipes."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    for name, classes in (("mine", 10), ("seven", 7)):
        save_file(build("resnet8", classes).state_dict(), folder / f"{name}.safetensors")
    images, others = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    np.savez(folder / "few.npz", images=others.images[:80], labels=others.labels[:80])
    np.savez(folder / "small.npz", images=others.images[:80, ::2, ::2], labels=others.labels[:80])
    np.savez(folder / "eleven.npz", images=others.images[:80], labels=np.arange(80) % 11)
    names = [images.class_names[number] for number in (1, 0, *range(2, 10))]
    np.savez(folder / "mixed.npz", images=others.images[:80], labels=others.labels[:80], class_names=names)
    np.savez(folder / "mixed-test.npz", images=images.images[:12], labels=images.labels[:12], class_names=names)
    np.savez(folder / "test.npz", images=images.images[:12], labels=images.labels[:12])
    for name, stages, objective in (
        ("one", "finetune", "standard"), ("two", "prune]\n[finetune", "standard"), ("admm", "admm]\n[retrain", "standard"),
        ("distil", "distil", "pgd-at"),
    ):  # fmt: skip
        (folder / f"{name}.toml").write_text(RECIPE.format(stages=stages, objective=objective))
    return folder


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a copy of the inputs."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(inputs, tmp_path, dirs_exist_ok=True))


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["harness", "compress", *words])
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code if isinstance(code, int) else 0, out, err


MODEL = ("mine.safetensors", "--arch", "resnet8")
DATA = ("--data", "few.npz", "--test", "test.npz")
FILE = ("--out", "out.safetensors")


def words(method: str, recipe: str | None = None, *more: str) -> tuple[str, ...]:
    return (*MODEL, "--method", method, *(("--recipe", recipe) if recipe else ()), *DATA, *FILE, *more)


def data(name: str, test: str = "test.npz") -> tuple[str, ...]:
    """A good compression of MODEL but for its images."""
    return (*MODEL, "--method", "nm24", "--recipe", "one.toml", "--data", name, "--test", test, *FILE)


WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "method": (words("hidra"), ("unknown method 'hidra'", "Did you mean hydra", "iad-1")),
    "rate": (words("magnitude", None, "--rate", "much"), ("--rate much", "8x", "90%")),
    "rate of one": (words("magnitude", None, "--rate", "100%"), ("--rate 100%", "less than 1")),
    "bits": (words("lowbit", None, "--rate", "w9a4"), ("9 bits", "nearest is 8")),
    "rate of a method without": (words("ptq-int8", None, "--rate", "8x"), ("this method has no rate",)),
    "rate of 2:4": (words("nm24", None, "--rate", "4x"), ("the nearest is 0.5 (2x)",)),
    "rate out of the pattern's reach": (words("hydra", "two.toml", "--rate", "0.9", "--pattern", "2:4"), ("the nearest here is 0.5000",)),
    "rate out of the layers' reach": (words("magnitude", "one.toml", "--rate", "0.999", "--pattern", "filter"), ("nearest here is 0.9",)),
    "rate out of the channels' reach": (words("filters", "one.toml", "--rate", "0.9999"), ("removing channels cannot reach it", "nearest")),
    "pattern": (words("hydra", None, "--pattern", "4:8"), ("--pattern 4:8", "irregular, filter, column, 2:4")),
    "pattern of a method without": (words("lowbit", None, "--pattern", "filter"), ("lowbit knows no pattern",)),
    "stage": (words("radmm", None, "--until", "prune"), ("--until prune", "admm, retrain")),
    "stage of a method without": (words("ptq-int8", None, "--until", "finetune"), ("are none",)),
    "recipe": (words("hydra", "gpu"), ("no recipe gpu for hydra", "cpu, paper")),
    "paper recipe": (words("lowbit", "paper"), ("lowbit has no published schedule", "cpu")),
    "recipe file": (words("hydra", "none.toml"), ("none.toml",)),
    "recipe of another method": (words("hydra", "one.toml"), ("lacks the stage prune of hydra",)),
    "student": (words("ard", "distil.toml", "--student", "resnet9"), ("unknown architecture 'resnet9'", "resnet8")),
    "student of a pruning": (words("hydra", "two.toml", "--student", "resnet8"), ("--student resnet8 is for distillation",)),
    "student of another size": (words("ard", "distil.toml", "--student", "inception_v3"), ("does not run", "(3, 32, 32)")),
    "objective of a loss of its own": (words("kd", "distil.toml"), ("objective pgd-at", "expected objective standard")),
    "a seed below zero": (words("nm24", "one.toml", "--seed", "-1"), ("--seed -1", "at least 0")),
    "a file to work in": (words("nm24", "one.toml", "--work", "few.npz"), ("--work few.npz is a file",)),
    "test images that are trained on": (data("few.npz", "few.npz"), ("test images of few are in the training images few too",)),
    "nothing to go on from": (words("nm24", "one.toml", "--resume"), ("--resume: no epoch was finished in out.stages",)),
    "no second teacher": (words("iad-2", "distil.toml"), ("iad-2 needs --standard-teacher",)),
    "second teacher without a card": (
        words("iad-2", "distil.toml", "--standard-teacher", "seven.safetensors"),
        ("--standard-teacher seven.safetensors", "with its card beside it"),
    ),
    "second teacher": (words("ard", "distil.toml", "--standard-teacher", "resnet8"), ("ard has no --standard-teacher",)),
    "data of other classes": (data("eleven.npz"), ("10 classes", "11")),
    "data numbered otherwise": (
        ("resnet8", *data("mixed.npz")[3:]),
        ("mixed: class 0 is 'automobile', which is class 1 of resnet8",),
    ),
    "test images numbered otherwise": (
        ("resnet8", *data("few.npz", "mixed-test.npz")[3:]),
        ("mixed-test: class 0 is 'automobile', which is class 1 of the model",),
    ),
    "data of another size": (data("small.npz"), ("3x16x16", "3x32x32")),
    "missing data": (data("none.npz"), ("none.npz",)),
    "too few images": ((*words("nm24"),), ("holds out 2000 images", "80")),
    "test of another size": (data("few.npz", "small.npz"), ("3x16x16",)),
    "model": (("resnet9", "--method", "nm24", *FILE), ("unknown model 'resnet9'",)),
    "no arch": (("mine.safetensors", "--method", "nm24", *DATA, *FILE), ("--arch",)),
    "out": ((*MODEL, "--method", "nm24", *DATA, "--out", "out.pt"), ("ends in .safetensors",)),
    "out exists": ((*MODEL, "--method", "nm24", *DATA, "--out", "mine.safetensors"), ("mine.safetensors exists already",)),
    "out under a file": ((*MODEL, "--method", "nm24", *DATA, "--out", "few.npz/out.safetensors"), ("few.npz", "not a folder")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_2(
    case: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "epoch", lambda _: pytest.fail("a training began"))
    before = sorted(here.rglob("*"))
    line, expected = WRONG[case]
    code, out, err = run(capsys, monkeypatch, *line)
    assert code == 2 and out == ""
    said = [text for text in err.splitlines() if not text.startswith("warning: the teacher")]
    assert len(said) == 1, err
    for word in expected:
        assert word in said[0]
    assert sorted(here.rglob("*")) == before, "something was left behind"


def test_a_second_teacher_of_other_classes(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.models import load

    monkeypatch.setattr(load, "cards", lambda: {"seven": {"arch": "resnet8", "classes": 7, "input_shape": [3, 32, 32]}})
    monkeypatch.setattr(load, "weights_file", lambda _: here / "seven.safetensors")
    code, _, err = run(capsys, monkeypatch, *words("iad-2", "distil.toml", "--standard-teacher", "seven"))
    assert code == 2 and "seven.safetensors has 7 classes, not 10" in err


BAD_RECIPES = {
    "not TOML": ("[common", r"bad\.toml: "),
    "not text": (b"\xff\xfe\x00", r"bad\.toml: "),
    "an unknown field": (RECIPE.replace("steps = 1", "step = 1"), "step: Extra inputs"),
    "a rate below zero": (RECIPE.replace("0.02", "-0.02"), "lr: Input should be greater than 0"),
    "a radius of nothing": (RECIPE.replace("steps = 1", "eps = 0"), "eps: Input should be greater than 0"),
    "an objective": (RECIPE.replace("{objective}", "sgd"), "objective: Input should be 'standard'"),
    "an unknown stage": (RECIPE + "\n[pretrain]\nepochs = 1\n", "pretrain: Extra inputs"),
    "a stage that is no table": ('description = "x"\nfinetune = 3\n', r"bad\.toml: finetune is 3; expected a table \[finetune\]"),
    "common that is no table": ('description = "x"\ncommon = 1\n', r"common is 1; expected a table"),
    "a seed, which the command gives": (RECIPE.replace("steps = 1", "seed = 1"), "stage finetune: seed cannot be set"),
    "a name, which the stage has": (RECIPE.replace("steps = 1", 'name = "q"'), "stage finetune: name cannot be set"),
    "stages by another name": (RECIPE + "\n[[stages]]\nepochs = 1\n", "stages cannot be set; its tables are finetune"),
    "an infinite rate": (RECIPE.replace("0.02", "inf"), "stage finetune: lr: Input should be a finite number"),
    "a slip of the pen": (RECIPE.replace("epochs = 1", "epcohs = 1"), "epcohs: .*did you mean epochs"),
    "an unknown constant": (RECIPE + "\n[options]\nrho = 1.0\n", "magnitude has no constant rho; it has none"),
    "a constant that is no number": (RECIPE + '\n[options]\nrho = "x"\n', "options.rho: Input should be a valid number"),
    "no description": (RECIPE.replace('description = "a test"', ""), "description: Field required"),
}


def test_the_command_on_a_card_can_be_given_to_a_shell() -> None:
    told = Request(model="my nets/a.safetensors", method="nm24", data="its images.npz", seed=3)
    wanted = "harness compress 'my nets/a.safetensors' --method nm24 --data 'its images.npz' --seed 3 --out b.safetensors"
    assert told.command("b.safetensors") == wanted


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_bad_recipes_are_one_clear_line(case: str, tmp_path: Path) -> None:
    content, message = BAD_RECIPES[case]
    if isinstance(content, str):
        content = content.replace("{objective}", "standard").replace("{stages}", "finetune").encode()
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(str(tmp_path / "bad.toml"), "magnitude", ("finetune",), 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("kd", "alpha = 3", "alpha = 3; expected 0 to 1"),
        ("kd", "temperature = -4", "temperature = -4; expected above 0"),
        ("ard", "temperature = inf", "temperature = inf; expected above 0"),
        ("ard", "kl_weight = -1", "kl_weight = -1; expected at least 0"),
        ("iad-1", "beta = nan", "beta = nan; expected at least 0"),
        ("iad-2", "alpha_1 = 0.9", r"alpha_1 \+ alpha_2 = 1\.15; expected 1 at most"),
        ("radmm", "growth = 0", "growth = 0; expected above 0"),
        ("radmm", "every = 0", "every = 0; expected 1, 2, 3"),
        ("filters", "norm = 1.5", r"norm = 1\.5; expected 1, 2, 3"),
    ],
)
def test_a_constant_that_would_turn_the_loss_round_is_refused(method: str, options: str, words: str, tmp_path: Path) -> None:
    known = METHODS[method]
    text = RECIPE.format(objective=known.objective or "standard", stages="]\n[".join(known.stages))
    (tmp_path / "r.toml").write_text(f"{text}\n[options]\n{options}\n")
    with pytest.raises(UsageError, match=words):
        load_recipe(str(tmp_path / "r.toml"), method, known.stages, 0, known.constants)


def test_no_disk_space_is_told_before_any_work(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(here)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    code, _, err = run(capsys, monkeypatch, *words("nm24", "one.toml"))
    assert code == 2 and "no disk space" in err and err.count("\n") == 1
    assert not (here / "out.stages").exists()


def test_a_disk_that_fills_up_while_training(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and the last whole checkpoint stays. A limit on the size of files stands in for the full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = Training.state

    def full(training: Training) -> dict[str, Any]:
        if training.stage.name == "retrain":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        return real(training)

    monkeypatch.setattr(Training, "state", full)
    try:
        code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--rate", "4x"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2 and err.splitlines()[-1].startswith("harness: ") and "File too large" in err and "Traceback" not in err
    assert (here / "out.stages" / "admm" / "checkpoint.pt").is_file() and not (here / "out.stages" / "retrain" / "checkpoint.pt").exists()


def test_a_training_goes_on_where_its_files_were_moved(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--rate", "4x", "--work", "stages", "--until", "admm"))
    assert code == 0, err
    for name in ("out.safetensors", "out.json"):
        (here / name).unlink()
    for name in ("mine.safetensors", "few.npz"):
        (here / name).rename(f"moved-{name}")
    again = ("--rate", "75%", "--work", "stages")  # 4x, written otherwise
    moved = [f"moved-{word}" if word in ("mine.safetensors", "few.npz") else word for word in words("radmm", "admm.toml", *again)]
    code, _, err = run(capsys, monkeypatch, *moved)
    assert code == 0 and "admm, epoch" not in err, err


def test_resume_goes_on_and_does_not_start(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--work", "stages", "--until", "admm"))
    assert code == 0, err
    for name in ("out.safetensors", "out.json"):
        (here / name).unlink()
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--work", "stages", "--resume"))
    assert code == 0 and "admm, epoch" not in err and "retrain, epoch 1/1" in err, err


def test_a_damaged_note_of_the_folder_is_one_line(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(capsys, monkeypatch, *words("radmm", "admm.toml", "--work", "stages", "--until", "admm"))
    (here / "stages" / "request.json").write_text('{"method": "rad')
    for name in ("out.safetensors", "out.json"):
        (here / name).unlink()
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--work", "stages"))
    assert code == 3 and "request.json is damaged" in err.splitlines()[-1] and "Traceback" not in err


def test_a_card_that_cannot_be_made_costs_no_training(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.compression import card

    def full(*_: object) -> dict[str, Any]:
        raise OSError(28, "No space left on device", "out.json")

    with monkeypatch.context() as patch:
        patch.setattr(card, "make_card", full)
        code, _, err = run(capsys, monkeypatch, *words("nm24", "one.toml"))
    assert code == 2 and "No space left" in err
    assert not (here / "out.safetensors").exists() and (here / "out.stages" / "finetune" / "checkpoint.pt").is_file()
    code, _, err = run(capsys, monkeypatch, *words("nm24", "one.toml", "--resume"))
    assert code == 0 and "finetune, epoch" not in err, err


def test_a_network_without_a_named_architecture(here: Path) -> None:
    import onnx

    onnx.save(export_onnx(build("resnet8", 10), (3, 32, 32)), here / "mine.onnx")
    twin = load_twin(str(here / "mine.onnx"))
    nothing = load_recipe("cpu", "ptq-int8", (), seed=0)
    with pytest.raises(UsageError, match="no named architecture"):
        prepare(Request(model="mine.onnx", method="ptq-int8"), nothing, twin, None, here)
    distilled = prepare(Request(model="mine.onnx", method="ard", student="resnet8"), nothing, twin, None, here)
    assert distilled.job.arch == "resnet8"


def test_a_network_that_takes_standardised_input_keeps_its_function(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, *words("ptq-int8", "cpu", "--normalize", "0.5/0.25", "--json"))
    assert code == 0, err
    assert json.loads(out)["normalize"] == "0.5/0.25"
    before, after = load_twin("mine.safetensors", arch="resnet8", normalize="0.5/0.25"), load_twin("out.safetensors")
    assert set(after.module.state_dict()) == set(before.module.state_dict())
    images = torch.rand(8, 3, 32, 32)
    given, found = before.module(images), after.module(images)
    assert (given - found).abs().max() < 0.05 * given.abs().max(), "more than INT8 rounding: the standardisation was lost"


def test_a_method_that_trains_nothing_needs_no_training_images(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = words("ptq-int8", "cpu", "--data", "absent.npz", "--json")
    code, out, err = run(capsys, monkeypatch, *order)
    assert code == 0, err
    assert json.loads(out)["data"] is None  # of the parent, whose training nobody knows


def test_a_network_built_for_its_images_is_read_back_for_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vision transformer's weights depend on the size of the images."""
    save_file(build("timm/test_vit", 10, 32).state_dict(), here / "vit.safetensors")
    told = ("vit.safetensors", "--arch", "timm/test_vit", "--image-size", "32")
    code, _, err = run(capsys, monkeypatch, *told, "--method", "ptq-int8", *DATA, *FILE)
    assert code == 0, err
    assert load_twin("out.safetensors").input_shape == (3, 32, 32)


def test_a_second_start_leaves_the_first_ones_folder(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder(here / "out.stages"):
        (here / "out.stages" / "half-written").touch()
        code, _, err = run(capsys, monkeypatch, *words("ptq-int8"))
        assert code == 2 and "another harness is writing to out.stages" in err
        assert (here / "out.stages" / "half-written").exists()


def test_a_folder_that_only_has_the_name_of_the_checkpoints_is_not_removed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "out.stages").mkdir()
    (here / "out.stages" / "thesis.txt").write_text("a year's work")
    code, _, err = run(capsys, monkeypatch, *words("ptq-int8"))
    assert (here / "out.stages" / "thesis.txt").read_text() == "a year's work"
    assert code == 2 and "holds thesis.txt already" in err and "--work" in err


def test_a_pruned_network_and_its_card(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capsys, monkeypatch, *words("magnitude", "one.toml", "--rate", "8x", "--json"))
    assert code == 0, err
    card = json.loads(out)
    assert card == json.loads((here / "out.json").read_text())
    twin = load_twin("out.safetensors", arch=card["arch"])
    assert card["size"]["this"]["nonzero"] == twin.nonzero_parameters
    before = load_twin("mine.safetensors", arch="resnet8").nonzero_parameters
    assert card["size"]["ratio"]["nonzero"] == pytest.approx(before / twin.nonzero_parameters, abs=1e-3)
    assert before > 6 * twin.nonzero_parameters
    assert card["size"]["this"]["file_bytes"] == (here / "out.safetensors").stat().st_size
    assert card["sha256"] == twin.sha256 and card["name"] == "out"
    assert "asked for 8x" in err and f"γ {card['size']['ratio']['nonzero']:.2f} by non-zero parameters" in err
    assert "--data few.npz --test test.npz" in card["method"]["command"], "the command makes this network again"
    assert card["method"]["rate"] == "8x" and card["method"]["recipe"]["stages"]["finetune"]["epochs"] == 1
    assert card["stages"]["finetune"]["held_out"]["n"] == 20
    assert card["measured"]["clean"]["n"] == 10  # of 12: an .npz sets a fifth aside for calibration
    assert not (here / "out.stages").exists()
    assert "min left" in err


def test_a_student_of_a_teacher_that_is_not_robust(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = run(capsys, monkeypatch, *words("ard", "distil.toml", "--student", "timm/test_resnet"))
    assert code == 0, err
    assert "warning: the teacher mine is not robust:" in err
    card = json.loads((here / "out.json").read_text())
    assert card["arch"] == "timm/test_resnet"
    assert load_twin("out.safetensors", arch=card["arch"]).classes == 10


def test_stages_belong_to_one_request(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted compression is not gone on with under another rate; the pruned network and the fine-tuned one share stages."""
    common = ("--work", "stages", "--rate", "4x")
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", *common, "--until", "admm"))
    assert code == 0, err
    (here / "out.safetensors").rename("pruned.safetensors")
    (here / "out.json").unlink()
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--work", "stages", "--rate", "8x"))
    assert code == 3 and "rate 4x then, 8x now" in err and err.count("\n") == 1
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", *common))
    assert code == 0
    assert "admm, epoch" not in err and "retrain, epoch 1/1" in err, "the first stage was trained again"
    assert (here / "stages" / "admm" / "checkpoint.pt").is_file(), "a folder that was asked for is kept"


def test_ctrl_c_keeps_the_epochs_that_were_trained(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Training.epoch

    def second(training: Training) -> Any:
        if training.stage.name == "retrain":
            raise KeyboardInterrupt
        return real(training)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "epoch", second)
        code, _, _ = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--rate", "4x"))
    assert code != 0 and not (here / "out.safetensors").exists()
    assert (here / "out.stages" / "admm" / "checkpoint.pt").is_file()
    code, _, err = run(capsys, monkeypatch, *words("radmm", "admm.toml", "--rate", "4x"))
    assert code == 0 and "admm, epoch" not in err
