"""Is there an NVIDIA GPU in this machine, and is it the declared one?"""

from __future__ import annotations

from devices.host.errors import DeviceError
from devices.host.profile import DeviceProfile
from devices.worker.gpu_access import barred
from devices.worker.observed import gpu
from devices.worker.reader import Reader

ON_GPU = frozenset(("tensorrt", "torch-tensorrt"))  # runtimes that cannot do without


def require_gpu(profile: DeviceProfile, reader: Reader | None = None) -> None:
    """See that the first GPU of this machine is there and is the one that the profile names, if it names one.

    Raises:
        DeviceError: no driver, no GPU, one that this login may not use, or another one; the message names the remedy.
    """
    reader = reader or Reader()
    found = gpu(reader)
    if found is None and (why := barred(reader)):
        raise DeviceError(f"{profile.name}: {why}")
    if found is None:
        raise DeviceError(
            f"{profile.name} needs an NVIDIA GPU in this machine, and nvidia-smi does not answer: there is no driver, or no GPU. "
            "Install the driver, reach the machine that has the GPU with --host, or choose another device (harness devices list)."
        )
    wanted = profile.identity.gpu
    if wanted is not None and found["name"] != wanted:
        raise DeviceError(f"{profile.name} is a {wanted}; this machine's first GPU is a {found['name']}. Use --device cuda for any GPU.")
