"""What an earlier process measured, when a run goes on: taken over where it still holds, measured anew as a whole, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quick_engines import CLASSES, make_linear, some_images

from devices.host.profile import load_profile
from export.artefact import Artefact, sha256_file
from harness.errors import UntrustedError
from harness.records import Parity
from harness.settings import Settings
from harness.stages.engines import open_engines, plan_engines
from harness.stages.export import Exported
from harness.stages.measure import measure
from harness.stages.measured import FACTS, MEASURED

SETTINGS = Settings(model="m", flavours=("onnx-fp32", "trt-fp32"), device="null", batches=(1,), threads=1)


class Run:
    """A run folder with two engines on the null device, of which `measure` is all that is done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = [self.exported(make_linear(folder, seed).path, name) for seed, name in enumerate(SETTINGS.flavours or (), 1)]
        twin = SimpleNamespace(input_shape=(3, 4, 4), classes=CLASSES)
        self.subject: Any = SimpleNamespace(profile=load_profile("null"), twin=twin, test=SimpleNamespace(images=some_images(8)))

    @staticmethod
    def exported(path: Path, flavour: str) -> Exported:
        artefact = Artefact(
            flavour, path, sha256_file(path), "0" * 64, "0" * 64, "fp32", "onnxruntime", "input", (3, 4, 4), "logits", CLASSES, {}, {}
        )
        return Exported(artefact, Parity(n=1, max_logit_error=0, top1_agreement=1, passed=True, limit=""))

    def facts(self, engine: str) -> Path:
        return self.folder / "run" / MEASURED / engine / FACTS

    def go_on(self) -> set[str]:
        """Do what a process does; the engines that it measured."""
        before = {name: self.written(name) for name in SETTINGS.flavour_names if self.facts(name).exists()}
        engines = plan_engines(self.subject, SETTINGS, self.parts)
        with open_engines(engines, self.subject, SETTINGS, self.folder / "run", print) as opened:
            measured = measure(opened, self.subject, SETTINGS, self.folder / "run")
        assert [m.facts.status for m in measured] == ["ok", "ok"] and all(m.timings for m in measured)
        return {name for name in SETTINGS.flavour_names if self.written(name) != before.get(name)}

    def written(self, engine: str) -> tuple[int, int]:
        """Which file its facts are, and when it was written: a new one may have the number of one that was removed."""
        seen = self.facts(engine).stat()
        return seen.st_ino, seen.st_mtime_ns


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_engines_are_timed_beside_each_other_or_all_anew(run: Run) -> None:
    """Their ratio is taken round by round: a time of yesterday beside one of today is none."""
    assert run.go_on() == {"onnx-fp32", "trt-fp32"}
    assert run.go_on() == set(), "what was measured is measured again"
    run.facts("trt-fp32").unlink()  # as of a process that was killed between the two
    assert run.go_on() == {"onnx-fp32", "trt-fp32"}


@pytest.mark.parametrize("change", [{"cpu_model": "Another CPU"}, {"isa_flags": ["avx2", "avx512_vnni"]}, {"quota_cpus": 0.5}], ids=str)
def test_a_run_that_was_measured_on_another_machine_is_not_gone_on_with(run: Run, change: dict[str, Any]) -> None:
    """A folder that was copied, or a container that was started again elsewhere: one INT8 file has other answers on another CPU."""
    run.go_on()
    stored = json.loads(run.facts("onnx-fp32").read_text())
    run.facts("onnx-fp32").write_text(json.dumps({**stored, "environment": {**stored["environment"], **change}}))
    with pytest.raises(UntrustedError, match=r"onnx-fp32 was measured on another machine .*must not be mixed"):
        run.go_on()
