// Alternating least squares for one row: with A = G + ridge I + sum_k w_k y_k y_k^T and b = sum_k b_k y_k over the
// stored entries k of the row, improve or solve A x = b. G is the gram matrix of the fixed factors Y.
#pragma once
#include "_simd.h"
#include "_span.h"
#include <algorithm>
#include <cmath>
#include <limits>

// How a stored value becomes (weight w, right-hand side b): with c = alpha * value in single precision,
// CONFIDENCE (|c| - 1, max(c, 0)), for cells that count as 1 when nothing is stored, or OBSERVED (c, c).
enum Policy { CONFIDENCE, OBSERVED };

// Entries go in groups of at most GROUP. `weight` and `rhs` have room for n rounded up to a multiple of WIDTH: what is
// beyond n counts for nothing, and what follows begins at a cache line if they do.
constexpr std::ptrdiff_t GROUP = 4, WIDTH = 16;

constexpr std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }
constexpr std::ptrdiff_t padded(std::ptrdiff_t n) { return round_up(n, WIDTH); }

template <class T, class V>
inline void entries(const V *values, std::ptrdiff_t n, float alpha, int policy, T *weight, T *rhs) {
    for (std::ptrdiff_t k = 0; k < n; ++k) {
        const float c = alpha * static_cast<float>(values[k]);
        weight[k] = policy == OBSERVED ? T(c) : T(std::fabs(c)) - 1;
        rhs[k] = policy == OBSERVED ? T(c) : std::max(T(c), T(0));
    }
    for (std::ptrdiff_t k = n; k < padded(n); ++k) weight[k] = rhs[k] = 0;
}

// The fixed side of a half-step. A row of Y may be read for `width` elements, the factors rounded up to a multiple of
// WIDTH: what is beyond belongs to the rows that follow. The last rows, for which none do, lie in `last`.
template <class T> struct Fixed {
    Span<const T> Y;
    Span<const T> last;
    std::ptrdiff_t first_of_last;
    Span<const T> gram; // factors, rounded up to pairs, x width, zero beyond the factors; or its diagonal alone, width
    std::ptrdiff_t factors;
    std::ptrdiff_t width;

    const T *row(std::ptrdiff_t i) const {
        return width == factors || i < first_of_last ? Y.slice(i * factors, width)
                                                     : last.slice((i - first_of_last) * factors, width);
    }
    const T *gram_row(std::ptrdiff_t i) const { return gram.slice(i * width, width); }
    bool is_diagonal() const { return gram.size == width; } // a matrix has two rows at least
    // Always inline: to GCC a function that only prefetches does nothing, and it drops calls of it.
    ALWAYS_INLINE void prefetch(std::ptrdiff_t i) const {
        const T *y = Y.data + i * factors;
#pragma GCC unroll 8
        for (std::ptrdiff_t j = 0; j < width; j += 64 / sizeof(T)) __builtin_prefetch(y + j, 0, 2);
        if (width > factors) __builtin_prefetch(y + width - 1, 0, 2); // rows begin anywhere in a line
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
    bool again;              // fetch the row being solved in each pass, for it is long

    static constexpr std::ptrdiff_t AHEAD = 32; // entries between asking and use in a row that is fetched again
    static constexpr std::ptrdiff_t LONG = 1 << 16; // bytes of Y

    template <class T> static ALWAYS_INLINE bool is_long(const Fixed<T> &fixed, std::ptrdiff_t n) {
        return n * fixed.width * std::ptrdiff_t(sizeof(T)) > LONG;
    }
    // Asks for `n` more while entry k of `row` is worked on: those of rows that follow too.
    template <class T> ALWAYS_INLINE void fetch(const Fixed<T> &fixed, const Row<T> &row, std::ptrdiff_t k, int n) {
        const std::ptrdiff_t beyond = LONG / (fixed.width * std::ptrdiff_t(sizeof(T)));
        const std::int32_t *const limit = row.ids + std::min(end - row.ids, row.n + beyond);
        if (again) next = row.ids + k + AHEAD;
        for (const std::int32_t *const stop = std::min(limit, next + n); next < stop; ++next) fixed.prefetch(*next);
    }
};

template <class Set, class T> ALWAYS_INLINE T dot(const T *a, const T *b, std::ptrdiff_t width) {
    using V = Vec<Set, T>;
    V sum = {};
    for (std::ptrdiff_t j = 0; j < width; j += V::LANES) sum = sum + V::load(a + j) * V::load(b + j);
    T lanes[V::LANES];
    sum.store(lanes);
    return sum_lanes<Set::bytes>(lanes);
}

// N vectors of out = (G + ridge I) v from column j on.
template <class Set, int N, class T>
ALWAYS_INLINE void apply_gram(const Fixed<T> &fixed, T ridge, const T *v, T *out, std::ptrdiff_t j) {
    using V = Vec<Set, T>;
    V even[N] = {}, odd[N] = {};
    for (std::ptrdiff_t i = 0; i < fixed.factors; i += 2) {
        const T *g0 = fixed.gram_row(i) + j, *g1 = fixed.gram_row(i + 1) + j;
        for (int b = 0; b < N; ++b) even[b] = even[b] + v[i] * V::load(g0 + b * V::LANES);
        for (int b = 0; b < N; ++b) odd[b] = odd[b] + v[i + 1] * V::load(g1 + b * V::LANES);
    }
    for (int b = 0; b < N; ++b) { // without a branch before it: GCC makes one operation of a * b + c only in one block
        const std::ptrdiff_t column = j + b * V::LANES;
        (even[b] + odd[b] + ridge * V::load(v + column)).store(out + column);
    }
}

// out = (G + ridge I) v.
template <class Set, class T> ALWAYS_INLINE void apply_gram(const Fixed<T> &fixed, T ridge, const T *v, T *out) {
    using V = Vec<Set, T>;
    std::ptrdiff_t j = 0;
    if (fixed.is_diagonal())
        for (; j < fixed.width; j += V::LANES)
            (V::load(fixed.gram_row(0) + j) * V::load(v + j) + ridge * V::load(v + j)).store(out + j);
    for (; j + 4 * V::LANES <= fixed.width; j += 4 * V::LANES) apply_gram<Set, 4>(fixed, ridge, v, out, j);
    for (; j + 2 * V::LANES <= fixed.width; j += 2 * V::LANES) apply_gram<Set, 2>(fixed, ridge, v, out, j);
    for (; j < fixed.width; j += V::LANES) apply_gram<Set, 1>(fixed, ridge, v, out, j);
}

// The rows of Y of the group of entries from k on; beyond the last entry, its row again.
template <int N, class T>
ALWAYS_INLINE void group(const Fixed<T> &fixed, const Row<T> &row, std::ptrdiff_t k, const T *(&y)[N]) {
    for (int e = 0; e < N; ++e) y[e] = fixed.row(row.ids[std::min(k + e, row.n - 1)]);
}

// Their inner products with v. Every second cache line comes first: a processor that sees the lines of a row read one
// after the other fetches those behind it from memory, which are of no use.
template <class Set, int N, class T>
ALWAYS_INLINE void products(const T *const (&y)[N], const T *v, std::ptrdiff_t width, T (&sums)[GROUP]) {
    using V = Vec<Set, T>;
    constexpr std::ptrdiff_t LINE = 64 / sizeof(T);
    V lanes[GROUP] = {};
#pragma GCC unroll 2
    for (int odd = 1; odd >= 0; --odd)
#pragma GCC unroll 4
        for (std::ptrdiff_t line = odd * LINE; line < width; line += 2 * LINE)
            for (std::ptrdiff_t j = line; j < line + LINE && j < width; j += V::LANES) {
                const V vj = V::load(v + j);
                for (int e = 0; e < N; ++e) lanes[e] = lanes[e] + vj * V::load(y[e] + j);
            }
    sum_lanes(lanes, sums);
}

// out += sum_k w_k (y_k . v) y_k, less b. Entries go in groups: each y is read once for its product with v and for the
// update. F is the width where that is known when this is compiled, so that `out` can stay in registers, or else 0.
template <class Set, int F, bool minus_b, class T>
ALWAYS_INLINE void add_entries(const Fixed<T> &fixed, const Row<T> &row, Stream &stream, const T *RESTRICT v,
                               T *RESTRICT out) {
    using V = Vec<Set, T>;
    const std::ptrdiff_t width = fixed.width;
    constexpr int N = F > 4 * V::LANES ? GROUP / 2 : GROUP; // entries whose rows fit the registers
    V kept[F ? F / V::LANES : 1];
    for (int b = 0; b < F / V::LANES; ++b) kept[b] = V::load(out + b * V::LANES);

    Stream ahead = stream;
    const auto add = [&](std::ptrdiff_t k, auto groups) __attribute__((always_inline)) { // the entries from k on
        ahead.fetch(fixed, row, k, groups * N);
        const T *y[groups][N];
        T s[groups][GROUP];
        for (int g = 0; g < groups; ++g) {
            const std::ptrdiff_t first = k + g * N;
            group(fixed, row, first, y[g]);
            products<Set>(y[g], v, width, s[g]);
            for (int e = 0; e < N; ++e)
                s[g][e] = row.weight[first + e] * s[g][e] - (minus_b ? row.rhs[first + e] : T(0));
        }
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
            V sum = F ? kept[j / V::LANES] : V::load(out + j);
            for (int g = 0; g < groups; ++g)
                for (int e = 0; e < N; ++e) sum = sum + s[g][e] * V::load(y[g][e] + j);
            if (F)
                kept[j / V::LANES] = sum;
            else
                sum.store(out + j);
        }
    };
    std::ptrdiff_t k = 0;
    if (!F) // two groups, for which `out` is read and written once
        for (; k + 2 * N <= row.n; k += 2 * N) add(k, std::integral_constant<int, 2>());
    for (; k < row.n; k += N) add(k, std::integral_constant<int, 1>());
    for (int b = 0; b < F / V::LANES; ++b) kept[b].store(out + b * V::LANES);
    for (std::ptrdiff_t j = fixed.factors; j < width; ++j) out[j] = 0;
    stream = ahead;
}

// sums += w_k (y_k . v)^2, where entries of a group go to different sums.
template <class Set, class T>
ALWAYS_INLINE void add_curvature(const Fixed<T> &fixed, const Row<T> &row, Stream &stream, const T *RESTRICT v,
                                 T *RESTRICT sums) {
    Stream ahead = stream;
    for (std::ptrdiff_t k = 0; k < row.n; k += GROUP) {
        ahead.fetch(fixed, row, k, GROUP);
        const T *y[GROUP];
        group(fixed, row, k, y);
        T s[GROUP];
        products<Set>(y, v, fixed.width, s);
        for (int e = 0; e < GROUP; ++e) sums[e] += row.weight[k + e] * s[e] * s[e];
    }
    stream = ahead;
}

// What conjugate gradient keeps of a row, in SEARCH width elements.
constexpr std::ptrdiff_t SEARCH = 5;

template <class Set, class T> struct Search {
    using V = Vec<Set, T>;
    static constexpr double TINY = 1e-20;
    T *z, *r, *p, *Ap, *curvature, &rsold;

    ALWAYS_INLINE Search(T *work, std::ptrdiff_t width)
        : z(work), r(z + width), p(r + width), Ap(p + width), curvature(Ap + width), rsold(curvature[GROUP]) {}

    ALWAYS_INLINE void begin(const Fixed<T> &fixed, const T *x) {
        std::fill(std::copy_n(x, fixed.factors, z), z + fixed.width, T(0));
        std::fill_n(curvature, GROUP, T(0));
    }
    ALWAYS_INLINE bool done() const { return rsold < TINY; } // not where it is NaN, which is to show in x

    // A pass over the entries for the residual, then one a step, for A p; of the last A p, only p . A p is of use. What G
    // adds comes first.
    ALWAYS_INLINE void start(const Fixed<T> &fixed, T ridge, int pass) {
        apply_gram<Set>(fixed, ridge, pass ? p : z, Ap);
    }
    template <int F>
    ALWAYS_INLINE void take(const Fixed<T> &fixed, const Row<T> &row, Stream &stream, int pass, int steps) {
        if (pass == 0)
            add_entries<Set, F, true>(fixed, row, stream, z, Ap);
        else if (pass < steps)
            add_entries<Set, F, false>(fixed, row, stream, p, Ap);
        else
            add_curvature<Set>(fixed, row, stream, p, curvature);
    }
    ALWAYS_INLINE void finish(std::ptrdiff_t width, int pass, int steps) {
        if (pass == 0) {
            for (std::ptrdiff_t j = 0; j < width; j += V::LANES) {
                const V residual = T(-1) * V::load(Ap + j);
                residual.store(r + j);
                residual.store(p + j);
            }
            rsold = dot<Set>(r, r, width);
            return;
        }
        const T stored = (curvature[0] + curvature[1]) + (curvature[2] + curvature[3]);
        const T length = rsold / (stored + dot<Set>(p, Ap, width));
        if (length == 0) z[0] = std::numeric_limits<T>::quiet_NaN(); // p . A p overflows, and x would stay as it was
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) (V::load(z + j) + length * V::load(p + j)).store(z + j);
        if (pass == steps) return;
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) (V::load(r + j) - length * V::load(Ap + j)).store(r + j);
        const T rsnew = dot<Set>(r, r, width), beta = rsnew / rsold;
        for (std::ptrdiff_t j = 0; j < width; j += V::LANES) (V::load(r + j) + beta * V::load(p + j)).store(p + j);
        rsold = rsnew;
    }
};

// Calls body(F, fixed): F is the width where the factors are among the common ones, or else 0.
template <class Set, class T, class Body> ALWAYS_INLINE void for_width(Fixed<T> fixed, Body body) {
    constexpr int most = 8 * Vec<Set, T>::LANES; // so that half of the registers stay free
    const auto known = [&](auto width) __attribute__((always_inline)) {
        fixed.width = width;
        body(width, fixed);
    };
    const auto full = [&](auto width) __attribute__((always_inline)) {
        fixed.factors = width;
        known(width);
    };
    if (fixed.factors == 32 && 32 <= most)
        full(std::integral_constant<int, 32>());
    else if (fixed.factors == 64 && 64 <= most)
        full(std::integral_constant<int, 64>());
    else if (fixed.factors == 128 && 128 <= most)
        full(std::integral_constant<int, 128>());
    else if (fixed.width == 112 && 112 <= most) // 100 factors are the default
        known(std::integral_constant<int, 112>());
    else
        body(std::integral_constant<int, 0>(), fixed);
}

// `steps` steps of conjugate gradient from the current x (Takacs, Pilaszy & Tikk 2011). `work` holds SEARCH width
// elements.
template <class Set, class T>
ALWAYS_INLINE void conjugate_gradient_body(Fixed<T> fixed, Row<T> row, Stream *stream, int steps, T *x, T *work) {
    for_width<Set>(fixed, [&](auto F, const Fixed<T> &fixed) __attribute__((always_inline)) {
        Search<Set, T> search(work, fixed.width);
        search.begin(fixed, x);
        stream->next = std::max(stream->next, row.ids + row.n);
        stream->again = Stream::is_long(fixed, row.n);
        for (int pass = 0; pass <= steps && !(pass && search.done()); ++pass) {
            search.start(fixed, row.ridge, pass);
            search.template take<F>(fixed, row, *stream, pass, steps);
            search.finish(fixed.width, pass, steps);
        }
        std::copy_n(search.z, fixed.factors, x);
    });
}
FOR_BEST_ISA(conjugate_gradient, conjugate_gradient_body)

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

// The exact solution; false where A is not positive definite, and x is then as before. A becomes U^T U; only its upper
// triangle is formed. `work` holds (s + 2 BLOCK + 2) s elements, s = factors rounded up to a multiple of EXACT_WIDTH.
constexpr std::ptrdiff_t EXACT_WIDTH = 32, BLOCK = 32;

template <class Set, class T>
ALWAYS_INLINE bool cholesky_body(Fixed<T> fixed, Row<T> row, T *x, T *RESTRICT work) {
    const std::ptrdiff_t f = fixed.factors;
    using V = Vec<Set, T>;
    const std::ptrdiff_t stride = round_up(f, EXACT_WIDTH);
    T *RESTRICT U = work, *RESTRICT left = U + stride * stride, *RESTRICT right = left + BLOCK * stride;
    T *RESTRICT b = right + BLOCK * stride, *RESTRICT part = b + stride;
    if (f < stride) std::fill_n(work, (stride + 2 * BLOCK) * stride, T(0));
    std::fill_n(b, 2 * stride, T(0));
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

    // What is below the diagonal of a row becomes zero, so that loops may take whole vectors, and rounding errors there
    // cannot grow from row to row.
    for (std::ptrdiff_t first = 0; first < f; first += Set::tile_rows) {
        const std::ptrdiff_t last = std::min(first + Set::tile_rows, f);
        update_upper<Set, -1>(U, U, first, stride, first, last, U, stride);
        for (std::ptrdiff_t i = first; i < last; ++i) {
            T *RESTRICT pivot = U + i * stride;
            if (!(pivot[i] > 0)) return false;
            std::fill_n(pivot, i, T(0));
            const std::ptrdiff_t begin = i / V::LANES * V::LANES;
            const T inverse = 1 / std::sqrt(pivot[i]), z = b[i] * inverse;
            for (std::ptrdiff_t j = begin; j < stride; j += V::LANES) (inverse * V::load(pivot + j)).store(pivot + j);
            for (std::ptrdiff_t l = i + 1; l < last; ++l) {
                const T s = pivot[l];
                T *RESTRICT u = U + l * stride;
                for (std::ptrdiff_t j = begin; j < stride; j += V::LANES)
                    (V::load(u + j) - s * V::load(pivot + j)).store(u + j);
            }
            for (std::ptrdiff_t j = begin; j < stride; j += V::LANES)
                (V::load(b + j) - z * V::load(pivot + j)).store(b + j);
            part[i] = z;
        }
    }
    T *RESTRICT solution = b;
    std::fill_n(solution, stride, T(0));
    for (std::ptrdiff_t i = f; i-- > 0;) {
        const T *u = U + i * stride;
        const std::ptrdiff_t begin = i / V::LANES * V::LANES;
        solution[i] = (part[i] - dot<Set>(u + begin, solution + begin, stride - begin)) / u[i];
    }
    std::copy_n(solution, f, x);
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
