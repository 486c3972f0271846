"""SPEC.toml: what it means, and that everything wrong with it is one line before any training."""

import shutil
import sys
from pathlib import Path

import pytest

from export.artefact import sha256_file
from harness import cli
from harness.errors import UntrustedError, UsageError
from harness.models.shipped import weights_file
from harness.sweep.cache import Cache
from harness.sweep.cells import cells
from harness.sweep.plan import SweepPlan
from harness.sweep.spec import load_spec

WRONG = {
    "unknown key": ('name = "hydra"', 'name = "hydra"\nrate = "0.5"', "unknown key 'rate'. Did you mean rates"),
    "unknown table": ("[resources]", "[resource]", "unknown key 'resource'. Did you mean resources"),
    "bench option": ('device = "null"', 'devise = "null"', "unknown key 'devise'. Did you mean device"),
    "a model in [bench]": ('device = "null"', 'device = "null"\nmodel = "resnet8"', "bench.model"),
    "a model's option in [bench]": ('device = "null"', 'device = "null"\nnormalize = "imagenet"', "bench.normalize is said of a model"),
    "not TOML": ("[[methods]]", "[[methods", "is not TOML"),
    "no model": ('models = ["resnet8"]', "models = []", "models"),
    "no models at all": ('models = ["resnet8"]\n', "", "models is missing"),
    "rates that are no list": ("[0.5]", "0.5", "methods.0.rates is 0.5; expected a list, as in rates = [0.5]"),
    "a seed below zero": ('models = ["resnet8"]', 'models = ["resnet8"]\nseeds = [-1]', "seeds.0"),
    "unknown model": ('["resnet8"]', '["resnet9"]', "unknown model"),
    "unknown method": ('"hydra"', '"hydar"', "unknown method 'hydar'. Did you mean hydra"),
    "unknown device": ('"null"', '"nul"', "unknown device 'nul'. Did you mean null"),
    "unknown flavour": ('"onnx-fp32"', '"onnx-fp31"', "unknown flavour 'onnx-fp31'"),
    "unknown attack": ('"fgsm"', '"fgms"', "unknown attack 'fgms'. Did you mean fgsm"),
    "rate above all": ("[0.5]", '["150%"]', "--rate 150%"),
    "rate of another kind": ("[0.5]", '["w4a4"]', "--rate w4a4"),
    "rate that the layers cannot have": ("[0.5]", '[0.999]\npatterns = ["filter"]', "resnet8-hydra-0.999-filter-tiny-s0: --rate 0.999"),
    "pattern": ("[0.5]", '[0.5]\npatterns = ["irregular", "diagonal"]', "--pattern diagonal"),
    "student of a pruning": ("[0.5]", '[0.5]\nstudents = ["resnet8"]', "--student resnet8"),
    "no such recipe": ('"tiny.toml"', '"huge.toml"', "huge.toml"),
    "recipe of another method": ('name = "hydra"\nrates = [0.5]', 'name = "radmm"\nrates = [0.5]', "prune: Extra inputs are not permitted"),
    "too few images": ('data = "train.npz"', 'data = "few.npz"', "holds out 20 images"),
    "benched on what it was trained on": (
        'device = "null"\ndata = "test.npz"',
        'device = "null"\ndata = "train.npz"',
        "48 of the 48 test images of train are in the training images train too",
    ),
    "no such data": ('data = "train.npz"', 'data = "trian.npz"', "trian.npz"),
    "twice the same, written otherwise": (
        "rates = [0.5]",
        'rates = [0.5, "2x"]',
        "tiny-s0 and resnet8-hydra-2x-tiny-s0 are the same network",
    ),
    "twice the same": ("rates = [0.5]", 'rates = [0.5, "0.5"]', "asks twice for resnet8-hydra-0.5-tiny-s0"),
    "samples": ("samples = 8", "samples = 0", "--samples 0"),
    "cpus": ("cpus = 1", "cpus = 0", "resources.cpus"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_spec_is_one_line_and_exit_2(
    case: str, spec_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, expected = WRONG[case]
    text = spec_file.read_text()
    assert before in text
    spec_file.write_text(text.replace(before, after, 1))
    cache = spec_file.parent / "cache"
    monkeypatch.setattr(sys, "argv", ["harness", "sweep", str(spec_file), "--cache", str(cache), "--out", str(spec_file.parent / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert expected in err and err.count("\n") == 1 and out == ""
    assert not cache.exists(), "something was made before the spec was refused"


def test_an_output_folder_with_something_else_is_refused(
    spec_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "sweep", str(spec_file), "--out", str(spec_file.parent)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "holds something else than a sweep" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("sweep",), ("reproduce", "--samples", "1"), ("validate", "--samples", "1", "--only", "int8")])
def test_a_cache_that_nothing_can_be_kept_in_is_refused_before_any_work(
    words: tuple[str, ...], spec_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell of the sweep failed, as a fault of this program."""
    (spec_file.parent / "file").touch()
    spec = [str(spec_file)] if words == ("sweep",) else []
    monkeypatch.setattr(sys, "argv", ["harness", *words, *spec, "--cache", str(spec_file.parent / "file/cache")])
    monkeypatch.chdir(spec_file.parent)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and "--cache" in (said := capsys.readouterr().err) and "is not a folder that can be written to" in said


def test_the_cells_are_every_combination_with_the_parent_first(spec_file: Path) -> None:
    text = spec_file.read_text().replace("rates = [0.5]", 'rates = [0.5, "4x"]\npatterns = ["irregular", "column"]')
    spec_file.write_text(f'seeds = [0, 3]\n{text}\n[[methods]]\nname = "ptq-int8"\n')
    found = cells(load_spec(spec_file))
    assert [cell.label for cell in found] == [
        "resnet8",
        *(f"resnet8-hydra-{rate}-{pattern}tiny-s{seed}" for rate in ("0.5", "4x") for pattern in ("", "column-") for seed in (0, 3)),
        "resnet8-ptq_int8-s0",  # trains nothing: the second seed would be the same network
    ]
    assert [cell.number for cell in found] == list(range(10))
    assert {cell.eps for cell in found} == {"2/255"}, "the parent's claim"
    assert [cell.request for cell in found].count(None) == 1


def test_a_sweep_that_trains_nothing_needs_no_training_images(
    spec_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hydra = 'name = "hydra"\nrates = [0.5]\nrecipe = "tiny.toml"'
    spec_file.write_text(spec_file.read_text().replace(hydra, 'name = "ptq-int8"').replace("train.npz", "absent.npz"))
    monkeypatch.setattr(sys, "argv", ["harness", "sweep", str(spec_file), "--cache", str(spec_file.parent / "cache"), "--dry-run"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert "2 cells: 1 to train, 2 to bench" in capsys.readouterr().out


def test_paths_are_relative_to_the_file_and_absent_ones_are_left_to_fail(spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    spec = load_spec(spec_file)
    assert Path(spec.compress.data) == spec_file.parent / "train.npz"
    assert Path(spec.methods[0].recipe) == spec_file.parent / "tiny.toml"
    assert spec.models[0].model == "resnet8"
    spec_file.unlink()
    with pytest.raises(UsageError, match="cannot read sweep"):
        load_spec(spec_file)


def test_a_network_in_the_cache_that_is_another_or_damaged_is_not_benched(spec_file: Path, tmp_path: Path) -> None:
    """Weights of another network under this one's card: its figures would be shown as this one's."""
    spec_file.write_text(spec_file.read_text().replace('name = "hydra"\nrates = [0.5]\nrecipe = "tiny.toml"', 'name = "ptq-int8"'))
    spec, cache = load_spec(spec_file), Cache(tmp_path / "cache")
    plan = SweepPlan(spec, cache, "here")
    (cell,) = [cell for cell in cells(spec) if cell.request is not None]
    make = plan.make(cell)
    make.perform(cache)
    folder = cache.place(make.kind, make.key)
    file, card = folder / f"{cell.label}.safetensors", folder / f"{cell.label}.json"
    assert plan.network(cell).sha256 == sha256_file(file)
    whole = card.read_text()
    for damage in (lambda: card.write_text(whole[:40]), lambda: shutil.copy(weights_file("resnet8"), file), file.unlink):
        card.write_text(whole)
        damage()
        with pytest.raises(UntrustedError, match=f"the network of {cell.label} in the cache is damaged: .*Remove {folder}"):
            plan.network(cell)
