"""What an engine is called in a report: one that did not run says so wherever its name stands."""

from __future__ import annotations

from harness.records import EngineRecord, RunRecord


def shown(engine: EngineRecord) -> str:
    """Its name, with the word that belongs to its figures."""
    if engine.simulated is not None:
        return f"{engine.name} (simulated, not run)"
    return f"{engine.name} (built, not run)" if engine.status == "built" else engine.name


def brief(name: str) -> str:
    """The same where there is little room."""
    return name.replace(", not run)", ")")


def names(record: RunRecord) -> dict[str, str]:
    """Name -> what it is called, for every engine that is called otherwise."""
    return {engine.name: shown(engine) for engine in record.engines if shown(engine) != engine.name}


def named(record: RunRecord) -> RunRecord:
    """The record with every engine called by what it is, for people; `record.json` keeps the bare names."""
    called = names(record)
    if not called:
        return record
    parts = {
        "engines": [e.model_copy(update={"name": called.get(e.name, e.name)}) for e in record.engines],
        **{
            name: [part.model_copy(update={"engine": called.get(part.engine or "", part.engine)}) for part in getattr(record, name)]
            for name in ("transfer", "seeded", "gates", "claims", "requirements")
        },
    }
    parts["ratios"] = [
        r.model_copy(update={"above": called.get(r.above, r.above), "below": called.get(r.below, r.below)}) for r in record.ratios
    ]
    return record.model_copy(update=parts)
