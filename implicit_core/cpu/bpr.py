"""Bayesian personalized ranking on the CPU, under the name of ``implicit.cpu.bpr``."""

from implicit_core.bpr import CPUBayesianPersonalizedRanking as BayesianPersonalizedRanking

__all__ = ["BayesianPersonalizedRanking"]
