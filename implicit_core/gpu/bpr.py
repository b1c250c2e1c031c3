"""Bayesian personalized ranking on a GPU, under the name of ``implicit.gpu.bpr``."""

from implicit_core.bpr import GPUBayesianPersonalizedRanking as BayesianPersonalizedRanking

__all__ = ["BayesianPersonalizedRanking"]
