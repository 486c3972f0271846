"""What the device does while it is timed: power, temperature, clocks, throttling and other programs' load, sampled beside the timing.

Knows no engine, no latency and no limit: raw samples go back with the result and are judged on the workstation. Standard library
only, Python >= 3.10. A new provider is one small file and one line in `PROVIDERS`.
"""

from __future__ import annotations

PROVIDERS = {
    "load": "devices.telemetry.load",
    "cpufreq": "devices.telemetry.cpufreq",
    "thermal": "devices.telemetry.thermal",
    "throttle": "devices.telemetry.throttle",
    "rapl": "devices.telemetry.rapl",
    "ina3221": "devices.telemetry.ina3221",
    "tegrastats": "devices.telemetry.tegrastats",
    "nvidia-smi": "devices.telemetry.nvidia_smi",
}
