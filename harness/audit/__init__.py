"""Twin against engine: paired statistics, metrics, gates and the verdict of each claim.

Knows arrays of predictions only: no model, no attack, no device.
"""
