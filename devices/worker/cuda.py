"""The CUDA driver, as much of it as one inference needs: memory, copies, a stream, events. ctypes on libcuda, Python >= 3.10.

The driver's own library is wherever a GPU works (a Jetson has no Python package for CUDA), and its handles are those that TensorRT takes:
a `CUstream` is a `cudaStream_t`. Signatures: NVIDIA, CUDA Driver API, cuda.h; `_v2` is what the header's macros stand for on 64 bits.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np
from numpy.typing import NDArray

LIBRARY = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
BLOCKING_FREE = 1  # CU_STREAM_NON_BLOCKING: does not wait for the legacy default stream

_SIGNATURES: dict[str, tuple[type, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemAllocHost_v2": (POINTER(c_void_p), c_size_t),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuEventCreate": (POINTER(c_void_p), c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
}


class DriverError(Exception):
    """There is no driver, it finds no GPU, or a call failed. The message says which."""


class Buffer:
    """Memory on the GPU, and pinned memory of the same size on the host as a float32 array.

    Attributes:
        device: the GPU's address.
        host: float32, as many numbers as fit.
    """

    def __init__(self, cuda: Cuda, count: int) -> None:
        self._cuda, self.bytes = cuda, 4 * count
        address, pinned = c_uint64(), c_void_p()
        cuda.call("cuMemAlloc_v2", byref(address), self.bytes)
        self.device = address.value
        cuda.call("cuMemAllocHost_v2", byref(pinned), self.bytes)
        self._pinned = pinned
        self.host: NDArray[np.float32] = np.ctypeslib.as_array(ctypes.cast(pinned, POINTER(c_float)), (count,))

    def free(self) -> None:
        """Give both back. `host` must not be read any more."""
        del self.host
        self._cuda.call("cuMemFreeHost", self._pinned)
        self._cuda.call("cuMemFree_v2", self.device)


class Cuda:
    """The first GPU, its primary context made current, and one stream.

    Raises:
        DriverError: no driver, or no GPU.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DriverError(f"there is no NVIDIA driver: {error}") from error
        for name, types in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = types, c_int
        self._library.cuGetErrorString.argtypes, self._library.cuGetErrorString.restype = (c_int, POINTER(c_char_p)), c_int
        self.call("cuInit", 0)
        device, context, stream = c_int(), c_void_p(), c_void_p()
        self.call("cuDeviceGet", byref(device), 0)
        self._device = device.value
        self.call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuStreamCreate", byref(stream), BLOCKING_FREE)
        self.stream = int(stream.value or 0)

    def call(self, name: str, *arguments: object) -> None:
        """One function of the driver.

        Raises:
            DriverError: it returned an error, in the driver's own words.
        """
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            text = c_char_p()
            self._library.cuGetErrorString(code, byref(text))
            raise DriverError(f"{name}: {(text.value or b'unknown error').decode()} (CUDA error {code})")

    def describe(self) -> dict[str, str]:
        """Name and compute capability of the GPU, version of CUDA that the driver supports."""
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), self._device)
        major, minor, version = c_int(), c_int(), c_int()
        self.call("cuDeviceGetAttribute", byref(major), CAPABILITY_MAJOR, self._device)
        self.call("cuDeviceGetAttribute", byref(minor), CAPABILITY_MINOR, self._device)
        self.call("cuDriverGetVersion", byref(version))
        cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return {"gpu": name.value.decode(), "compute_capability": f"{major.value}.{minor.value}", "cuda_driver": cuda}

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody has taken."""
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def send(self, buffer: Buffer, count: int) -> None:
        """Queue the copy of the first `count` numbers to the GPU."""
        self.call("cuMemcpyHtoDAsync_v2", buffer.device, buffer.host.ctypes.data, 4 * count, self.stream)

    def fetch(self, buffer: Buffer, count: int) -> None:
        """Queue the copy of the first `count` numbers to the host."""
        self.call("cuMemcpyDtoHAsync_v2", buffer.host.ctypes.data, buffer.device, 4 * count, self.stream)

    def wait(self) -> None:
        """Until everything queued is done."""
        self.call("cuStreamSynchronize", self.stream)

    def event(self) -> int:
        """A new event with a clock."""
        event = c_void_p()
        self.call("cuEventCreate", byref(event), 0)
        return int(event.value or 0)

    def record(self, event: int) -> None:
        """Queue a reading of the GPU's clock."""
        self.call("cuEventRecord", event, self.stream)

    def elapsed_ns(self, start: int, end: int) -> int:
        """Between two events that have been reached; the clock's resolution is about half a microsecond."""
        milliseconds = c_float()
        self.call("cuEventElapsedTime", byref(milliseconds), start, end)
        return round(milliseconds.value * 1e6)

    def drop(self, event: int) -> None:
        """Give an event back."""
        self.call("cuEventDestroy_v2", event)

    def close(self) -> None:
        """Give back stream and context."""
        self.call("cuStreamDestroy_v2", self.stream)
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)
