"""Faulty deployments. A new one is one file here, see `harness.selftest.deployment`."""
