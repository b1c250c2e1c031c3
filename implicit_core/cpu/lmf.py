"""Logistic matrix factorization on the CPU, under the name of ``implicit.cpu.lmf``."""

from implicit_core.lmf import CPULogisticMatrixFactorization as LogisticMatrixFactorization

__all__ = ["LogisticMatrixFactorization"]
