"""The benchmarking paper's tables beside this project's networks: what it printed, what is measured here, what its claims come to.

Knows attacks through `harness.attacks` and networks through their cards; trains nothing and knows no device but through `harness.spine`.
"""
