"""Loops of BM25: what it needs to know of rows and columns, and the weights."""
from cython.parallel cimport prange
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t

ctypedef fused index:
    int32_t
    int64_t


def sum_rows_and_count_columns(
    const index[::1] rows,  # IN: of each entry
    const index[::1] columns,  # IN
    const double[::1] values,  # IN
    double[::1] sums,  # OUT, zeroed
    int64_t[::1] counts,  # OUT, zeroed
    int num_threads,
):
    """The sum of the values of each row, in their order, and the number of entries of each column."""
    cdef int task
    for task in prange(2, nogil=True, schedule="dynamic", num_threads=num_threads):
        if task == 0:
            _sum_rows(rows, values, sums)
        else:
            _count_columns(columns, counts)


cdef void _sum_rows(const index[::1] rows, const double[::1] values, double[::1] sums) noexcept nogil:
    cdef Py_ssize_t i
    cdef index row = rows[0]
    cdef double total = 0
    for i in range(rows.shape[0]):
        if rows[i] != row:  # entries of a row mostly follow each other: their sum stays in a register
            sums[row] = total
            row = rows[i]
            total = sums[row]
        total += values[i]
    sums[row] = total


cdef void _count_columns(const index[::1] columns, int64_t[::1] counts) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(columns.shape[0]):
        counts[columns[i]] += 1


def bm25(
    const index[::1] rows,  # IN: of each entry
    const index[::1] columns,  # IN
    double[::1] values,  # IN/OUT: replaced by their weights
    double gain,
    const double[::1] scale,  # IN: per row
    const double[::1] idf,  # IN: per column
    int num_threads,
):
    """gain * value / (scale + value) * idf, in place, 0 / 0 being 0; False if one is not finite."""
    cdef Py_ssize_t i, bad = 0
    cdef double value, denominator
    for i in prange(rows.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        denominator = scale[rows[i]] + values[i]
        value = values[i] * gain / (denominator if denominator != 0 else 1) * idf[columns[i]]
        bad += not isfinite(value)
        values[i] = value
    return bad == 0
