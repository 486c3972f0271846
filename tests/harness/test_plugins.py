"""Entries from outside the package: a module that the harness has never heard of adds a toy to each table, and a bench runs with them."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commandline import harness
from nearest import make_nearest
from typer.testing import CliRunner

from harness import plugins
from harness.cli import app
from harness.errors import UsageError
from harness.records import RunRecord

pytestmark = pytest.mark.slow(30)

RUNTIME = """
import onnxruntime

from devices.worker.engines import Loaded


class Toy:
    def load(self, artefact, options, optimised_graph=None):
        self.session = onnxruntime.InferenceSession(str(artefact))
        return Loaded("toy 1", {})

    def infer(self, batch):
        return self.session.run(None, {self.session.get_inputs()[0].name: batch})[0]

    def close(self):
        del self.session

"""
TOYS = """
from devices.worker.engines import ENGINES
from export.flavours import FLAVOURS, Flavour
from harness.attacks.table import ATTACKS, Attack
from harness.compression.rate import no_rate
from harness.compression.table import METHODS, Method
from harness.sources import SOURCES, Source
from harness.sources.planned import Planned
from reports.sections import SECTIONS
from reports.elements import Section


def brighter(search, *, steps):
    search.ask((search.images + search.eps).clamp(0, 1))


def plan(context):
    yield Planned("toy", context.twin, ATTACKS["brighter"], context.subject.eps, "twin")


def section(run):
    return Section("toy", "A toy's chapter", [f"{len(run.record.attacks)} sets."])


ATTACKS["brighter"] = Attack("brighter", "toys", "Linf", 1, "eps", "every pixel by eps", "toys.plugin:brighter")
SOURCES["toy"] = Source("toy", "a toy", "no toy", "no engine", False, "toys.plugin:plan")
SECTIONS["toy"] = "toys.plugin:section"
ENGINES["toy"] = "toys.runtime:Toy"
FLAVOURS["toy-fp32"] = Flavour("toy-fp32", "fp32", "toys.runtime:Toy", "a toy's", lambda model, _: model, False, {})
METHODS["toy"] = Method(lambda job: job.network, "leaves the network as it is", (), no_rate, "")
"""


@pytest.fixture
def tables() -> Iterator[None]:
    """The tables are afterwards as they were."""
    tables = [plugins._table(path) for path in plugins.TABLES.values()]
    before = [dict(table) for table in tables]
    yield
    for table, then in zip(tables, before, strict=True):
        table.clear()
        table.update(then)


@pytest.fixture
def toys(tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    package = tmp_path / "lib/toys"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(TOYS)
    (package / "runtime.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=":")  # for the process of the engine
    yield "toys.plugin"
    for name in ("toys.plugin", "toys"):
        sys.modules.pop(name, None)


def test_a_toy_of_each_kind_runs_a_bench(toys: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["bench", "--device", "null", "--plugin", toys, "--flavour", "onnx-fp32", "--flavour", "toy-fp32", "--attack", "brighter"]
    model, data = make_nearest(tmp_path)
    words += ["--model", str(model), "--data", str(data), "--eps", "4/255"]
    words += ["--samples", "16", "--batch", "1", "--threads", "1", "--source", "S1", "--source", "toy"]
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    record = RunRecord.load(out)
    assert record.verdict is not None and done.exit_code == record.verdict.exit_code, done.output
    assert [engine.status for engine in record.engines] == ["ok", "ok"]
    assert {(a.source, a.name) for a in record.attacks} >= {("S1", "brighter"), ("toy", "brighter")}
    assert "A toy's chapter" in (out / "report.md").read_text()
    again = CliRunner().invoke(app, ["bench", "--resume", str(out)])
    assert again.exit_code == done.exit_code


def small_images(folder: Path) -> list[str]:
    """Options for images of noise, training and test."""
    rng = np.random.default_rng(0)
    for name, n in (("few", 40), ("test", 12)):
        np.savez(folder / f"{name}.npz", images=rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), labels=np.arange(n) % 10)
    return ["--data", str(folder / "few.npz"), "--test", str(folder / "test.npz")]


def test_a_toy_method_compresses(toys: str, tmp_path: Path) -> None:
    out = tmp_path / "smaller.safetensors"
    words = ["compress", "resnet8", "--method", "toy", "--plugin", toys, *small_images(tmp_path), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(out.with_suffix(".json").read_text())["method"]["name"] == "toy"


def test_the_example_of_the_docs_runs(tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
    (tmp_path / "brighter.py").write_text(page.split("```python\n")[1].split("```")[0])
    words = shlex.split(page.split("```sh\n")[1].split("```")[0])
    assert words[:2] == ["PYTHONPATH=.", "harness"]
    words = [{"resnet18x16-at": "resnet8", "64": "8"}.get(word, word) for word in words[2:]]  # the same, in seconds
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(".")
    try:
        assert harness(*words) == 0 and (tmp_path / "brighter.npz").exists()
    finally:
        sys.modules.pop("brighter", None)


def test_every_table_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
    assert all(f"`{path}`" in page and f"`edge_harness.{group}`" in page for group, path in plugins.TABLES.items())


def test_what_an_installed_package_has_is_in_the_tables(tmp_path: Path) -> None:
    """A package with entry points, as pip installs one, in a process of its own: nobody names it."""
    site = tmp_path / "site"
    (site / "brighter_attack-1.0.dist-info").mkdir(parents=True)
    (site / "brighter_attack-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: brighter-attack\nVersion: 1.0\n")
    (site / "brighter_attack-1.0.dist-info/entry_points.txt").write_text(
        "[edge_harness.attacks]\nbrighter = brighter_attack:ATTACK\n[edge_harness.methods]\nsame = brighter_attack:METHOD\n"
    )
    (site / "brighter_attack.py").write_text(
        "from harness.attacks.table import Attack\n"
        "from harness.compression.rate import no_rate\n"
        "from harness.compression.table import Method\n"
        "def brighter(search, *, steps):\n"
        "    search.ask((search.images + search.eps).clamp(0, 1))\n"
        "ATTACK = Attack('brighter', 'mine', 'Linf', 1, 'eps', 'every pixel by eps', 'brighter_attack:brighter')\n"
        "METHOD = Method(lambda job: job.network, 'leaves it as it is', (), no_rate, '')\n"
    )
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join((str(site), str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")))

    out, smaller = tmp_path / "set.npz", tmp_path / "smaller.safetensors"
    attack = ["attack", "resnet8", "--attack", "brighter", "--samples", "8", "--out", str(out), "--json"]
    compress = ["compress", "resnet8", "--method", "same", *small_images(tmp_path), "--out", str(smaller), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", f"from commandline import harness; print([harness(*{attack}), harness(*{compress})])"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["[0, 0]"], done.stderr
    assert '"name": "brighter"' in done.stdout
    assert np.load(out)["images"].shape == (8, 32, 32, 3) and smaller.exists()


@pytest.mark.parametrize(
    ("text", "words"), [("import nothing_of_that_name", "nothing_of_that_name"), ("raise ValueError('my own')", "my own")]
)
def test_a_module_that_cannot_be_imported_is_told(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_toy.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=words):
        plugins.load(["broken_toy"])


ENTRY = "from harness.attacks.table import ATTACKS, Attack\n"
TOY = 'Attack("{}", "toys", "Linf", 1, "none", "does nothing", "spoiling_toy:{}")'
SPOILING = {
    "an end": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "another PGD": (f'{ENTRY}ATTACKS["pgd"] = {TOY.format("pgd", "idle")}', "would replace or remove 'pgd' of attacks"),
    "one less": (f'{ENTRY}del ATTACKS["pgd"]', "would replace or remove 'pgd' of attacks"),
    "a borrowed name": (f'{ENTRY}ATTACKS["idle"] = {TOY.format("pgd", "idle")}', "the entry 'idle' of attacks calls itself 'pgd'"),
    "a function": (f'{ENTRY}ATTACKS["idle"] = lambda search: None', "the entry 'idle' of attacks is function; expected Attack"),
    "no path": (
        "from reports.sections import SECTIONS\nSECTIONS['idle'] = len",
        "of sections is builtin_function_or_method; expected str",
    ),
}


@pytest.mark.parametrize("what", SPOILING)
def test_a_module_that_spoils_a_table_is_refused(what: str, tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that does nothing under the name of PGD leaves every image right."""
    text, words = SPOILING[what]
    before = [dict(plugins._table(path)) for path in plugins.TABLES.values()]
    (tmp_path / "spoiling_toy.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(2):
        with pytest.raises(UsageError, match=words):
            plugins.load(["spoiling_toy"])
        assert [dict(plugins._table(path)) for path in plugins.TABLES.values()] == before


def test_the_second_of_two_modules_does_not_replace_what_the_first_added(
    tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("one_toy", "other_toy"):
        (tmp_path / f"{name}.py").write_text(f'{ENTRY}ATTACKS["idle"] = {TOY.format("idle", name)}')
    plugins.load(["one_toy", "one_toy"])
    with pytest.raises(UsageError, match="--plugin other_toy would replace or remove 'idle'"):
        plugins.load(["one_toy", "other_toy"])
    sys.modules.pop("one_toy")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("missing", "the attack idle has no function spoiling_toy:missing"),
        ("stepless", r"the attack idle \(spoiling_toy:stepless\) failed: TypeError: stepless\(\)"),
        ("fails", r"the attack idle \(spoiling_toy:fails\) failed: ValueError: my own"),
    ],
)
def test_an_attack_that_fails_is_not_a_fault_of_this_program(
    function: str, words: str, tables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness import api

    functions = "def stepless(search): ...\ndef fails(search, *, steps): raise ValueError('my own')\n"
    (tmp_path / "spoiling_toy.py").write_text(f'{ENTRY}{functions}ATTACKS["idle"] = {TOY.format("idle", function)}')
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load(["spoiling_toy"])
    model, data = make_nearest(tmp_path)
    sample = np.load(data)
    try:
        with pytest.raises(UsageError, match=words):
            api.attack(model, sample["images"][:4], sample["labels"][:4], "idle", eps="2/255")
    finally:
        sys.modules.pop("spoiling_toy")
