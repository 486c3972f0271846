"""Sound deployments: they must pass. A new one is one file here, see `harness.selftest.deployment`."""
