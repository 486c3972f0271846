"""What can go wrong between a twin and an artefact. Caught once, in `harness.cli`."""


class ExportError(Exception):
    """A model cannot be exported, or an artefact is not what it claims to be. The message names the remedy."""
