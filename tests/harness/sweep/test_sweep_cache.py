"""Keys and the cache: the same result has one key, another has another, and a result is there whole or not at all."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.compression.request import Request
from harness.errors import UsageError
from harness.models.shipped import cards, weights_file
from harness.sweep import executors
from harness.sweep.cache import Cache
from harness.sweep.keys import ATTACKING, BENCHING, EVALUATING, ROOTS, TRAINING, Code, code, meaning, network_key, sources
from harness.sweep.record import DeviceRow, SweepRecord
from harness.sweep.run import check_out

KEY, OTHER = "a" * 64, "b" * 64


def request(folder: Path, **changes: object) -> Request:
    base = {"model": "resnet8", "method": "hydra", "rate": "0.5", "pattern": "irregular", "recipe": str(folder / "tiny.toml"), "seed": 0}
    return Request(**{**base, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": "0.6"}, {"pattern": "column"}, {"seed": 1}, {"until": "prune"}, {"model": "resnet18x16-at"}, {"recipe": "cpu"},
        {"method": "magnitude", "recipe": "cpu"},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_decides_a_network_is_in_its_key(spec_file: Path, changes: dict[str, object]) -> None:
    folder = spec_file.parent
    assert network_key(request(folder), "data", "test") != network_key(request(folder, **changes), "data", "test")


def test_a_rate_has_one_key_however_it_is_written(spec_file: Path) -> None:
    assert len({network_key(request(spec_file.parent, rate=rate), "data", "test") for rate in ("0.5", "50%", "2x")}) == 1
    assert len({network_key(request(spec_file.parent, rate=rate), "data", "test") for rate in ("0.999", "99.9%", "1000x")}) == 1


def test_what_a_card_tells_of_a_model_is_in_the_key(spec_file: Path) -> None:
    folder = spec_file.parent
    shutil.copy(weights_file("resnet8"), folder / "mine.safetensors")
    wanted = request(folder, model=str(folder / "mine.safetensors"), arch="resnet8")
    alone = network_key(wanted, "data", "test")
    card = cards()["resnet8"]
    (folder / "mine.json").write_text(json.dumps(card))
    beside = network_key(wanted, "data", "test")
    (folder / "mine.json").write_text(json.dumps({**card, "normalize": "cifar10"}))
    assert len({alone, beside, network_key(wanted, "data", "test")}) == 3


def test_the_images_and_the_recipes_constants_are_in_the_key(spec_file: Path) -> None:
    folder = spec_file.parent
    before = network_key(request(folder), "data", "test")
    assert network_key(request(folder), "other data", "test") != before
    assert network_key(request(folder), "data", "other test") != before
    recipe = folder / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("lr = 0.01", "lr = 0.02"))
    assert network_key(request(folder), "data", "test") != before


def test_names_and_descriptions_are_not_in_the_key(spec_file: Path) -> None:
    folder = spec_file.parent
    before = network_key(request(folder), "data", "test")
    shutil.copy(weights_file("resnet8"), folder / "mine.safetensors")
    assert network_key(request(folder, model=str(folder / "mine.safetensors")), "data", "test") == before
    renamed = folder / "renamed.toml"
    renamed.write_text((folder / "tiny.toml").read_text().replace("one epoch", "a single epoch"))
    assert network_key(request(folder, recipe=str(renamed)), "data", "test") == before


def test_code_counts_by_what_it_does() -> None:
    plain = "def f(x):\n    return x + 1\n"
    assert meaning(plain) == meaning('"""Module."""\n\n\ndef f(x):\n    """One more."""\n    return (x + 1)  # so\n')
    assert meaning(plain) != meaning(plain.replace("+ 1", "+ 2"))
    assert meaning('class A:\n    """Only words."""\n') == meaning("class A:\n    pass\n")
    assert code(TRAINING) != code(BENCHING)


def test_a_result_is_there_once_it_is_finished(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.making("runs", KEY) as folder:
        assert folder is not None
        (folder / "half").write_text("1")
        assert cache.find("runs", KEY) is None
    found = cache.find("runs", KEY)
    assert found is not None and (found / "half").read_text() == "1"
    assert cache.find("runs", OTHER) is None and cache.find("networks", KEY) is None
    with cache.making("runs", KEY) as folder:
        assert folder is None


def test_a_result_made_anew_takes_the_others_place_at_the_end(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number, anew in (("1", False), ("2", True)):
        with cache.making("runs", KEY, anew=anew) as folder:
            assert folder is not None
            (folder / "number").write_text(number)
            if anew:
                assert (cache.place("runs", KEY) / "number").read_text() == "1"
    assert (cache.place("runs", KEY) / "number").read_text() == "2"


SAYS_NOTHING = {"allocator", "cards", "ending", "errors", "progress", "ray_cluster", "toml"}  # modules that a result does not follow from


@pytest.mark.parametrize("what", [ATTACKING, BENCHING, EVALUATING], ids=["attacking", "benching", "evaluating"])
def test_the_code_that_decides_a_result_is_in_its_key(what: Code) -> None:
    """A module of `harness` itself that a keyed file imports is keyed too."""
    files = sources(what)
    imported = {name for path in files for name in re.findall(r"^ *from harness\.(\w+) import", path.read_text(), re.MULTILINE)}
    modules = {name for name in imported if (ROOTS["harness"] / f"{name}.py").is_file()}
    assert files and modules - SAYS_NOTHING <= {path.stem for path in files}
    assert not {"cli", "fleet", "reproduce_terminal"} & {path.stem for path in files}, "how a result is shown decides nothing"


def test_what_an_interrupted_process_left_is_gone_on_with(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt), cache.making("runs", KEY) as folder:
        assert folder is not None
        (folder / "epoch").write_text("7")
        raise KeyboardInterrupt
    assert cache.find("runs", KEY) is None
    with cache.making("runs", KEY) as folder:
        assert folder is not None and (folder / "epoch").read_text() == "7"


def test_two_that_want_the_same_result_make_it_once(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> None:
        with Cache(tmp_path).making("runs", KEY) as folder:
            if folder is not None:
                time.sleep(0.2)
                made.append(name)

    race(lambda: make("one"), lambda: make("two"))
    assert len(made) == 1


def race(*functions: Callable[[], None]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_result_travels_whole_and_replaces_what_was_begun(tmp_path: Path) -> None:
    there, here = Cache(tmp_path / "there"), Cache(tmp_path / "here")
    with there.making("runs", KEY) as folder:
        assert folder is not None
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(b"\x00\x01")
    with pytest.raises(RuntimeError), here.making("runs", KEY) as folder:
        assert folder is not None
        (folder / "begun").write_text("")
        raise RuntimeError
    here.unpack("runs", KEY, there.pack("runs", KEY))
    found = here.find("runs", KEY)
    assert found is not None
    assert [path.relative_to(found).as_posix() for path in sorted(found.rglob("*"))] == ["deep", "deep/file"]
    assert (found / "deep" / "file").read_bytes() == b"\x00\x01"
    added = here.add_files({"x.safetensors": b"weights", "x.json": b"card"})
    assert (added.name, added.read_bytes(), added.with_suffix(".json").read_bytes()) == ("x.safetensors", b"weights", b"card")
    assert here.add_files({"x.safetensors": b"weights"}) != added, "without its card it is another input"


def test_computers_of_one_cpus_name_with_other_kernels_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    for flags in (["avx2"], ["avx2", "avx512_vnni"]):
        monkeypatch.setattr(
            executors, "describe_machine", lambda flags=flags: {"cpu_model": "Example", "affinity": [0], "isa_flags": flags}
        )
        places.add(executors.machine())
    assert places == {"Example, 1 CPUs, avx2", "Example, 1 CPUs, avx2 avx512_vnni"}


def test_machines_that_differ_in_their_gpu_alone_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes of a cluster may share one cache, and have one CPU."""
    found = []
    for name, clock in (("NVIDIA L4", 210), ("NVIDIA L4", 2040), ("NVIDIA H200", 345)):
        tool = tmp_path / f"{name}-{clock}" / "bin" / "nvidia-smi"
        tool.parent.mkdir(parents=True)
        tool.write_text(f"#!/bin/sh\necho '{name}, 570.1, 23034, 8.9, {clock}, 2040'\n")
        tool.chmod(0o755)
        monkeypatch.setenv("EDGE_HARNESS_ROOT", str(tool.parents[1]))
        found.append(executors.machine())
    assert found[0] == found[1] != found[2]


def test_a_folder_of_another_sweep_is_not_written_over(tmp_path: Path) -> None:
    """A spec may change from one time to the next; one of another name is another sweep, and its table was lost."""
    device = DeviceRow(name="null", synthetic=True, emulated=False)
    record = SweepRecord(
        name="mine", created="", harness_version="", command=[], spec={}, executor="local", cache="", environment={}, device=device,
        tier="quick", cells=[],
    )  # fmt: skip
    record.save(tmp_path)
    check_out(tmp_path, "mine")
    with pytest.raises(UsageError, match="holds the sweep mine; this one is other"):
        check_out(tmp_path, "other")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").touch()  # of one that was killed before it saved anything
    check_out(tmp_path / "begun", "mine")
    (tmp_path / "begun" / "notes.txt").touch()
    with pytest.raises(UsageError, match="something else than a sweep"):
        check_out(tmp_path / "begun", "mine")
