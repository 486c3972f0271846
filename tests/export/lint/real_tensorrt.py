"""NVIDIA's parser and builder in a process of their own: some of the files here make them crash, and that is an answer too.

Run as a program it reads lines `parse FILE` or `build FILE` and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BATCH = 2


@dataclass(frozen=True)
class Answer:
    """Whether the file was taken; if not, what was said (nothing where the process crashed)."""

    taken: bool
    said: str = ""
    crashed: bool = False


class RealTensorRT:
    """Asks the process; starts it again after a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def parse(self, path: Path) -> Answer:
        return self._ask("parse", path)

    def build(self, path: Path) -> Answer:
        return self._ask("build", path)

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate("")
            self.process = None

    def _ask(self, what: str, path: Path) -> Answer:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return Answer(**json.loads(line))
        assert self.process.wait() < 0, "the process ended without being killed by a signal"
        self.process = None
        return Answer(False, crashed=True)


def main() -> None:
    import os

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints to standard output

    import tensorrt_rtx as trt

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    log = Log()
    builder = trt.Builder(log)

    def answer(what: str, path: str) -> Answer:
        log.errors.clear()
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, log)
        if not parser.parse(Path(path).read_bytes()):
            said = "; ".join(f"{parser.get_error(i).code()}: {parser.get_error(i).desc()}" for i in range(min(parser.num_errors, 1)))
            return Answer(False, said.removeprefix("ErrorCode.") or "; ".join(log.errors))
        if what == "parse":
            return Answer(True)
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        profile, dynamic = builder.create_optimization_profile(), False
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            if -1 in tuple(tensor.shape):
                sizes = [BATCH if size == -1 else size for size in tensor.shape]
                dynamic = dynamic or profile.set_shape(tensor.name, sizes, sizes, sizes) is None
        if dynamic:
            config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        return Answer(plan is not None, "" if plan is not None else "; ".join(log.errors))

    for line in sys.stdin:
        what, path = line.rstrip("\n").split(" ", 1)
        answers.write(json.dumps(vars(answer(what, path))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
