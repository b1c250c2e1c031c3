"""GPU support: this release computes on the CPU alone."""

HAS_CUDA = False  #: whether models can be trained on a GPU
HAS_RMM = False  #: kept since callers of ``implicit`` look at it; RMM is never needed


def why_not() -> str:
    """Say why no GPU is used and what to do about it."""
    return (
        "this release of implicit_core has no GPU solvers; "
        "leave use_gpu out, or set it to False, to train on the CPU with all cores"
    )
