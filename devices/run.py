"""One job on one device: send it, run the worker in a fresh process, bring the result back.

Whatever happens to the worker is a `Result`; a device that cannot be reached, or sends back what is none, is an error.
"""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from devices.errors import DeviceError, StuckError
from devices.job import FormatError, Job
from devices.pack import worker_archive
from devices.plain import printable, read_json
from devices.profile import DeviceProfile
from devices.result import RESULT, Result
from devices.rules import check_answers
from devices.transports import Exit, Progress, Say, connect

WORKER = "worker.pyz"
FINISHED = ("ok", "nan")  # the worker came to its end; anything else is tried again


def run_job(
    profile: DeviceProfile, job: Job, folder: Path, progress: Progress, say: Say | None = None, classes: int | None = None
) -> Result:
    """Run `job`, whose files are in `folder` (see `devices.job.make_job`), and leave `folder/result`.

    A folder that already holds the finished result of this very job, its files unchanged, is not run again.

    Args:
        profile: the device.
        job: what to do; what the profile says is filled in here.
        folder: of the job.
        progress: called with step, done, total while files travel and the worker works.
        say: see `devices.transports.connect`.
        classes: of the model; where they are given, an engine must answer with as many logits.

    Raises:
        DeviceError: the device cannot be reached, or what it sends back is damaged or no answer to this job.
            A crash, a hang, NaN or a refusal is a `Result` with that status.
    """
    job = replace(job, device=profile.name, simulated_clock=profile.simulated_clock, watch=profile.watch)
    if (finished := finished_result(job, folder, classes)) is not None:
        return finished
    shutil.rmtree(folder / RESULT, ignore_errors=True)
    job.save(folder)
    (folder / WORKER).write_bytes(worker_archive())

    listener = _Listener(progress, job.silence_limit_s)
    with connect(profile, say) as transport:
        there = transport.put(folder, progress)
        ended = transport.run([*transport.python, WORKER, "."], there, listener, job.silence_limit_s)
        if ended.hung or ended.code != 0:
            result = _failure(job, ended, listener.step)
            result.save(folder)
            return result
        transport.get(f"{there}/{RESULT}", folder / RESULT)
    try:
        return _answer(job, folder, classes)
    except FormatError as error:
        raise DeviceError(
            f"{profile.name} sent a result that cannot be used: {error}. The device, its disk or its Python is damaged, or it does not "
            f"mean well; what was finished before is kept"
        ) from error


def finished_result(job: Job, folder: Path, classes: int | None = None) -> Result | None:
    """The finished result of this very job in `folder`, None where there is none or its files changed."""
    try:
        result = _answer(job, folder, classes)
    except FormatError:
        return None
    return result if result.status in FINISHED else None


class _Listener:
    """Turns the worker's lines into progress and remembers the last step. Other lines are the runtime's own chatter.

    Raises:
        StuckError: for the limit on silence it has talked without getting any further.
    """

    def __init__(self, progress: Progress, silence_limit_s: float) -> None:
        self.step = "start"
        self._progress, self._limit_s = progress, silence_limit_s
        self._said, self._since = "", time.monotonic()

    def __call__(self, line: str) -> None:
        if line == self._said or (said := _progress(line)) is None:
            if time.monotonic() - self._since > self._limit_s:
                raise StuckError(f"the worker talks but has not got any further for {self._limit_s:g} s, in step '{self.step}'")
            return
        self._said, self._since = line, time.monotonic()
        self.step = said[0]
        self._progress(*said)


def _progress(line: str) -> tuple[str, int, int] | None:
    """Step, done and total of a line of the worker, None where it is another kind of line."""
    try:
        said = read_json(line)
        step, done, total = printable(str(said["step"]), 100), said["done"], said["total"]
    except (ValueError, KeyError, TypeError):
        return None
    return (step, done, total) if type(done) is type(total) is int and 0 <= done <= total else None


def _answer(job: Job, folder: Path, classes: int | None) -> Result:
    """The result in `folder`, held against the job and the images that it names."""
    result = Result.load(folder)
    images = {name: len(np.load(folder / file.path, mmap_mode="r", allow_pickle=False)) for name, file in job.inputs.items()}
    check_answers(result, job, images, classes)
    return result


def _failure(job: Job, ended: Exit, step: str) -> Result:
    """What a worker that left no result tells by its end."""
    if ended.hung:
        what = f"the worker said nothing for {job.silence_limit_s:g} s and was killed; give a slow device a longer limit"
    elif ended.code == -signal.SIGKILL:
        what = "the worker was killed from outside (SIGKILL), most likely for lack of memory; try a smaller batch"
    elif ended.code < 0:
        what = f"the worker died of {_signal(-ended.code)} in native code of {job.runtime}"
    else:
        what = f"the worker ended with exit code {ended.code}"
    last = f". Its last words: {' | '.join(ended.stderr[-3:])}" if ended.stderr else ""
    return Result(job.digest, "hung" if ended.hung else "crashed", f"{what}, during step '{step}'{last}", simulated=job.simulated_clock)


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
