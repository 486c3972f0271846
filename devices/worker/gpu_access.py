"""Whether this login may use the NVIDIA GPU: its device nodes belong to a group, and one who is not in it gets a driver's cryptic error.

Standard library only, Python >= 3.10.
"""

from __future__ import annotations

import grp
import os
import pwd

from devices.worker.reader import Reader

# What CUDA opens, on a PC and a Jetson Thor, and on Jetsons with NVIDIA's older driver. Of each pattern one node that opens is enough.
NODES = (
    "/dev/nvidiactl", "/dev/nvidia[0-9]*", "/dev/nvidia-uvm",
    "/dev/nvmap", "/dev/nvhost-ctrl-gpu", "/dev/nvhost-gpu", "/dev/nvgpu/*/ctrl",
)  # fmt: skip
GROUP_MAY = 0o060


def barred(reader: Reader) -> str:
    """Why this login may not use the GPU, and what to type; "" where it may, or there is none."""
    found = [reader.paths(pattern) for pattern in NODES]
    closed = [paths[0] for paths in found if paths and not any(map(reader.opens, paths))]
    if not closed:
        return ""
    groups = {_group(reader, path) for path in closed}
    user = _name_of_user()
    if named := ",".join(sorted(group for group in groups if group)):
        remedy = f"Type there: sudo usermod -aG {named} {user}, then log in again"
    else:
        remedy = "It is open to root alone: load the driver with NVreg_DeviceFileMode=0666, or let a udev rule give it to the group video"
    return f"the login {user} may not use the GPU: {closed[0]} cannot be opened. {remedy}"


def _group(reader: Reader, path: str) -> str:
    """The group that may open a node, "" where there is none but root's."""
    mode, gid = reader.rights(path)
    if gid == 0 or mode & GROUP_MAY != GROUP_MAY:
        return ""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"#{gid}"


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
