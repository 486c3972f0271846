"""`harness selftest`: does the audit catch what it promises to catch?

Faulty and sound deployments of a small network, each one file in `faults/` or `sound/`, go through the real stages of a bench, its gates
and its judge. What must catch a fault stands in its file beforehand. Knows no gate's logic: it reads what a finished record says.
"""
