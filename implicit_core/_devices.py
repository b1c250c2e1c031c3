"""Which device a model computes on, and how one public class stands for a class per device."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

from implicit_core import gpu
from implicit_core._kernels import Kernels
from implicit_core.cpu import kernels as cpu_kernels


def choose_device(use_gpu: bool | None) -> str:
    """``"gpu"`` or ``"cpu"``; None means the GPU if it works.

    Raises
    ------
    ValueError
        A GPU is asked for and there is none to use.
    """
    if use_gpu and not gpu.HAS_CUDA:
        raise ValueError(f"use_gpu=True cannot be met: {gpu.why_not()}")
    return "gpu" if gpu.HAS_CUDA and use_gpu is not False else "cpu"


def kernels_of(device: str) -> Kernels:
    """The module that computes on a device."""
    if device != "cpu":
        raise ValueError(f"device must be 'cpu', got {device!r}: {gpu.why_not()}")
    return cpu_kernels


class DeviceClass(ABCMeta):
    """Metaclass of a model whose public class returns an instance of its subclass for a device.

    Calling the public class binds the arguments to its own signature and passes them on by name, since the device
    classes have another order of parameters. Its other subclasses, those of users, are made as usual.
    """

    _device_classes: dict[str, type]
    _choose_device: Callable[[bool | None], str]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Create a model."""
        if "_device_classes" not in vars(cls):
            return super().__call__(*args, **kwargs)
        arguments = cls.__signature__.bind(*args, **kwargs).arguments
        device = cls._choose_device(arguments.pop("use_gpu", None))
        return cls._device_classes[device](**arguments)

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor, which that of ``__call__`` would hide."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]  # cls is a class, not an instance
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def register_device_class(public: DeviceClass, subclass: type, device: str, module: str) -> None:
    """Let calls of ``public`` for a device return ``subclass``, which has its public place in ``module``."""
    subclass.__name__ = subclass.__qualname__ = public.__name__
    subclass.__module__ = module
    if "_device_classes" not in vars(public):
        public._device_classes = {}
    public._device_classes[device] = subclass


def public_class(cls: type) -> type:
    """The public class that a class for a device belongs to; any other class itself."""
    return next((c for c in cls.__mro__ if cls in vars(c).get("_device_classes", {}).values()), cls)
