"""One job on one device: send it, run the worker in a fresh process, bring the result back.

Whatever happens to the worker is a `Result`; only a device that cannot be reached is an error.
"""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

from devices.job import FormatError, Job
from devices.pack import worker_archive
from devices.profile import DeviceProfile
from devices.result import RESULT, Result
from devices.transports import Exit, Progress, Say, connect

WORKER = "worker.pyz"
FINISHED = ("ok", "nan")  # the worker came to its end; anything else is tried again


def run_job(profile: DeviceProfile, job: Job, folder: Path, progress: Progress, say: Say | None = None) -> Result:
    """Run `job`, whose files are in `folder` (see `devices.job.make_job`), and leave `folder/result`.

    A folder that already holds the finished result of this very job, its files unchanged, is not run again.

    Args:
        profile: the device.
        job: what to do; what the profile says is filled in here.
        folder: of the job.
        progress: called with step, done, total while files travel and the worker works.
        say: see `devices.transports.connect`.

    Raises:
        DeviceError: the device cannot be reached. A crash, a hang, NaN or a refusal is a `Result` with that status.
    """
    job = replace(job, device=profile.name, simulated_clock=profile.simulated_clock, watch=profile.watch)
    if (finished := finished_result(job, folder)) is not None:
        return finished
    shutil.rmtree(folder / RESULT, ignore_errors=True)
    job.save(folder)
    (folder / WORKER).write_bytes(worker_archive())

    listener = _Listener(progress)
    with connect(profile, say) as transport:
        there = transport.put(folder, progress)
        ended = transport.run([*transport.python, WORKER, "."], there, listener, job.silence_limit_s)
        if ended.hung or ended.code != 0:
            result = _failure(job, ended, listener.step)
            result.save(folder)
            return result
        transport.get(f"{there}/{RESULT}", folder / RESULT)
    try:
        return _of_job(job, Result.load(folder))
    except FormatError as error:
        return Result(job.digest, "crashed", f"the worker's result cannot be used: {error}", simulated=job.simulated_clock)


def finished_result(job: Job, folder: Path) -> Result | None:
    """The finished result of this very job in `folder`, None where there is none or its files changed."""
    try:
        result = _of_job(job, Result.load(folder))
    except FormatError:
        return None
    return result if result.status in FINISHED else None


class _Listener:
    """Turns the worker's lines into progress and remembers the last step. Other lines are the runtime's own chatter."""

    def __init__(self, progress: Progress) -> None:
        self.step = "start"
        self._progress = progress

    def __call__(self, line: str) -> None:
        try:
            said = json.loads(line)
            step, done, total = str(said["step"]), int(said["done"]), int(said["total"])
        except (ValueError, KeyError, TypeError):
            return
        self.step = step
        self._progress(step, done, total)


def _of_job(job: Job, result: Result) -> Result:
    if result.job_sha256 != job.digest:
        raise FormatError(f"it belongs to another job: {result.job_sha256[:12]}…, expected {job.digest[:12]}…")
    return result


def _failure(job: Job, ended: Exit, step: str) -> Result:
    """What a worker that left no result tells by its end."""
    if ended.hung:
        what = f"the worker said nothing for {job.silence_limit_s:g} s and was killed; give a slow device a longer limit"
    elif ended.code == -signal.SIGKILL:
        what = "the worker was killed from outside (SIGKILL), most likely for lack of memory; try a smaller batch"
    elif ended.code < 0:
        what = f"the worker died of {signal.Signals(-ended.code).name} in native code of {job.runtime}"
    else:
        what = f"the worker ended with exit code {ended.code}"
    last = f". Its last words: {' | '.join(ended.stderr[-3:])}" if ended.stderr else ""
    return Result(job.digest, "hung" if ended.hung else "crashed", f"{what}, during step '{step}'{last}", simulated=job.simulated_clock)
