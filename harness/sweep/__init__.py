"""Many compressions, one bench each: what to do, what is done already, and who does it.

Knows `harness compress` and `harness bench` as functions and adds nothing to what they compute; knows no method, attack or device by name.
"""
