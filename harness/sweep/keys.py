"""What a result follows from, as one hash: equal keys mean the same result, whichever sweep asked for it."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import export
import harness
from export.artefact import sha256_file
from harness.cards import Card
from harness.compression.recipe import load_recipe
from harness.compression.request import Request
from harness.compression.table import find_method
from harness.models.load import card_beside
from harness.models.shipped import cards, weights_file

ROOTS = {"harness": Path(harness.__file__).parent, "export": Path(export.__file__).parent}
ROOTS["devices"] = ROOTS["harness"].parent / "devices"
TOLD = ("arch", "classes", "input_shape", "normalize", "eps")  # by a card, besides the weights


@dataclass(frozen=True)
class Code:
    """Whose code decides a kind of result; a change elsewhere (reports, commands) leaves it standing.

    Attributes:
        files: folders and single files.
        libraries: those that they call.
    """

    files: tuple[str, ...]
    libraries: tuple[str, ...]


TRAINING = Code(
    (
        "harness/compression",
        "harness/training",
        "harness/models",
        "harness/data",
        "harness/compute/placement.py",
        "harness/compute/precision.py",
    ),
    ("torch", "numpy", "torch-pruning"),
)
ATTACKING = Code(
    (
        "harness/attacks",
        "harness/models",
        "harness/data",
        "harness/answers.py",
        "harness/eps.py",
        "harness/compute/placement.py",
        "harness/compute/precision.py",
        "harness/records",
        "harness/settings.py",
        "harness/stack.py",
    ),
    ("torch", "numpy", "foolbox", "pyautoattack"),
)
MEASURING = ("limits", "run", "samples", "spine")
BENCHING = Code(
    (
        *ATTACKING.files,
        "harness/audit",
        "harness/measurement",
        "harness/sources",
        "harness/stages",
        "export",
        "devices",
        *(f"harness/{name}.py" for name in MEASURING),
    ),
    (*ATTACKING.libraries, "onnx", "onnxruntime"),
)
EVALUATING = Code((*ATTACKING.files, "harness/audit/statistics.py", "harness/reproduce/evaluate.py"), (*ATTACKING.libraries, "scipy"))


def digest(parts: Mapping[str, object]) -> str:
    """SHA-256 of named values, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def sources(what: Code) -> list[Path]:
    """The Python files."""
    found = []
    for named in what.files:
        room, _, inside = named.partition("/")
        found += sorted(ROOTS[room].glob(inside if inside.endswith(".py") else f"{inside}/**/*.py".lstrip("/")))
    return found


@cache
def code(what: Code) -> str:
    """SHA-256 of what the Python files do, and of the versions of the libraries.

    Comments, docstrings and layout do not count: a better comment must not cost a night of training.
    """
    total = hashlib.sha256()
    for path in sources(what):
        source = meaning(path.read_text(encoding="utf-8"))
        total.update(f"{path.relative_to(ROOTS['harness'].parent)}:{source}".encode())
    total.update(repr([(name, version(name)) for name in what.libraries]).encode())
    return total.hexdigest()


def meaning(source: str) -> str:
    """A Python file without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def model_sha256(model: str) -> str:
    """SHA-256 of a model's file: a network of the zoo, or a file."""
    return sha256_file(weights_file(model) if model in cards() else Path(model))


def model_key(model: str, arch: str | None = None) -> list[object]:
    """Of a network as it is loaded: its weights, and what a card beside their file tells. The zoo's own cards follow from the weights."""
    return [model_sha256(model), recorded(card_beside(Path(model), arch))]


def recorded(card: Card) -> dict[str, object]:
    """What a card tells that a result follows from."""
    return {name: card.get(name) for name in TOLD}


def network_key(request: Request, data_sha256: str | None, test_sha256: str) -> str:
    """Of the network that a compression makes. `data_sha256`: of the training images, None where nothing is trained.

    Where it is trained (kind of device, threads, bfloat16 in hardware) is not in it: the same request on another machine is the same
    network as far as a sweep is concerned, and the rounding that differs is less than another seed's difference.
    """
    method = find_method(request.method)
    recipe = load_recipe(request.recipe, request.method, method.stages, request.seed, method.constants).model_dump(
        mode="json", exclude={"description"}
    )
    return digest(
        {
            "parent": model_key(request.model, request.arch),
            "standard_teacher": None if request.standard_teacher is None else model_key(request.standard_teacher),
            **request.model_dump(include={"arch", "classes", "image_size", "normalize", "method", "pattern", "until", "student", "seed"}),
            "rate": method.rate(request.rate or ""),
            "recipe": recipe,
            "data": data_sha256,
            "test": test_sha256,
            "code": code(TRAINING),
        }
    )
