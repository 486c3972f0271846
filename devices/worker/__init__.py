"""What ships to a device, this whole folder: runtimes, the TensorRT builder, timing, telemetry, and the agent that keeps files there.

Knows neither who asks nor what the answers are for. numpy, the standard library and the runtime only; Python 3.10 or newer.
"""
