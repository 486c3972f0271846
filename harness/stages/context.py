"""What the sources of a run plan from: the models that its sets are aimed at."""

from __future__ import annotations

from collections.abc import Mapping

from devices.host.transports import SSH
from harness.answers import TWIN, Model
from harness.attacks.target import EngineTarget, ModuleTarget
from harness.data.dataset import to_tensor
from harness.models.fewer_bits import of_fewer_bits
from harness.models.onnx_graph import read_onnx
from harness.models.smooth import without_quantizers
from harness.settings import Settings
from harness.sources import FEWER_BITS, SMOOTH, fewer_bits_name, graph_name, of_run
from harness.sources.planned import Context
from harness.stages.engines import Engine, Engines
from harness.stages.rows import READ_HERE, File, parent_of
from harness.stages.subject import Subject

FEW = 16  # images on which it is seen whether a network rounds


def make_context(subject: Subject, settings: Settings, opened: Engines, engines: list[Engine]) -> Context:
    """What the sources plan from. A graph is read back for each flavour of the engines that has one of its own, open or not: it needs no
    device, and all builds of a flavour have one.
    """
    attacked = {source.id for source in of_run(settings.sources, settings.tier)} if subject.attacks else set()
    whole = bool(subject.attacks) and settings.tier != "quick"
    twin, few = subject.twin.module, to_tensor(subject.test.images[:FEW])
    own = {engine.id.flavour: engine.exported for engine in engines if engine.own_graph and engine.exported is not None}
    graphs = {
        flavour: ModuleTarget(read_onnx(exported.artefact.path, deployed=True).eval(), graph_name(flavour))
        for flavour, exported in own.items()
        if subject.attacks and not exported.unreadable
    }
    smooth = without_quantizers(twin, few) if "S2" in attacked else None
    coarse = {bits: of_fewer_bits(twin, few, bits) for bits in FEWER_BITS} if "S7" in attacked and graphs else {}
    return Context(
        subject,
        settings,
        twin=ModuleTarget(twin, TWIN),
        engines={name: EngineTarget(session, opened.look) for name, session in opened.sessions.items()},
        graphs=graphs,
        smooth=None if smooth is None else ModuleTarget(smooth, SMOOTH),
        between=_between(engines, graphs) if whole else {},
        parent=parent_of(subject.twin) if whole and "S1" in attacked else None,
        fewer_bits={bits: ModuleTarget(module, fewer_bits_name(bits)) for bits, module in coarse.items() if module is not None},
        inherits=subject.profile.emulated or subject.profile.transport == SSH,
    )


def _between(engines: list[Engine], graphs: Mapping[str, ModuleTarget]) -> dict[str, list[Model]]:
    """Of each flavour that has a file, its graph read back where it was, and the file node by node where it can be computed here."""
    artefacts = {engine.id.flavour: engine.exported.artefact for engine in engines if engine.exported is not None and not engine.simulated}
    found: dict[str, list[Model]] = {flavour: [graph] for flavour, graph in graphs.items()}
    for flavour, artefact in artefacts.items():
        if artefact.path.suffix in READ_HERE:
            found.setdefault(flavour, []).append(File(flavour, artefact))
    return found
