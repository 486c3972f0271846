"""The engine names a class and nothing else."""

HELLO = {"output": "labels"}
