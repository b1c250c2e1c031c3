"""Which device a model computes on, and how one public class stands for a class per device."""

from __future__ import annotations

import importlib
import inspect
from abc import ABCMeta
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from implicit_core import gpu
from implicit_core._kernels import Kernels
from implicit_core.cpu import kernels as cpu_kernels


def refusal(lacking: str) -> str:
    """Why the GPU cannot be used; empty where it can.

    Parameters
    ----------
    lacking : str
        What is asked for and the GPU does not offer; empty where it offers everything.
    """
    if lacking:
        return f"the GPU does not offer {lacking}; leave use_gpu out, or set it to False, to compute on the CPU"
    return gpu.why_not()


def is_float64(parameters: Mapping[str, Any]) -> bool:
    """Whether the parameters of a model ask for factors of float64."""
    try:
        return bool(np.dtype(parameters.get("dtype", np.float32)) == np.float64)
    except TypeError:  # what is no type at all is refused where parameters are checked
        return False


def choose_device(use_gpu: bool | None, lacking: str = "") -> str:
    """``"gpu"`` or ``"cpu"``; None means the GPU if it works and offers everything; see :func:`refusal`.

    Raises
    ------
    ValueError
        A GPU is asked for, and there is none to use, or it does not offer everything.
    """
    if use_gpu is None:
        return "gpu" if not lacking and gpu.HAS_CUDA else "cpu"
    if use_gpu and (reason := refusal(lacking)):
        raise ValueError(f"use_gpu=True cannot be met: {reason}")
    return "gpu" if use_gpu else "cpu"


def kernels_of(device: str) -> Kernels:
    """The module that computes on a device.

    Raises
    ------
    ValueError
        There is no such device.
    """
    if device == "cpu":
        return cpu_kernels
    if device != "gpu" or not gpu.HAS_CUDA:
        raise ValueError(f"device must be 'cpu', got {device!r}: {gpu.why_not()}")
    return cast("Kernels", importlib.import_module("implicit_core.gpu.kernels"))  # which imports CuPy


class DeviceClass(ABCMeta):
    """Metaclass of a model whose public class returns an instance of its subclass for a device.

    Calling the public class binds the arguments to its own signature and passes them on by name, since the device
    classes have another order of parameters. Its other subclasses, those of users, are made as usual.
    """

    _device_classes: dict[str, type]
    _choose_device: Callable[[bool | None, Mapping[str, Any]], str]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Create a model."""
        if "_device_classes" not in vars(cls):
            return super().__call__(*args, **kwargs)
        arguments = cls.__signature__.bind(*args, **kwargs).arguments
        device = cls._choose_device(arguments.pop("use_gpu", None), arguments)
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


def class_for(cls: type, device: str) -> type:
    """The sibling of a class for a device that computes on another one; a class of a user itself."""
    classes: dict[str, type] = vars(public_class(cls)).get("_device_classes", {})
    return classes[device] if cls in classes.values() else cls


def public_class(cls: type) -> type:
    """The public class that a class for a device belongs to; any other class itself."""
    return next((c for c in cls.__mro__ if cls in vars(c).get("_device_classes", {}).values()), cls)
