"""The record of a run: what `record.json` holds. All that `reports` reads; imports neither torch nor pandas.

Format history (`schema`): 1 - first; 2 - targets of attacks, builds of engines, rounds and ratios;
parity, cross-check and a synthetic device by these names; successes that rounding undid, the CPU quota;
3 - requirements; queries of attacks;
4 - builds with other settings; the row that a set was made on; cross-engine replay; gap
decomposition; the radius of the network's own claim; 5 - seeds of attacks, their transfer rates
over all seeds; noise draw by draw; sets that an engine inherits.

Every accuracy is a share in [0, 1]; every interval is a 95 % interval (lower, upper) unless its name says otherwise.
Raw values stay in `samples.parquet` and `timings/`; what stands here can be computed again from them.
"""

from harness.records.attacks import AttackRecord, NoiseFloor, Queries
from harness.records.audit import Claim, Decomposition, Flips, Gap, Gate, Level, Replay, SeededTransfer, Transfer, Verdict, Waterfall
from harness.records.described import DataRecord, DeviceRecord, ModelRecord, hardware, named_part
from harness.records.engines import EngineRecord, Floor, KernelShare, LintFinding, Memory, Parity, PrecisionEvidence, Roofline
from harness.records.files import read_record, write_record
from harness.records.parts import Interval, Median, Mismatch, Part, Share
from harness.records.requirements import Outcome, Qualification, Requirement
from harness.records.run import RECORD, SCHEMA, RunRecord, Step
from harness.records.timing import Conditions, CrossCheck, Energy, Latency, LoadGen, Ratio, Spread, TelemetryRecord

__all__ = [
    "RECORD", "SCHEMA", "AttackRecord", "Claim", "Conditions", "CrossCheck", "DataRecord", "Decomposition", "DeviceRecord",
    "Energy", "EngineRecord", "Flips", "Floor", "Gap", "Gate", "Interval", "KernelShare", "Latency", "Level", "LintFinding",
    "LoadGen", "Median", "Memory", "Mismatch", "ModelRecord", "NoiseFloor", "Outcome", "Parity", "Part", "PrecisionEvidence",
    "Qualification", "Queries", "Ratio", "Replay", "Requirement", "Roofline", "RunRecord", "SeededTransfer", "Share", "Spread",
    "Step", "TelemetryRecord", "Transfer", "Verdict", "Waterfall", "hardware", "named_part", "read_record", "write_record",
]  # fmt: skip
