"""Weights of interactions from information retrieval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from implicit_core._checks import check_number
from implicit_core._errors import ModelFitError
from implicit_core._matrices import check_coo
from implicit_core.cpu import kernels


def tfidf_weight(X: Any) -> coo_matrix:
    r"""Weight a matrix by term frequency and inverse document frequency.

    .. math:: w_{ij} = \sqrt{x_{ij}} \; \ln\frac{\text{rows}}{1 + n_j}

    with n_j the number of entries stored in column j.

    Parameters
    ----------
    X : sparse matrix, shape (rows, columns)
        Values of at least 0.

    Returns
    -------
    weighted : coo_matrix of float64, of the same shape

    Raises
    ------
    ValueError
        A value is negative or NaN.
    """
    X = _floats(X)
    if not (X.data >= 0).all():
        raise ValueError("tfidf_weight takes the square root of each value, so they must be at least 0")
    _, stored = kernels.sum_rows_and_count_columns(X)
    X.data = np.sqrt(X.data) * _idf(X, stored)[X.col]
    return X


def normalize(X: Any) -> coo_matrix:
    """Scale each row to unit L2 norm; a row of zeros stays as it is.

    Parameters
    ----------
    X : sparse matrix, shape (rows, columns)

    Returns
    -------
    normalized : coo_matrix of float64, of the same shape
    """
    X = _floats(X)
    _, exponent = np.frexp(np.abs(X.data).max(initial=0))
    X.data = np.ldexp(X.data, -exponent)  # exact, and no square can overflow
    norms = np.sqrt(np.bincount(X.row, X.data**2, minlength=X.shape[0]))
    norms[norms == 0] = 1
    X.data = X.data / norms[X.row]
    return X


def bm25_weight(X: Any, K1: float = 100, B: float = 0.8) -> coo_matrix:
    r"""Weight a matrix by Okapi BM25.

    .. math:: w_{ij} = \frac{(K_1 + 1)\, x_{ij}}{K_1 (1 - B + B\, l_i / \bar l) + x_{ij}} \ln\frac{\text{rows}}{1 + n_j}

    with l_i the sum of row i, l̄ their mean, and n_j the number of entries stored in column j.

    Parameters
    ----------
    X : sparse matrix, shape (rows, columns)
    K1 : float, default 100
        How slowly the weight of a growing value levels off.
    B : float, default 0.8
        From 0 (not at all) to 1: how much rows with a large sum are scaled down.

    Returns
    -------
    weighted : coo_matrix of float64, of the same shape

    Raises
    ------
    TypeError, ValueError
        K1 is negative, B lies outside 0 … 1, or a value or a weight is not finite.

    Notes
    -----
    S. Robertson, H. Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009.
    """
    K1, B, X = check_number(K1, "K1", 0), check_number(B, "B", 0), _floats(X)
    if B > 1:
        raise ValueError(f"B must lie between 0 and 1, got {B}")
    lengths, stored = kernels.sum_rows_and_count_columns(X)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = K1 * (1 - B + B * lengths / (lengths.mean() or 1)) if len(lengths) else lengths
    if not kernels.bm25(X, K1 + 1, scale, _idf(X, stored)):
        raise ModelFitError("X holds values whose weights are not finite; scale them down")
    return X


def _floats(X: Any) -> coo_matrix:
    """A new COO matrix of float64; its index arrays may be shared."""
    X = check_coo(X, "X")
    with np.errstate(over="ignore"):
        data = X.data.astype(np.float64)
    if not np.isfinite(data).all():
        raise ValueError(f"X must hold finite values, got {X.data[~np.isfinite(data)][0]}")
    X.data = data
    return X


def _idf(X: coo_matrix, stored: NDArray[np.int64]) -> NDArray[np.float64]:
    """Inverse document frequency of columns with so many entries, log 1 for a matrix without rows.

    It is the logarithm of a quotient, since a difference of logarithms would leave rounding noise where it must be 0.
    """
    idf: NDArray[np.float64] = np.log(max(X.shape[0], 1) / (1 + stored))
    return idf
