"""The harness from Python: `harness.bench`, `harness.attack`, `harness.load_run`.

Nothing here reads `sys.argv` or writes to standard output; progress goes to standard error, as on the command line. What is wrong with
the arguments raises `harness.errors.UsageError`, whose message says what was expected.
"""

from __future__ import annotations

import copy
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices.host.session import EngineSession
from harness.data.dataset import Dataset, checked_labels
from harness.errors import UsageError, unknown
from harness.models.kinds import kind_of
from harness.records import RECORD, AttackRecord, RunRecord
from harness.settings import FILE, GIVEN, Settings, check_output, check_seed, make_settings

if TYPE_CHECKING:
    from torch import nn

    from harness.in_process import Function
    from harness.models.load import Twin
    from harness.stages.engines import Opener

Images = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]

GIVEN_FILES = "given"  # folder in a run: the module and the arrays as files, so that `harness bench --resume` finds them
_NAME = re.compile(r"[^\w.+-]+")


class Attacked(NamedTuple):
    """One adversarial set.

    Attributes:
        images: uint8 (n, h, w, c), in the order they were given; those that the model has wrong when clean are as they were.
        right: bool (n,), the model is right on the image and on its adversarial version.
        record: how it was made, as in `record.json`.
    """

    images: Images
    right: NDArray[np.bool_]
    record: AttackRecord


def bench(
    model: nn.Module | str | Path,
    images: Images | str | Path,
    labels: Labels | None = None,
    engines: Sequence[str | Path | EngineSession | Function] | None = None,
    attacks: Sequence[str] | None = None,
    *,
    out: str | Path,
    calibration: Images | None = None,
    requirements: str | Path | None = None,
    **options: Any,
) -> RunRecord:
    """What `harness bench` does, with Python objects where it takes files.

    Args:
        model: a module in [0, 1] (normalisation inside, or `normalize=`), a zoo name or a file, as `--model`.
        images: uint8 (n, h, w, c) with `labels` int (n,); or, without labels, data as `--data` takes it.
        labels: of the images.
        engines: flavours such as "ort-int8"; ONNX files, which run as they are; open or closed sessions
            (`devices.host.session.EngineSession`); functions from uint8 images (n, h, w, c) to logits (n, classes) or labels (n,), which
            are called in this process. None: the device's default.
        attacks: names, as `--attack`. None: the tier's; empty: no attack at all.
        out: run folder, new or empty.
        calibration: uint8 (m, h, w, c), of no test image; None: some of the images are set aside.
        requirements: a file that the run is held against, see docs/requirements.md.
        options: the other options of `harness bench` by the names of `harness.settings.Settings`: tier, eps, samples, device, seed, …

    Returns:
        The record, which is also `out/record.json`, beside the reports.

    Raises:
        UsageError, UntrustedError, DeviceError: as the command's exit codes 2, 3 and 4.
    """
    from harness import spine

    if not isinstance(out, str | Path):
        raise UsageError(f"out is {_kind(out)}; expected a folder, new or empty")
    folder = Path(out)
    check_output(folder)
    flavours, openers = _engines(engines)
    with _nothing_left_of_what_never_began(folder):
        settings = make_settings(
            **_options(options),
            model=_model_file(model, images, folder / GIVEN_FILES),
            data=_data_file(images, labels, calibration, folder / GIVEN_FILES),
            flavours=flavours,
            attacks=None if attacks is None else tuple(attacks),
        )
        return spine.bench(settings, folder, _command(settings), None if requirements is None else Path(requirements), openers)


def attack(
    model: nn.Module | str | Path,
    images: Images,
    labels: Labels,
    attack: str = "apgd-ce",
    *,
    eps: str | float | Fraction = "8/255",
    seed: int = 0,
    **options: Any,
) -> Attacked:
    """Attack every image by one attack; arrays in, arrays out.

    Args:
        model: as `bench` takes it.
        images: uint8 (n, h, w, c).
        labels: int (n,).
        attack: a name, as `harness attack --attack`.
        eps: the radius, such as "8/255" or 8 / 255; an attack of minimum norm takes none.
        seed: of random starts.
        options: arch, classes, normalize, image_size: what a file of weights does not say itself.

    Raises:
        UsageError: an argument that cannot be meant.
    """
    from harness.attacks.sets import make_set
    from harness.attacks.table import resolve
    from harness.eps import parse_eps
    from harness.models.predictions import logits

    if not isinstance(attack, str):
        raise UsageError(f"the attack is {type(attack).__name__}; expected a name such as 'apgd-ce'")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise UsageError(f"the seed is {seed!r}; expected a whole number")
    check_seed(int(seed))
    chosen, radius = resolve(attack), parse_eps(str(eps))
    _check_array(images)
    data = Dataset("images", images, checked_labels("labels", np.asarray(labels), len(images)))
    with tempfile.TemporaryDirectory(prefix="edge-harness-attack-") as place:
        twin = _twin(model, data, Path(place), options)
        if int(data.labels.max()) >= twin.classes:
            raise UsageError(f"label {data.labels.max()} is out of range; the model has {twin.classes} classes, 0..{twin.classes - 1}")
        index = np.arange(len(data))
        record, stored = make_set(twin.module, data, index, chosen, radius, int(seed), source="S1", folder=Path(place) / "adversarial")
        found = stored[:]
    right = [logits(twin.module, part).argmax(1) == data.labels for part in (images, found)]
    return Attacked(found, right[0] & right[1], record.model_copy(update={"file": ""}))


@contextmanager
def _nothing_left_of_what_never_began(folder: Path) -> Iterator[None]:
    """Where the run is refused before it has a record, its folder is as it was: empty, or not there."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        if not (folder / RECORD).exists():
            shutil.rmtree(folder / GIVEN_FILES, ignore_errors=True)
            if not there:
                with suppress(OSError):  # not there, or something else is in it by now
                    folder.rmdir()
        raise


def _twin(model: nn.Module | str | Path, data: Dataset, place: Path, options: Mapping[str, Any]) -> Twin:
    from harness.models.load import load_twin

    height, width, channels = data.images.shape[1:]
    try:
        return load_twin(_model_file(model, data.images, place), data_shape=(channels, height, width), **options)
    except TypeError as error:  # of an option that it does not have
        raise UsageError(f"{error}; options are arch, classes, normalize and image_size") from error


def _options(options: dict[str, Any]) -> dict[str, Any]:
    taken = {"model", "data", "flavours", "attacks"}
    for name in options:
        if name not in Settings.model_fields.keys() - taken:
            raise unknown("option", name, Settings.model_fields.keys() - taken)
    eps = options.get("eps")
    return options if eps is None else {**options, "eps": str(eps)}  # 8 / 255 is its text: see `harness.eps`


def _model_file(model: nn.Module | str | Path, images: Images | str | Path, place: Path) -> str:
    """The model as `--model` takes it: a module becomes a saved program in `place`, which needs nothing but itself."""
    if isinstance(model, str | Path):
        return str(model)
    import torch

    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"the model is {_kind(model)}; expected a torch.nn.Module, a name or a file")
    if not isinstance(images, np.ndarray):
        raise UsageError("a module is exported for images of one size: give them as an array, uint8 (n, height, width, channels)")
    _, height, width, channels = Dataset("images", images, np.zeros(len(images), np.int64)).images.shape
    module, example = copy.deepcopy(model).cpu().float().eval(), torch.rand(2, channels, height, width)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    except Exception as error:  # torch.export raises errors of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"torch.export cannot export this {type(model).__name__} for images of {channels}x{height}x{width} in batches of any size: "
            f"{type(error).__name__}: {reason}"
        ) from error
    path = place / f"{_NAME.sub('-', type(model).__name__)}.pt2"
    place.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    torch.export.save(program, file)  # into a file on a full disk it says no more than that a position is unexpected
    path.write_bytes(file.getvalue())
    return str(path.absolute())


def _check_array(images: Any, *others: type) -> None:
    """Raise UsageError unless it is an array, or of another type that is taken too."""
    if not isinstance(images, (np.ndarray, *others)):
        raise UsageError(f"the images are {_kind(images)}; expected an array, uint8 (n, height, width, channels)")


def _kind(thing: object) -> str:
    """What something is that was expected to be another thing; of a class, that it is one."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__


def _data_file(images: Images | str | Path, labels: Labels | None, calibration: Images | None, place: Path) -> str:
    """The images as `--data` takes them."""
    _check_array(images, str, Path)
    if not isinstance(images, np.ndarray):
        if labels is not None or calibration is not None:
            raise UsageError("labels and calibration images go with an array of images; named data has its own")
        return str(images)
    if labels is None:
        raise UsageError("images without labels; expected labels, integers (n,)")
    data = Dataset("images", images, checked_labels("labels", np.asarray(labels), len(images)))
    arrays = {"images": data.images, "labels": data.labels}
    if calibration is not None:
        arrays["calibration_images"] = calibration
    place.mkdir(parents=True, exist_ok=True)
    np.savez(place / "images.npz", **arrays)  # type: ignore[arg-type]
    return str((place / "images.npz").absolute())


def _engines(engines: Sequence[str | Path | EngineSession | Function] | None) -> tuple[tuple[str, ...] | None, dict[str, Opener]]:
    """Flavours, those of Python objects as `python:NAME`, and how each of these is opened."""
    if engines is None:
        return None, {}
    openers: dict[str, Opener] = {}
    flavours: list[str] = []
    for engine in engines:
        if isinstance(engine, str | Path):
            is_file = kind_of(Path(engine)) == ".onnx" and ":" not in str(engine)
            flavours.append(f"{FILE}:{Path(engine).absolute()}" if is_file else str(engine))
            continue
        if not isinstance(engine, EngineSession) and not callable(engine):
            raise UsageError(f"an engine is {type(engine).__name__}; expected a flavour's name, an EngineSession or a function")
        name = str(engine.id) if isinstance(engine, EngineSession) else _function_name(engine)
        flavour = f"{GIVEN}:{name}"
        if _NAME.search(name):
            raise UsageError(f"a session is called {name!r}; expected letters, digits and .+-_ only")
        if flavour in openers or name in flavours:
            raise UsageError(f"two engines are called {name}; give functions names of their own (def, or __name__)")
        flavours.append(flavour)
        openers[flavour] = partial(_held, engine) if isinstance(engine, EngineSession) else partial(_asked_here, name, engine)
    return tuple(flavours), openers


def _function_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return _NAME.sub("-", name).strip("-") or "function"


def _held(session: EngineSession, _shape: tuple[int, int, int], _classes: int) -> Any:
    """A session that is open stays so afterwards."""
    return nullcontext(session) if session.is_open else session


def _asked_here(name: str, function: Function, shape: tuple[int, int, int], classes: int) -> EngineSession:
    from harness.in_process import function_session

    return function_session(name, function, shape, classes)


def _command(settings: Settings) -> list[str]:
    """The command line that would do the same, as far as one can: what is not the default."""
    names = {"flavours": "flavour", "attacks": "attack", "batches": "batch", "sources": "source", "plugins": "plugin"}
    words = ["harness", "bench"]
    for field, value in settings.model_dump(exclude_defaults=True).items():
        option = f"--{names.get(field, field).replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [word for one in (value if isinstance(value, tuple | list) else [value]) for word in (option, str(one))]
    return words
