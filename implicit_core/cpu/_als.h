// Alternating least squares for one row: with A = G + ridge I + sum_k w_k y_k y_k^T and b = sum_k b_k y_k over the
// stored entries k of the row, improve or solve A x = b. G is the gram matrix of the fixed factors Y.
#pragma once
#include "_simd.h"
#include "_span.h"
#include <algorithm>
#include <cmath>

// How a stored value becomes (weight w, right-hand side b): with c = alpha * value in single precision,
// CONFIDENCE (|c| - 1, max(c, 0)), for cells that count as 1 when nothing is stored, or OBSERVED (c, c).
enum Policy { CONFIDENCE, OBSERVED };

// `weight` and `rhs` have room for n rounded up to whole groups: what is beyond n counts for nothing.
constexpr std::ptrdiff_t GROUP = 4;

constexpr std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }
constexpr std::ptrdiff_t grouped(std::ptrdiff_t n) { return round_up(n, GROUP); }

template <class T, class V>
inline void entries(const V *values, std::ptrdiff_t n, float alpha, int policy, T *weight, T *rhs) {
    for (std::ptrdiff_t k = 0; k < n; ++k) {
        const float c = alpha * static_cast<float>(values[k]);
        weight[k] = policy == OBSERVED ? T(c) : T(std::fabs(c)) - 1;
        rhs[k] = policy == OBSERVED ? T(c) : std::max(T(c), T(0));
    }
    for (std::ptrdiff_t k = n; k < grouped(n); ++k) weight[k] = rhs[k] = 0;
}

// The fixed side of a half-step. A row of Y may be read for `width` elements, the factors rounded up to a multiple of
// WIDTH: what is beyond belongs to the rows that follow. The last rows, for which none do, lie in `last`.
constexpr std::ptrdiff_t WIDTH = 16;

template <class T> struct Fixed {
    Span<const T> Y;
    Span<const T> last;
    std::ptrdiff_t first_of_last;
    Span<const T> gram; // factors x width, zero beyond the factors
    std::ptrdiff_t factors;
    std::ptrdiff_t width;

    const T *row(std::ptrdiff_t i) const {
        return i < first_of_last ? Y.slice(i * factors, width) : last.slice((i - first_of_last) * factors, width);
    }
    const T *gram_row(std::ptrdiff_t i) const { return gram.slice(i * width, width); }
    void prefetch(std::ptrdiff_t start, std::ptrdiff_t stop) const {
        for (std::ptrdiff_t j = start * factors; j < stop * factors; j += 64 / sizeof(T))
            __builtin_prefetch(Y.data + j, 0, 2);
    }
};

// The stored entries of the row being solved.
template <class T> struct Row {
    const std::int32_t *ids;
    const T *weight;
    const T *rhs;
    std::ptrdiff_t n;
    T ridge;
};

// Fetches rows of Y into the cache while others are worked on. `next` is the first entry that was not asked for.
struct Stream {
    const std::int32_t *next;
    const std::int32_t *end; // of the entries of all rows
    bool again;              // the row being solved does not stay in the cache: fetch it again in each pass

    static constexpr std::ptrdiff_t BYTES = 1 << 17; // of Y ahead of the row being solved
    static constexpr std::ptrdiff_t PACE = 2;        // entries to ask for while a group is worked on
    static constexpr std::ptrdiff_t AHEAD = 12;      // entries between asking and use in a row that does not stay

    template <class T> ALWAYS_INLINE void fetch(const Fixed<T> &fixed, const std::int32_t *stop) {
        for (; next < stop; ++next) fixed.prefetch(*next, std::ptrdiff_t(*next) + 1);
    }
};

constexpr std::ptrdiff_t LONG_BYTES = 2 * Stream::BYTES; // of Y, which the entries of a long row take more of

template <class Set, class T> ALWAYS_INLINE T dot(const T *a, const T *b, std::ptrdiff_t width) {
    using V = Vec<Set, T>;
    V sum = {};
    for (std::ptrdiff_t j = 0; j < width; j += V::LANES) sum = sum + V::load(a + j) * V::load(b + j);
    constexpr int n = V::LANES < 4 ? V::LANES : 4;
    double totals[n] = {};
    for (int l = 0; l < V::LANES; ++l) totals[l % n] += sum.lanes[l];
    return n < 4 ? T(totals[0] + totals[1]) : T((totals[0] + totals[1]) + (totals[n - 2] + totals[n - 1]));
}

// N vectors of out = (G + ridge I) v from column j on.
template <class Set, int N, class T>
ALWAYS_INLINE void apply_gram(const Fixed<T> &fixed, T ridge, const T *v, T *out, std::ptrdiff_t j) {
    using V = Vec<Set, T>;
    V even[N] = {}, odd[N] = {};
    std::ptrdiff_t i = 0;
    for (; i + 2 <= fixed.factors; i += 2) {
        const T *g0 = fixed.gram_row(i) + j, *g1 = fixed.gram_row(i + 1) + j;
        for (int b = 0; b < N; ++b) even[b] = even[b] + v[i] * V::load(g0 + b * V::LANES);
        for (int b = 0; b < N; ++b) odd[b] = odd[b] + v[i + 1] * V::load(g1 + b * V::LANES);
    }
    if (i < fixed.factors)
        for (int b = 0; b < N; ++b) even[b] = even[b] + v[i] * V::load(fixed.gram_row(i) + j + b * V::LANES);
    for (int b = 0; b < N; ++b) {
        const std::ptrdiff_t column = j + b * V::LANES;
        (even[b] + odd[b] + ridge * V::load(v + column)).store(out + column);
    }
}

// out = (G + ridge I) v.
template <class Set, class T>
ALWAYS_INLINE void apply_gram(const Fixed<T> &fixed, T ridge, const T *v, T *out) {
    using V = Vec<Set, T>;
    std::ptrdiff_t column = 0;
    for (; column + 4 * V::LANES <= fixed.width; column += 4 * V::LANES)
        apply_gram<Set, 4>(fixed, ridge, v, out, column);
    for (; column < fixed.width; column += V::LANES) apply_gram<Set, 1>(fixed, ridge, v, out, column);
}

// out += sum_k w_k (y_k . v) y_k, less b. Entries go in groups: each y is read once for its product with v and for the
// update. F is the width where that is known when this is compiled, so that `out` can stay in registers, or else 0.
template <class Set, int F, bool minus_b, class T>
ALWAYS_INLINE void add_entries(const Fixed<T> &fixed, const Row<T> &row, Stream &stream, const T *RESTRICT v,
                               T *RESTRICT out) {
    using V = Vec<Set, T>;
    const std::ptrdiff_t width = fixed.width;
    V kept[F ? F / V::LANES : 1];
    for (int b = 0; b < F / V::LANES; ++b) kept[b] = V::load(out + b * V::LANES);

    Stream ahead = stream;
    const std::ptrdiff_t window = Stream::BYTES / (width * std::ptrdiff_t(sizeof(T)));
    const std::int32_t *const limit = row.ids + std::min(ahead.end - row.ids, row.n + window);
    for (std::ptrdiff_t k = 0; k < row.n; k += GROUP) {
        if (ahead.again) ahead.next = row.ids + k + Stream::AHEAD;
        ahead.fetch(fixed, std::min(limit, ahead.next + (ahead.again ? GROUP : Stream::PACE)));

        const T *y[GROUP];
        for (int e = 0; e < GROUP; ++e) y[e] = fixed.row(row.ids[std::min(k + e, row.n - 1)]);
        V products[GROUP] = {};
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
            const V vj = V::load(v + j);
            for (int e = 0; e < GROUP; ++e) products[e] = products[e] + vj * V::load(y[e] + j);
        }
        T s[GROUP];
        sum_lanes(products, s);
        for (int e = 0; e < GROUP; ++e) s[e] = row.weight[k + e] * s[e] - (minus_b ? row.rhs[k + e] : T(0));
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
            V sum = F ? kept[j / V::LANES] : V::load(out + j);
            for (int e = 0; e < GROUP; ++e) sum = sum + s[e] * V::load(y[e] + j);
            if (F)
                kept[j / V::LANES] = sum;
            else
                sum.store(out + j);
        }
    }
    for (int b = 0; b < F / V::LANES; ++b) kept[b].store(out + b * V::LANES);
    for (std::ptrdiff_t j = fixed.factors; j < width; ++j) out[j] = 0;
    stream = ahead;
}

// What conjugate gradient keeps of a row, in 4 width + 1 elements.
template <class Set, class T> struct Search {
    using V = Vec<Set, T>;
    static constexpr double TINY = 1e-20;
    T *z, *r, *p, *Ap, &rsold;

    ALWAYS_INLINE Search(T *work, std::ptrdiff_t width)
        : z(work), r(z + width), p(r + width), Ap(p + width), rsold(Ap[width]) {}

    ALWAYS_INLINE void begin(const Fixed<T> &fixed, T ridge, const T *x) {
        std::fill(std::copy_n(x, fixed.factors, z), z + fixed.width, T(0));
        apply_gram<Set>(fixed, ridge, z, Ap);
    }
    // Once Ap = A z - b.
    ALWAYS_INLINE void turn_to_residual(std::ptrdiff_t width) {
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
            const V residual = T(-1) * V::load(Ap + j);
            residual.store(r + j);
            residual.store(p + j);
        }
        rsold = dot<Set>(r, r, width);
    }
    ALWAYS_INLINE bool done() const { return !(rsold >= TINY); }
    // Once Ap = A p.
    ALWAYS_INLINE void step(std::ptrdiff_t width) {
        const T length = rsold / dot<Set>(p, Ap, width);
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
            (V::load(z + j) + length * V::load(p + j)).store(z + j);
            (V::load(r + j) - length * V::load(Ap + j)).store(r + j);
        }
        const T rsnew = dot<Set>(r, r, width), beta = rsnew / rsold;
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) (V::load(r + j) + beta * V::load(p + j)).store(p + j);
        rsold = rsnew;
    }
};

// Calls body(F, fixed): F is the factors where these are among the common ones, or else 0.
template <class Set, class T, class Body> ALWAYS_INLINE void for_width(Fixed<T> fixed, Body body) {
    constexpr int most = 8 * Vec<Set, T>::LANES; // so that half of the registers stay free
    const auto known = [&](auto width) __attribute__((always_inline)) {
        fixed.factors = fixed.width = width;
        body(width, fixed);
    };
    if (fixed.factors == 32 && 32 <= most)
        known(std::integral_constant<int, 32>());
    else if (fixed.factors == 64 && 64 <= most)
        known(std::integral_constant<int, 64>());
    else if (fixed.factors == 128 && 128 <= most)
        known(std::integral_constant<int, 128>());
    else
        body(std::integral_constant<int, 0>(), fixed);
}

// `steps` steps of conjugate gradient from the current x (Takacs, Pilaszy & Tikk 2011). `work` holds 4 width + 1
// elements.
template <class Set, class T>
ALWAYS_INLINE void conjugate_gradient_body(Fixed<T> fixed, Row<T> row, Stream *stream, int steps, T *x, T *work) {
    for_width<Set>(fixed, [&](auto F, const Fixed<T> &fixed) __attribute__((always_inline)) {
        Search<Set, T> search(work, fixed.width);
        stream->next = std::max(stream->next, row.ids + row.n);
        stream->again = row.n * fixed.width * std::ptrdiff_t(sizeof(T)) > LONG_BYTES;
        search.begin(fixed, row.ridge, x);
        add_entries<Set, F, true>(fixed, row, *stream, search.z, search.Ap);
        search.turn_to_residual(fixed.width);
        for (int step = 0; step < steps && !search.done(); ++step) {
            apply_gram<Set>(fixed, row.ridge, search.p, search.Ap);
            add_entries<Set, F, false>(fixed, row, *stream, search.p, search.Ap);
            search.step(fixed.width);
        }
        std::copy_n(search.z, fixed.factors, x);
    });
}
FOR_BEST_ISA(conjugate_gradient, conjugate_gradient_body)

// The same for `n` rows at a time, by turns over blocks of Y: the entries of long rows do not stay in the cache from one
// step to the next, but a block does from one row to the next. A row's sums have the order of conjugate_gradient. `next`
// has room for n elements, `work` for n times 4 width + 1 and 2 PART more.
constexpr std::ptrdiff_t SWEEP_BYTES = 1 << 19; // of Y in a block
constexpr std::ptrdiff_t PART = 1024;           // entries of a row whose weights are kept together

template <class Set, class T, class V>
ALWAYS_INLINE void sweep_body(Fixed<T> fixed, const std::int64_t *indptr, const std::int32_t *indices, const V *values,
                              float alpha, int policy, const std::int64_t *rows, std::ptrdiff_t n, const T *ridge,
                              int steps, T *X, std::int64_t *next, T *work) {
    T *weight = work, *rhs = weight + PART, *searches = rhs + PART;
    const std::ptrdiff_t height = fixed.Y.size / fixed.factors;
    const std::ptrdiff_t block = SWEEP_BYTES / (fixed.factors * std::ptrdiff_t(sizeof(T))) + 1;
    for_width<Set>(fixed, [&](auto F, const Fixed<T> &fixed) __attribute__((always_inline)) {
        for (int pass = 0; pass <= steps; ++pass) {
            for (std::ptrdiff_t i = 0; i < n; ++i) {
                Search<Set, T> search(searches + i * (4 * fixed.width + 1), fixed.width);
                next[i] = indptr[rows[i]];
                if (pass == 0)
                    search.begin(fixed, ridge[rows[i]], X + rows[i] * fixed.factors);
                else if (search.done())
                    next[i] = indptr[rows[i] + 1];
                else
                    apply_gram<Set>(fixed, ridge[rows[i]], search.p, search.Ap);
            }
            for (std::ptrdiff_t first = 0; first < height; first += block) {
                // Where ids do not ascend, the last block takes what is left.
                const std::ptrdiff_t last = first + block < height ? first + block : INT32_MAX;
                fixed.prefetch(first, std::min(last, height));
                for (std::ptrdiff_t i = 0; i < n; ++i) {
                    Search<Set, T> search(searches + i * (4 * fixed.width + 1), fixed.width);
                    const std::int64_t end = indptr[rows[i] + 1];
                    while (next[i] < end && indices[next[i]] < last) {
                        std::int64_t stop = next[i];
                        while (stop < end && indices[stop] < last && stop - next[i] < PART) stop += GROUP;
                        stop = std::min(stop, end);
                        entries(values + next[i], stop - next[i], alpha, policy, weight, rhs);
                        const Row<T> part = {indices + next[i], weight, rhs, stop - next[i], 0};
                        Stream fetched = {part.ids, part.ids, false};
                        if (pass == 0)
                            add_entries<Set, F, true>(fixed, part, fetched, search.z, search.Ap);
                        else
                            add_entries<Set, F, false>(fixed, part, fetched, search.p, search.Ap);
                        next[i] = stop;
                    }
                }
            }
            for (std::ptrdiff_t i = 0; i < n; ++i) {
                Search<Set, T> search(searches + i * (4 * fixed.width + 1), fixed.width);
                if (pass == 0)
                    search.turn_to_residual(fixed.width);
                else if (!search.done())
                    search.step(fixed.width);
            }
        }
        for (std::ptrdiff_t i = 0; i < n; ++i)
            std::copy_n(searches + i * (4 * fixed.width + 1), fixed.factors, X + rows[i] * fixed.factors);
    });
}
FOR_BEST_ISA(sweep, sweep_body)

// A tile of out += SIGN L^T R: Set::tile_rows columns of L and two vectors of columns of R, both of n rows. Rows of L and
// R lie `stride` elements apart, those of `out` `out_stride`.
template <class Set, class T> constexpr int TILE_COLUMNS = 2 * Vec<Set, T>::LANES;

template <class Set, int SIGN, class T>
ALWAYS_INLINE void update_tile(const T *left, const T *right, std::ptrdiff_t n, std::ptrdiff_t stride, T *out,
                               std::ptrdiff_t out_stride) {
    using V = Vec<Set, T>;
    V sum[Set::tile_rows][2] = {};
    for (std::ptrdiff_t r = 0; r < n; ++r) {
        const T *l = left + r * stride;
        const V r0 = V::load(right + r * stride), r1 = V::load(right + r * stride + V::LANES);
        for (int a = 0; a < Set::tile_rows; ++a) {
            sum[a][0] = sum[a][0] + l[a] * r0;
            sum[a][1] = sum[a][1] + l[a] * r1;
        }
    }
    for (int a = 0; a < Set::tile_rows; ++a)
        for (int b = 0; b < 2; ++b) {
            T *to = out + a * out_stride + b * V::LANES;
            (V::load(to) + T(SIGN) * sum[a][b]).store(to);
        }
}

// Tiles of out += SIGN L^T R that hold all of its upper triangle from row `first` to row `last`.
template <class Set, int SIGN, class T>
ALWAYS_INLINE void update_upper(const T *left, const T *right, std::ptrdiff_t n, std::ptrdiff_t stride,
                                std::ptrdiff_t first, std::ptrdiff_t last, T *out, std::ptrdiff_t out_stride) {
    constexpr std::ptrdiff_t columns = TILE_COLUMNS<Set, T>;
    for (std::ptrdiff_t i = first; i < last; i += Set::tile_rows)
        for (std::ptrdiff_t j = i / columns * columns; j < out_stride; j += columns)
            update_tile<Set, SIGN>(left + i, right + j, n, stride, out + i * out_stride + j, out_stride);
}

// The exact solution by A = U^T U; false where A is not positive definite, and x is then as before. Only the upper
// triangle is formed. `work` holds (s + 2 BLOCK + 2) s elements, s = factors rounded up to a multiple of EXACT_WIDTH.
constexpr std::ptrdiff_t EXACT_WIDTH = 32, BLOCK = 32;

template <class Set, class T>
ALWAYS_INLINE bool cholesky_body(Fixed<T> fixed, Row<T> row, T *RESTRICT x, T *RESTRICT work) {
    const std::ptrdiff_t f = fixed.factors, stride = round_up(f, EXACT_WIDTH);
    T *RESTRICT U = work, *RESTRICT left = U + stride * stride, *RESTRICT right = left + BLOCK * stride;
    T *RESTRICT b = right + BLOCK * stride, *RESTRICT part = b + stride;
    std::fill_n(work, (stride + 2 * BLOCK + 2) * stride, T(0));
    for (std::ptrdiff_t i = 0; i < f; ++i) {
        std::copy_n(fixed.gram_row(i), f, U + i * stride);
        U[i * stride + i] += row.ridge;
    }
    for (std::ptrdiff_t first = 0; first < row.n; first += BLOCK) {
        const std::ptrdiff_t n = std::min(BLOCK, row.n - first);
        for (std::ptrdiff_t k = 0; k < n; ++k) {
            const T *y = fixed.row(row.ids[first + k]), w = row.weight[first + k], c = row.rhs[first + k];
#pragma omp simd
            for (std::ptrdiff_t j = 0; j < f; ++j) {
                right[k * stride + j] = y[j];
                left[k * stride + j] = w * y[j];
                part[j] += c * y[j];
            }
        }
        update_upper<Set, 1>(left, right, n, stride, 0, f, U, stride);
        for (std::ptrdiff_t j = 0; j < f; ++j) {
            b[j] += part[j];
            part[j] = 0;
        }
    }

    for (std::ptrdiff_t first = 0; first < f; first += Set::tile_rows) {
        const std::ptrdiff_t last = std::min(first + Set::tile_rows, f);
        update_upper<Set, -1>(U, U, first, stride, first, last, U, stride);
        for (std::ptrdiff_t i = first; i < last; ++i) {
            T *RESTRICT pivot = U + i * stride;
            if (!(pivot[i] > 0)) return false;
            const T inverse = 1 / std::sqrt(pivot[i]);
#pragma omp simd
            for (std::ptrdiff_t j = i; j < f; ++j) pivot[j] *= inverse;
            for (std::ptrdiff_t l = i + 1; l < last; ++l) {
                const T s = pivot[l];
                T *RESTRICT u = U + l * stride;
#pragma omp simd
                for (std::ptrdiff_t j = l; j < f; ++j) u[j] -= s * pivot[j];
            }
            const T z = b[i] /= pivot[i];
#pragma omp simd
            for (std::ptrdiff_t j = i + 1; j < f; ++j) b[j] -= z * pivot[j];
        }
    }
    for (std::ptrdiff_t i = f; i-- > 0;) {
        const T *u = U + i * stride;
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (std::ptrdiff_t j = i + 1; j < f; ++j) sum += u[j] * b[j];
        b[i] = (b[i] - sum) / u[i];
    }
    std::copy_n(b, f, x);
    return true;
}
FOR_BEST_ISA(cholesky, cholesky_body)

// Sum over the stored entries of w s^2 - 2 b s + b with s = x . y_k: what they add to the squared error of a row.
// `work` holds width elements.
template <class Set, class T>
ALWAYS_INLINE double row_error_body(Fixed<T> fixed, Row<T> row, const T *x, T *work) {
    std::fill(std::copy_n(x, fixed.factors, work), work + fixed.width, T(0));
    double error = 0;
    for (std::ptrdiff_t k = 0; k < row.n; ++k) {
        const double s = dot<Set>(fixed.row(row.ids[k]), work, fixed.width);
        error += row.weight[k] * s * s - 2 * row.rhs[k] * s + row.rhs[k];
    }
    return error;
}
FOR_BEST_ISA(row_error, row_error_body)

// The gram matrix of `rows` rows in double precision: the upper triangle, by tiles, of `out` (width x width, zeroed,
// width = factors rounded up to a multiple of GRAM_TILE). `work` holds BLOCK * width elements.
constexpr std::ptrdiff_t GRAM_TILE = 16;

template <class Set, class T>
ALWAYS_INLINE void gram_block_body(Span<const T> Y, std::ptrdiff_t rows, std::ptrdiff_t factors, std::ptrdiff_t width,
                                   double *RESTRICT out, double *RESTRICT work) {
    std::fill_n(work, BLOCK * width, 0.0);
    for (std::ptrdiff_t first = 0; first < rows; first += BLOCK) {
        const std::ptrdiff_t n = std::min(BLOCK, rows - first);
        const T *y = Y.slice(first * factors, n * factors);
        for (std::ptrdiff_t r = 0; r < n; ++r)
#pragma omp simd
            for (std::ptrdiff_t j = 0; j < factors; ++j) work[r * width + j] = y[r * factors + j];
        update_upper<Set, 1>(work, work, n, width, 0, factors, out, width);
    }
}
FOR_BEST_ISA(gram_block, gram_block_body)
