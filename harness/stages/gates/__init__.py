"""The gates of a run, by what they are about: the data, the attacks, an engine. What each one asks is in `harness.audit.gates`."""
