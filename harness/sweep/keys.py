"""What a result follows from, as one hash: equal keys mean the same result, whichever sweep asked for it."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import export
import harness
from export.artefact import sha256_file
from harness.cards import Card
from harness.compression.compress import Request
from harness.compression.recipe import load_recipe
from harness.compression.table import find_method
from harness.models.load import card_beside
from harness.models.zoo import cards, weights_file

ROOTS = {"harness": Path(harness.__file__).parent, "export": Path(export.__file__).parent}
ROOTS["devices"] = ROOTS["harness"].parent / "devices"
TOLD = ("arch", "classes", "input_shape", "normalize", "eps")  # by a card, besides the weights
# Whose code decides what. A change elsewhere (reports, commands) leaves results standing.
TRAINING = ("harness/compression", "harness/training", "harness/models", "harness/data")
ATTACKING = ("harness/attacks", "harness/models", "harness/data")
BENCHING = (*ATTACKING, "harness/audit", "harness/hops", "export", "devices")
LIBRARIES = {
    TRAINING: ("torch", "numpy", "torch-pruning"),
    ATTACKING: ("torch", "numpy", "foolbox", "pyautoattack"),
    BENCHING: ("torch", "numpy", "foolbox", "pyautoattack", "onnx", "onnxruntime"),
}


def digest(parts: Mapping[str, object]) -> str:
    """SHA-256 of named values, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@cache
def code(packages: tuple[str, ...]) -> str:
    """SHA-256 of what the Python files of these folders do, and of the versions of the libraries they call.

    Comments, docstrings and layout do not count: a better comment must not cost a night of training.
    """
    total = hashlib.sha256()
    for package in packages:
        room, _, inside = package.partition("/")
        for path in sorted((ROOTS[room] / inside).rglob("*.py")):
            total.update(f"{package}:{path.name}".encode())
            total.update(meaning(path.read_text()).encode())
    total.update(repr([(name, version(name)) for name in LIBRARIES[packages]]).encode())
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
    return [model_sha256(model), told(card_beside(Path(model), arch))]


def told(card: Card) -> dict[str, object]:
    """What a card tells that a result follows from."""
    return {name: card.get(name) for name in TOLD}


def network_key(request: Request, data_sha256: str | None, test_sha256: str) -> str:
    """Of the network that a compression makes. `data_sha256`: of the training images, None where nothing is trained."""
    stages = find_method(request.method).stages
    recipe = load_recipe(request.recipe, request.method, stages, request.seed).model_dump(mode="json", exclude={"description"})
    return digest(
        {
            "parent": model_key(request.model, request.arch),
            "standard_teacher": None if request.standard_teacher is None else model_key(request.standard_teacher),
            **request.model_dump(
                include={"arch", "classes", "image_size", "normalize", "method", "rate", "pattern", "until", "student", "seed"}
            ),
            "recipe": recipe,
            "data": data_sha256,
            "test": test_sha256,
            "code": code(TRAINING),
        }
    )
