"""One run over several devices: which ones, and how each gets a run folder of its own."""
