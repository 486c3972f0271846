"""SPEC.toml: which models, methods, rates and seeds, and how each result is benched. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from harness.errors import UsageError, unknown
from harness.settings import DEFAULT_EPS, TIERS, Settings, check_numbers
from harness.toml.read import read_toml

MODEL_FILES = (".safetensors", ".pt2", ".onnx")


def _text(value: object) -> object:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


def _named(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


Rate = Annotated[str, BeforeValidator(_text)]


class Part(BaseModel):
    """A table of the file: frozen, and nothing in it that has no meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Model(Part):
    """A network to compress: a zoo name, or a file and what it does not say itself, as for `harness bench`. A bare string is the name."""

    model: str
    arch: str | None = None
    classes: int | None = None
    image_size: int | None = None
    normalize: str | None = None


class MethodSpec(Part):
    """One `[[methods]]` table. Every combination of rate, pattern and student is a cell; an empty list is the method's default."""

    name: str
    rates: tuple[Rate, ...] = ()
    patterns: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    recipe: str = "cpu"
    until: str | None = None
    standard_teacher: str | None = None


class CompressSpec(Part):
    """The images that every compression trains on, and those its card is measured on."""

    data: str = "cifar10"
    test: str = "cifar10-sample"


class BenchSpec(Settings):
    """The options of `harness bench`, by the names of its settings. `eps` is the parent's claim where it is not given."""

    model: Literal[""] = Field(default="", description="of [[models]], as the four below")
    arch: None = None
    classes: None = None
    image_size: None = None
    normalize: None = None
    executor: Literal["local"] = Field(default="local", description="of the sweep itself, as the address")
    address: None = None

    def settings(self, model: Model, eps: str) -> Settings:
        """The bench of one network."""
        return Settings.model_validate({**self.model_dump(), **model.model_dump(), "eps": eps})


class Resources(Part):
    """What one training may take. `cpus` is also the number of threads it runs on, so that it is the same wherever it runs. `gpus` are
    reserved on a Ray cluster; in this process a training takes the GPU that is there.
    """

    cpus: int | None = Field(default=None, ge=1)
    gpus: float = Field(default=0, ge=0)


class Recommend(Part):
    """`delta`: how much robust accuracy may be given up, as a share; the tier's margin by default."""

    delta: float | None = Field(default=None, gt=0, lt=1)


class Spec(Part):
    """A whole sweep."""

    name: str = Field(pattern=r"^[\w.-]+$")
    models: tuple[Annotated[Model, BeforeValidator(_named)], ...] = Field(min_length=1)
    methods: tuple[MethodSpec, ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    compress: CompressSpec = CompressSpec()
    bench: BenchSpec = BenchSpec()
    resources: Resources = Resources()
    recommend: Recommend = Recommend()

    @property
    def delta(self) -> float:
        """Robust accuracy that may be given up for a smaller or faster engine, a share."""
        return self.recommend.delta or TIERS[self.bench.tier].margin


def load_spec(path: Path) -> Spec:
    """Read and check a sweep's file. Paths in it are relative to its own folder; a bare word is a name, and a folder beside it is `./NAME`.

    Raises:
        UsageError: unreadable, not TOML, an unknown key, or a value of the wrong kind.
    """
    content = read_toml(path, "sweep")
    try:
        spec = Spec.model_validate({"name": re.sub(r"[^\w.-]", "-", path.stem), **content})
        for model in spec.models:
            check_numbers(spec.bench.settings(model, spec.bench.eps or DEFAULT_EPS))
    except ValidationError as error:
        raise _fault(path, content, error) from error
    return _beside(spec, path.parent)


def _fault(path: Path, content: dict[str, Any], error: ValidationError) -> UsageError:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known(first["loc"][:-1])
        return UsageError(
            f"sweep {path}: {unknown('key', where.rpartition('.')[2], known)} (at {where})" if known else f"sweep {path}: {where}"
        )
    if first["loc"] in {("bench", name) for name in Model.model_fields}:
        return UsageError(f'sweep {path}: {where} is said of a model, as in models = [{{model = "my.safetensors", arch = "resnet18"}}]')
    if first["type"] in ("tuple_type", "list_type"):
        given = first.get("input")
        return UsageError(f"sweep {path}: {where} is {given!r}; expected a list, as in {where.rpartition('.')[2]} = [{given!r}]")
    if first["type"] == "missing":
        return UsageError(f"sweep {path}: {where} is missing")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return UsageError(f"sweep {path}: {where or 'the file'}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first.get('input')!r}{more}")


TABLES: dict[str, type[BaseModel]] = {
    "models": Model, "methods": MethodSpec, "compress": CompressSpec, "bench": BenchSpec, "resources": Resources, "recommend": Recommend,
}  # fmt: skip


def _known(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at `loc` may have."""
    return list((TABLES[str(loc[0])] if loc else Spec).model_fields)


def _beside(spec: Spec, folder: Path) -> Spec:
    """The spec with every name that is a file beside it written as a path."""

    def place(name: str | None) -> str | None:
        return name if name is None or not (folder / name).exists() or not _is_path(name) else str((folder / name).absolute())

    models = tuple(m.model_copy(update={"model": place(m.model)}) for m in spec.models)
    methods = tuple(m.model_copy(update={"recipe": place(m.recipe), "standard_teacher": place(m.standard_teacher)}) for m in spec.methods)
    compress = spec.compress.model_copy(update={"data": place(spec.compress.data), "test": place(spec.compress.test)})
    bench = spec.bench.model_copy(update={"data": place(spec.bench.data)})
    return spec.model_copy(update={"models": models, "methods": methods, "compress": compress, "bench": bench})


def _is_path(name: str) -> bool:
    return "/" in name or Path(name).suffix.lower() in (*MODEL_FILES, ".toml", ".npz")
