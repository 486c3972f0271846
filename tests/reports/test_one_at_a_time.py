"""Two processes and one run folder: what one of them finished while the other was still loading is neither written over nor done again."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic import make_run

from harness import __version__, spine
from harness.errors import UntrustedError, UsageError
from harness.records import Outcome, RunRecord, Step
from harness.run import RunFolder, environment
from harness.settings import Settings


def test_a_run_that_another_process_began_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    """The folder was new when the command was read; loading the model takes seconds, and the other may have ended since."""
    record = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="is not empty"), RunFolder(tmp_path / "run", new=True):
        pass
    assert RunRecord.load(tmp_path / "run") == record
    with RunFolder(tmp_path / "run"):  # and is not held any more
        pass


def test_a_run_whose_folder_was_removed_does_not_write_into_the_next_ones(tmp_path: Path) -> None:
    """Somebody removes the folder of a run that still goes on, and begins another there: its record became the first one's."""
    record = make_run(tmp_path / "elsewhere")
    folder = tmp_path / "run"
    with RunFolder(folder) as first:
        assert first.save(record) == RunRecord.load(folder)
        shutil.rmtree(folder)
        with pytest.raises(UsageError, match="was removed or moved while this run wrote to it"):
            first.save(record)
        with RunFolder(folder, new=True) as second:
            second.save(record.model_copy(update={"seed": 7}))
            with pytest.raises(UsageError, match="was removed or moved while this run wrote to it"):
                first.save(record)
    assert RunRecord.load(folder).seed == 7


def test_a_run_that_another_process_finished_meanwhile_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(model="resnet8").model_dump(mode="json")
    record = make_run(tmp_path / "run", settings=settings, environment=environment(), harness_version=__version__)
    record.model_copy(update={"status": Step.STARTED, "attacks": []}).save(tmp_path / "run")
    same = SimpleNamespace(
        twin=SimpleNamespace(sha256=record.model.sha256),
        test=SimpleNamespace(sha256=record.data.sha256),
        calibration=SimpleNamespace(sha256=record.data.calibration_sha256),
    )

    def load(settings: Settings) -> SimpleNamespace:
        record.save(tmp_path / "run")  # the other process ends
        return same

    monkeypatch.setattr(spine, "load_subject", load)
    assert spine.resume(tmp_path / "run") == record == RunRecord.load(tmp_path / "run")


def test_a_run_that_is_gone_on_with_from_another_folder_says_which_names_lead_nowhere(tmp_path: Path) -> None:
    """It said that there is no such file, of options that nobody had given."""
    settings = Settings(model="nowhere/my.onnx", data="nowhere/my.npz").model_dump(mode="json")
    record = make_run(tmp_path / "run", settings=settings, environment=environment(), harness_version=__version__)
    record.model_copy(update={"status": Step.STARTED}).save(tmp_path / "run")
    with pytest.raises(UsageError, match=r"run was begun with --model nowhere/my\.onnx and --data nowhere/my\.npz: go on from the folder"):
        spine.resume(tmp_path / "run")


@pytest.mark.parametrize("changed", ["torch", "onnxruntime", "harness", "gradients"])
def test_a_run_that_other_versions_began_is_not_gone_on_with(changed: str, tmp_path: Path) -> None:
    """Its record names theirs, and sets and answers of both would have stood side by side. Of a run begun on a GPU that is hidden now, the
    network, the images or the seed were said to be others.
    """
    record = make_run(
        tmp_path / "run", settings=Settings(model="resnet8").model_dump(mode="json"), environment=environment(), harness_version=__version__
    )
    update = {"harness_version": "0.0.1"} if changed == "harness" else {"environment": {**environment(), changed: "0.0.1"}}
    record.model_copy(update={"status": Step.STARTED, **update}).save(tmp_path / "run")
    with pytest.raises(UntrustedError, match=rf"begun with other versions or hardware: {changed} 0.0.1 then, .* now"):
        spine.resume(tmp_path / "run")


def test_a_run_that_was_stopped_before_its_requirements_were_judged_is_held_against_them(tmp_path: Path) -> None:
    """Its record was finished already, so that going on with it judged none of them, and ended with exit code 0."""
    run = tmp_path / "run"
    record = make_run(run, settings=Settings(model="resnet8").model_dump(mode="json"))
    (run / spine.REQUIREMENTS).write_text('artefact = { at_most = "1 B" }\n')
    resumed = spine.resume(run)
    assert [row.outcome for row in resumed.requirements] == [Outcome.FAIL] * len(resumed.requirements) and resumed.requirements
    assert resumed == RunRecord.load(run) != record
    (run / spine.REQUIREMENTS).write_text('artefact = { at_most = "1 GB" }\n')
    assert spine.resume(run) == resumed, "rows that stand there are not judged again"
