"""Attacks on twins: one table, and the code that makes, checks and stores adversarial sets.

Knows no engine and no device. An attack is never trusted: what it returns is snapped, projected and tested again.
"""
