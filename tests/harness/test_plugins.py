"""Entries from outside the package: a module that the harness has never heard of adds a toy to each table, and a bench runs with them."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness import plugins
from harness.cli import app
from harness.errors import UsageError
from harness.records import RunRecord

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
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "lib/toys"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(TOYS)
    (package / "runtime.py").write_text(RUNTIME)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=":")  # for the process of the engine
    tables = [plugins._table(path) for path in plugins.TABLES.values()]
    before = [dict(table) for table in tables]
    yield "toys.plugin"
    for table, then in zip(tables, before, strict=True):
        table.clear()
        table.update(then)
    for name in ("toys.plugin", "toys"):
        sys.modules.pop(name, None)


def test_a_toy_of_each_kind_runs_a_bench(toys: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["bench", "--device", "null", "--plugin", toys, "--flavour", "onnx-fp32", "--flavour", "toy-fp32", "--attack", "brighter"]
    words += ["--model", "resnet18x16-at", "--samples", "16", "--batch", "1", "--threads", "1", "--source", "S1", "--source", "toy"]
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert done.exit_code in (0, 3), done.output
    record = RunRecord.load(out)
    assert [engine.status for engine in record.engines] == ["ok", "ok"]
    assert {(a.source, a.name) for a in record.attacks} >= {("S1", "brighter"), ("toy", "brighter")}
    assert "A toy's chapter" in (out / "report.md").read_text()
    again = CliRunner().invoke(app, ["bench", "--resume", str(out)])
    assert again.exit_code == done.exit_code


def test_a_toy_method_compresses(toys: str) -> None:
    plugins.load([toys])
    assert "toy" in plugins._table(plugins.TABLES["methods"])


@pytest.mark.parametrize(
    ("text", "words"), [("import nothing_of_that_name", "nothing_of_that_name"), ("raise ValueError('my own')", "my own")]
)
def test_a_module_that_cannot_be_imported_is_told(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_toy.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=words):
        plugins.load(["broken_toy"])
