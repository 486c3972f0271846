"""What can go wrong while an engine is built on a device."""


class BuildError(Exception):
    """A file cannot be built into an engine, or an engine file is not what it claims to be. The message names the remedy."""
