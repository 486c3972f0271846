"""From raw timings and samples to figures: latency, ratios of engines, conditions, energy, and the roofline's floor under them.

Knows no attack and no verdict, and asks no engine.
"""
