"""What the device does while it is timed: power, temperature, clocks, throttling and other programs' load, sampled beside the timing.

Knows no engine, no latency and no limit: raw samples go back with the result and are judged on the workstation. Standard library
only, Python >= 3.10. A new provider is one small file and one line in `PROVIDERS`.
"""

from __future__ import annotations

PROVIDERS = {
    "load": "devices.worker.telemetry.load",
    "cpufreq": "devices.worker.telemetry.cpufreq",
    "thermal": "devices.worker.telemetry.thermal",
    "throttle": "devices.worker.telemetry.throttle",
    "rapl": "devices.worker.telemetry.rapl",
    "ina3221": "devices.worker.telemetry.ina3221",
    "tegrastats": "devices.worker.telemetry.tegrastats",
    "nvidia-smi": "devices.worker.telemetry.nvidia_smi",
}
