"""`python -m harness`, which torchrun starts by name."""

from harness.cli import main

main()
