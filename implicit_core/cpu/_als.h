// Alternating least squares for one row: with A = G + ridge I + sum_k w_k y_k y_k^T and b = sum_k b_k y_k over the
// stored entries k of the row, improve or solve A x = b. G is the gram matrix of the fixed factors Y.
#pragma once
#include "_dots.h"
#include "_span.h"
#include <algorithm>
#include <cmath>

// How a stored value becomes (weight w, right-hand side b): with c = alpha * value in single precision,
// CONFIDENCE (|c| - 1, max(c, 0)), for cells that count as 1 when nothing is stored, or OBSERVED (c, c).
enum Policy { CONFIDENCE, OBSERVED };

template <class T, class V>
inline void entries(const V *values, std::ptrdiff_t n, float alpha, int policy, T *weight, T *rhs) {
    for (std::ptrdiff_t k = 0; k < n; ++k) {
        const float c = alpha * static_cast<float>(values[k]);
        weight[k] = policy == OBSERVED ? T(c) : T(std::fabs(c)) - 1;
        rhs[k] = policy == OBSERVED ? T(c) : std::max(T(c), T(0));
    }
}

// The fixed side of a half-step.
template <class T> struct Fixed {
    Span<const T> Y;
    Span<const T> gram;
    std::ptrdiff_t factors;

    const T *row(std::ptrdiff_t i) const { return Y.slice(i * factors, factors); }
};

// The stored entries of the row being solved.
template <class T> struct Row {
    const std::int32_t *ids;
    const T *weight;
    const T *rhs;
    std::ptrdiff_t n;
    std::ptrdiff_t readable; // how many ids may be read: n, and those of the rows that follow
    T ridge;
};

constexpr std::ptrdiff_t AHEAD = 12; // entries between a prefetch and its use

// out = A v, or A v - b. Entries go four at a time: each y is read once for its product with v and for the update.
template <bool minus_b, class T>
ALWAYS_INLINE void apply(const Fixed<T> &fixed, const Row<T> &row, const T *RESTRICT v, T *RESTRICT out) {
    const std::ptrdiff_t f = fixed.factors;
#pragma omp simd
    for (std::ptrdiff_t j = 0; j < f; ++j) out[j] = row.ridge * v[j];

    std::ptrdiff_t i = 0;
    for (; i + 4 <= f; i += 4) {
        const T *g0 = fixed.gram.slice(i * f, 4 * f), *g1 = g0 + f, *g2 = g1 + f, *g3 = g2 + f;
        const T v0 = v[i], v1 = v[i + 1], v2 = v[i + 2], v3 = v[i + 3];
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) out[j] = out[j] + v0 * g0[j] + v1 * g1[j] + v2 * g2[j] + v3 * g3[j];
    }
    for (; i < f; ++i) {
        const T *g = fixed.gram.slice(i * f, f), vi = v[i];
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) out[j] += vi * g[j];
    }

    std::ptrdiff_t k = 0;
    for (; k + 4 <= row.n; k += 4) {
        if (minus_b)
            for (std::ptrdiff_t l = k + AHEAD; l < std::min(k + AHEAD + 4, row.readable); ++l)
                for (std::ptrdiff_t j = 0; j < f; j += WIDTH<T>) __builtin_prefetch(fixed.row(row.ids[l]) + j);
        const T *const y[4] = {fixed.row(row.ids[k]), fixed.row(row.ids[k + 1]), fixed.row(row.ids[k + 2]),
                               fixed.row(row.ids[k + 3])};
        T s[4];
        dots(y, v, f, s);
        for (int e = 0; e < 4; ++e) s[e] = row.weight[k + e] * s[e] - (minus_b ? row.rhs[k + e] : T(0));
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j)
            out[j] = out[j] + s[0] * y[0][j] + s[1] * y[1][j] + s[2] * y[2][j] + s[3] * y[3][j];
    }
    for (; k < row.n; ++k) {
        const T *y = fixed.row(row.ids[k]);
        const T s = row.weight[k] * dot(y, v, f) - (minus_b ? row.rhs[k] : T(0));
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) out[j] += s * y[j];
    }
}

// `steps` steps of conjugate gradient from the current x (Takacs, Pilaszy & Tikk 2011). `work` holds 3 f elements.
template <class Set, class T>
ALWAYS_INLINE void conjugate_gradient_body(Fixed<T> fixed, Row<T> row, int steps, T *RESTRICT x, T *RESTRICT work) {
    const std::ptrdiff_t f = fixed.factors;
    const double tiny = 1e-20;
    T *RESTRICT r = work, *RESTRICT p = work + f, *RESTRICT Ap = work + 2 * f;
    apply<true>(fixed, row, x, Ap);
#pragma omp simd
    for (std::ptrdiff_t j = 0; j < f; ++j) p[j] = r[j] = -Ap[j];
    T rsold = dot(r, r, f);
    for (int step = 0; step < steps && rsold >= tiny; ++step) {
        apply<false>(fixed, row, p, Ap);
        const T length = rsold / dot(p, Ap, f);
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) {
            x[j] += length * p[j];
            r[j] -= length * Ap[j];
        }
        const T rsnew = dot(r, r, f), beta = rsnew / rsold;
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) p[j] = r[j] + beta * p[j];
        rsold = rsnew;
    }
}
FOR_BEST_ISA(conjugate_gradient, conjugate_gradient_body)

// The exact solution by A = U^T U; false where A is not positive definite, and x is then as before.
// `work` holds f (f + 1) elements; only the upper triangle is formed.
template <class Set, class T>
ALWAYS_INLINE bool cholesky_body(Fixed<T> fixed, Row<T> row, T *RESTRICT x, T *RESTRICT work) {
    const std::ptrdiff_t f = fixed.factors;
    T *RESTRICT U = work, *RESTRICT b = work + f * f;
    std::copy_n(fixed.gram.slice(0, f * f), f * f, U);
    std::fill_n(b, f, T(0));
    for (std::ptrdiff_t i = 0; i < f; ++i) U[i * f + i] += row.ridge;

    std::ptrdiff_t k = 0;
    for (; k + 4 <= row.n; k += 4) {
        const T *y0 = fixed.row(row.ids[k]), *y1 = fixed.row(row.ids[k + 1]);
        const T *y2 = fixed.row(row.ids[k + 2]), *y3 = fixed.row(row.ids[k + 3]);
        const T *w = row.weight + k, *c = row.rhs + k;
        for (std::ptrdiff_t i = 0; i < f; ++i) {
            const T s0 = w[0] * y0[i], s1 = w[1] * y1[i], s2 = w[2] * y2[i], s3 = w[3] * y3[i];
            T *RESTRICT u = U + i * f;
#pragma omp simd
            for (std::ptrdiff_t j = i; j < f; ++j) u[j] += (s0 * y0[j] + s1 * y1[j]) + (s2 * y2[j] + s3 * y3[j]);
        }
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) b[j] += (c[0] * y0[j] + c[1] * y1[j]) + (c[2] * y2[j] + c[3] * y3[j]);
    }
    for (; k < row.n; ++k) {
        const T *y = fixed.row(row.ids[k]), c = row.rhs[k];
        for (std::ptrdiff_t i = 0; i < f; ++i) {
            const T s = row.weight[k] * y[i];
            T *RESTRICT u = U + i * f;
#pragma omp simd
            for (std::ptrdiff_t j = i; j < f; ++j) u[j] += s * y[j];
        }
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < f; ++j) b[j] += c * y[j];
    }

    for (std::ptrdiff_t i = 0; i < f; ++i) {
        T *RESTRICT pivot = U + i * f;
        if (!(pivot[i] > 0)) return false;
        const T inverse = 1 / std::sqrt(pivot[i]);
#pragma omp simd
        for (std::ptrdiff_t j = i; j < f; ++j) pivot[j] *= inverse;
        b[i] /= pivot[i];
        for (std::ptrdiff_t l = i + 1; l < f; ++l) {
            const T s = pivot[l];
            T *RESTRICT u = U + l * f;
#pragma omp simd
            for (std::ptrdiff_t j = l; j < f; ++j) u[j] -= s * pivot[j];
        }
        const T bi = b[i];
#pragma omp simd
        for (std::ptrdiff_t j = i + 1; j < f; ++j) b[j] -= bi * pivot[j];
    }
    for (std::ptrdiff_t i = f; i-- > 0;) {
        const T *u = U + i * f;
        b[i] = (b[i] - dot(u + i + 1, b + i + 1, f - i - 1)) / u[i];
    }
    std::copy_n(b, f, x);
    return true;
}
FOR_BEST_ISA(cholesky, cholesky_body)

// Sum over the stored entries of w s^2 - 2 b s + b with s = x . y_k: what they add to the squared error of a row.
template <class Set, class T> ALWAYS_INLINE double row_error_body(Fixed<T> fixed, Row<T> row, const T *x) {
    double error = 0;
    for (std::ptrdiff_t k = 0; k < row.n; ++k) {
        const double s = dot(fixed.row(row.ids[k]), x, fixed.factors);
        error += row.weight[k] * s * s - 2 * row.rhs[k] * s + row.rhs[k];
    }
    return error;
}
FOR_BEST_ISA(row_error, row_error_body)

// The gram matrix of `rows` rows in double precision: the upper triangle, by tiles, of `out` (width x width, zeroed,
// width = factors rounded up to a multiple of GRAM_TILE). `work` holds GRAM_ROWS * width elements.
constexpr std::ptrdiff_t GRAM_ROWS = 32, GRAM_TILE = 16;

template <class Set, class T>
ALWAYS_INLINE void gram_block_body(Span<const T> Y, std::ptrdiff_t rows, std::ptrdiff_t factors, std::ptrdiff_t width,
                                   double *RESTRICT out, double *RESTRICT work) {
    constexpr int HEIGHT = 4;
    std::fill_n(work, GRAM_ROWS * width, 0.0);
    for (std::ptrdiff_t first = 0; first < rows; first += GRAM_ROWS) {
        const std::ptrdiff_t n = std::min(GRAM_ROWS, rows - first);
        const T *y = Y.slice(first * factors, n * factors);
        for (std::ptrdiff_t r = 0; r < n; ++r)
#pragma omp simd
            for (std::ptrdiff_t j = 0; j < factors; ++j) work[r * width + j] = y[r * factors + j];

        for (std::ptrdiff_t i = 0; i < factors; i += HEIGHT)
            for (std::ptrdiff_t j = i / GRAM_TILE * GRAM_TILE; j < width; j += GRAM_TILE) {
                double sum[HEIGHT][GRAM_TILE] = {};
                for (std::ptrdiff_t r = 0; r < n; ++r) {
                    const double *left = work + r * width + i, *right = work + r * width + j;
                    for (int a = 0; a < HEIGHT; ++a)
#pragma omp simd
                        for (int b = 0; b < GRAM_TILE; ++b) sum[a][b] += left[a] * right[b];
                }
                for (int a = 0; a < HEIGHT; ++a)
#pragma omp simd
                    for (int b = 0; b < GRAM_TILE; ++b) out[(i + a) * width + j + b] += sum[a][b];
            }
    }
}
FOR_BEST_ISA(gram_block, gram_block_body)
