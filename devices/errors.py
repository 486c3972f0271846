"""What can go wrong with a device. Caught once, in `harness.cli`."""


class DeviceError(Exception):
    """A device cannot be reached or used. The message names the remedy."""


class StuckError(DeviceError):
    """What runs on a device talks and talks, and gets no further. It is to be stopped there."""
