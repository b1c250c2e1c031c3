// Exact top-k by inner product. Candidates come in panels of LANES items, factor by factor (panel[j][lane]), so that a
// score is always summed over the factors in ascending order: the same bits for one query and for a million. A single query
// reads the items where they lie: sums in any order, which are fast, tell which few need that one.
#pragma once
#include "_isa.h"
#include "_simd.h"
#include "_span.h"
#include <algorithm>
#include <cmath>
#include <limits>

template <class T> constexpr int LANES = 128 / sizeof(T);
constexpr double ZERO_NORM = 1e-10;     // stands for the norm of an all-zero item
constexpr double TINY_SQUARE = 1e-300;  // squares below are lost to underflow, so that norms are bounded by its root

template <class T> struct Candidate {
    T score;
    std::int32_t id;

    // The order of results: by descending score, equal scores by ascending id.
    bool operator<(const Candidate &other) const {
        return score > other.score || (score == other.score && id < other.id);
    }
};

// Rows `ids` of `items`; where `packed` is there, they lie in it by panels, with `norms` beside.
template <class T> struct Candidates {
    Span<const T> items;
    Span<const std::int32_t> ids;
    Span<const T> packed;
    Span<const double> norms; // of the candidates if cosine, else upper bounds for all from there on
    std::ptrdiff_t factors;
    bool cosine;
};

// Which (query, item) pairs rank last: columns of the CSR row of the query, and `drop` for all. Both are sorted.
struct Exclusions {
    const std::int64_t *indptr; // null: no pairs
    Span<const std::int32_t> indices;
    Span<const std::int32_t> drop;

    bool contain(std::ptrdiff_t query, std::int32_t id) const {
        if (std::binary_search(drop.data, drop.data + drop.size, id)) return true;
        if (!indptr) return false;
        const std::int64_t n = indptr[query + 1] - indptr[query];
        const std::int32_t *row = indices.slice(indptr[query], n);
        return std::binary_search(row, row + n, id);
    }
};

// Copy rows `ids` of the items, at most LANES, to a panel with zeros for missing ones, and their norms where wanted.
template <class T>
ALWAYS_INLINE void fill_panel(const Candidates<T> &c, const std::int32_t *ids, int count, T *RESTRICT panel,
                              double *norms) {
    const std::ptrdiff_t f = c.factors;
    if (count < LANES<T>) std::fill_n(panel, f * LANES<T>, T(0));
    for (int lane = 0; lane < count; ++lane) {
        const T *y = c.items.slice(ids[lane] * f, f);
        for (std::ptrdiff_t j = 0; j < f; ++j) panel[j * LANES<T> + lane] = y[j];
    }
    if (!norms) return;
    for (int lane = 0; lane < LANES<T>; ++lane) norms[lane] = 0;
    for (std::ptrdiff_t j = 0; j < f; ++j)
#pragma omp simd
        for (int lane = 0; lane < LANES<T>; ++lane) {
            const double y = panel[j * LANES<T> + lane];
            norms[lane] += y * y;
        }
    for (int lane = 0; lane < LANES<T>; ++lane) norms[lane] = std::sqrt(norms[lane]);
}

template <class Set, class T>
ALWAYS_INLINE void pack_body(Candidates<T> c, std::ptrdiff_t panel, T *packed, double *norms) {
    const int count = static_cast<int>(std::min<std::ptrdiff_t>(LANES<T>, c.ids.size - panel * LANES<T>));
    fill_panel(c, c.ids.slice(panel * LANES<T>, count), count, packed, norms);
}
FOR_BEST_ISA(pack, pack_body)

// scores[q][lane] of ROWS queries against a panel.
template <int ROWS, class T>
ALWAYS_INLINE void score_tile(const T *queries, const T *RESTRICT panel, std::ptrdiff_t f, T *RESTRICT scores) {
    T sum[ROWS][LANES<T>] = {};
    for (std::ptrdiff_t j = 0; j < f; ++j)
        for (int q = 0; q < ROWS; ++q)
#pragma omp simd
            for (int lane = 0; lane < LANES<T>; ++lane) sum[q][lane] += queries[q * f + j] * panel[j * LANES<T> + lane];
    for (int q = 0; q < ROWS; ++q)
#pragma omp simd
        for (int lane = 0; lane < LANES<T>; ++lane) scores[q * LANES<T> + lane] = sum[q][lane];
}

// The k best of a query so far: a heap with the worst of them on top.
template <class T> struct Best {
    Candidate<T> *heap;
    std::ptrdiff_t size;
    double norm; // of the query

    void offer(Candidate<T> candidate, std::ptrdiff_t k, std::ptrdiff_t query, const Exclusions &exclusions) {
        const T lowest = std::numeric_limits<T>::lowest();
        if (!(candidate.score >= lowest)) candidate.score = lowest; // NaN and -inf
        if (size == k && !(candidate < heap[0])) return;
        if (exclusions.contain(query, candidate.id)) {
            candidate.score = lowest;
            if (size == k && !(candidate < heap[0])) return;
        }
        if (size == k) std::pop_heap(heap, heap + size--);
        heap[size++] = candidate;
        std::push_heap(heap, heap + size);
    }
};

// Registers of at most 32 bytes, whose lanes add up in fewer steps.
template <class Set> using Narrow = std::conditional_t<(Set::bytes > Avx2::bytes), Avx2, Set>;

// Inner products with the query and squared norms of four rows, summed in any order; at least a register of factors.
template <class Set, class T>
ALWAYS_INLINE void estimate(const T *const *rows, const T *query, std::ptrdiff_t f, T *dots, T *squares) {
    using Register = Vec<Set, T>;
    constexpr int N = Register::LANES;
    Register dot[4] = {}, square[4] = {};
    std::ptrdiff_t j = 0;
    for (; j + N <= f; j += N) {
        const Register x = Register::load(query + j);
        for (int r = 0; r < 4; ++r) {
            const Register y = Register::load(rows[r] + j);
            dot[r] = dot[r] + x * y;
            square[r] = square[r] + y * y;
        }
    }
    if (j < f) { // the last register of factors, less those that were in the one before
        T fresh[N];
        for (int lane = 0; lane < N; ++lane) fresh[lane] = f - N + lane >= j;
        const Register mask = Register::load(fresh), x = Register::load(query + (f - N));
        for (int r = 0; r < 4; ++r) {
            const Register y = mask * Register::load(rows[r] + (f - N));
            dot[r] = dot[r] + x * y;
            square[r] = square[r] + y * y;
        }
    }
    sum_lanes<Set, T>(dot, dots);
    sum_lanes<Set, T>(square, squares);
}

// Which of `count` candidates can score at least `worst`; returns how many, their ids in `chosen`.
//
// Two sums of the f products x_j y_j, each in an order of its own, differ by no more than 2 f eps |x| |y|, to first
// order. `slack` is three times that, which covers the norm and the division too, unless a sum underflows or overflows:
// then some comparison below is false.
template <class Set, class T>
ALWAYS_INLINE int promising(const Candidates<T> &c, const std::int32_t *ids, int count, const T *query, double query_norm,
                            T worst, std::int32_t *chosen) {
    const std::ptrdiff_t f = c.factors;
    const T *rows[LANES<T>];
    for (int lane = 0; lane < LANES<T>; ++lane) rows[lane] = c.items.slice(ids[std::min(lane, count - 1)] * f, f);
    T dots[LANES<T>], squares[LANES<T>];
    for (int lane = 0; lane < LANES<T>; lane += 4) estimate<Narrow<Set>>(rows + lane, query, f, dots + lane, squares + lane);

    const T eps = std::numeric_limits<T>::epsilon(), tiny = std::numeric_limits<T>::min() / eps;
    const T lowest = std::numeric_limits<T>::lowest();
    const T length = T(2 * query_norm), share = T(3 * (f + 8) * eps);
    std::int32_t hopeless[LANES<T>], left = LANES<T>;
#pragma omp simd reduction(- : left)
    for (int lane = 0; lane < LANES<T>; ++lane) {
        const T norm = std::sqrt(squares[lane]), slack = length * norm * share;
        hopeless[lane] = (dots[lane] + slack < (c.cosine ? worst * norm : worst)) & (dots[lane] >= lowest) &
                         (squares[lane] >= tiny) & (slack >= tiny);
        left -= hopeless[lane];
    }
    if (!left) return 0;
    left = 0;
    for (int lane = 0; lane < count; ++lane)
        if (!hopeless[lane]) chosen[left++] = ids[lane];
    return left;
}

// A block of queries against the panels first .. last - 1: the k best candidates of query `start + q` go to row q of
// `ids` and `scores` (stride k), padded with id -1 and the lowest score. Where candidates come by descending norm, a
// tile of queries is done once no later candidate can reach any of them: |x . y| <= |x| |y| (Cauchy-Schwarz), widened
// by the rounding error of a sum of f products. Work space: `heaps` count * k, `best` count, `panel` f * LANES.
template <class Set, class T>
ALWAYS_INLINE void topk_block_body(Candidates<T> c, const T *queries, std::ptrdiff_t start, std::ptrdiff_t count,
                                   Exclusions exclusions, std::ptrdiff_t first, std::ptrdiff_t last, std::ptrdiff_t k,
                                   std::int32_t *ids, T *scores, Candidate<T> *heaps, Best<T> *best, T *panel) {
    const std::ptrdiff_t f = c.factors;
    const bool ordered = c.packed.data && !c.cosine, single = count == 1 && !c.packed.data && f >= Vec<Narrow<Set>, T>::LANES;
    const double margin = 1 + (f + 8.0) * std::numeric_limits<T>::epsilon();
    for (std::ptrdiff_t q = 0; q < count; ++q) {
        double square = 0;
        for (std::ptrdiff_t j = 0; j < f; ++j) square += double(queries[q * f + j]) * queries[q * f + j];
        best[q] = {heaps + q * k, 0, std::sqrt(std::max(square, TINY_SQUARE))};
    }
    T tile[Set::tile * LANES<T>];
    double panel_norms[LANES<T>];
    std::int32_t chosen[LANES<T>];
    std::ptrdiff_t open = count; // queries from here on can gain nothing more
    for (std::ptrdiff_t p = first; p < last && open > 0; ++p) {
        const std::ptrdiff_t offset = p * LANES<T>;
        int lanes = static_cast<int>(std::min<std::ptrdiff_t>(LANES<T>, c.ids.size - offset));
        const std::int32_t *panel_ids = c.ids.slice(offset, lanes);
        if (single && best[0].size == k) {
            lanes = promising<Set>(c, panel_ids, lanes, queries, best[0].norm, best[0].heap[0].score, chosen);
            if (!lanes) continue;
            panel_ids = chosen;
        }
        const T *items = panel;
        const double *norms = panel_norms;
        if (c.packed.data) {
            items = c.packed.slice(offset * f, LANES<T> * f);
            norms = c.norms.slice(offset, LANES<T>);
        } else {
            fill_panel(c, panel_ids, lanes, panel, c.cosine ? panel_norms : nullptr);
        }
        std::ptrdiff_t still_open = 0;
        for (std::ptrdiff_t q = 0; q < open; q += Set::tile) {
            const int rows = static_cast<int>(std::min<std::ptrdiff_t>(Set::tile, open - q));
            if (ordered) {
                bool done = true;
                for (int r = 0; r < rows; ++r)
                    done &= best[q + r].size == k && best[q + r].heap[0].score > best[q + r].norm * norms[0] * margin;
                if (done) continue;
            }
            still_open = q + rows;
            if (rows == Set::tile)
                score_tile<Set::tile>(queries + q * f, items, f, tile);
            else
                for (int r = 0; r < rows; ++r) score_tile<1>(queries + (q + r) * f, items, f, tile + r * LANES<T>);
            for (int r = 0; r < rows; ++r) {
                T *score = tile + r * LANES<T>;
                if (c.cosine)
#pragma omp simd
                    for (int lane = 0; lane < LANES<T>; ++lane)
                        score[lane] /= norms[lane] > 0 ? T(norms[lane]) : T(ZERO_NORM);
                Best<T> &b = best[q + r];
                if (b.size == k) {
                    const T worst = b.heap[0].score;
                    int candidates = 0;
#pragma omp simd reduction(+ : candidates)
                    for (int lane = 0; lane < LANES<T>; ++lane) candidates += score[lane] >= worst;
                    if (!candidates) continue;
                }
                for (int lane = 0; lane < lanes; ++lane)
                    b.offer({score[lane], panel_ids[lane]}, k, start + q + r, exclusions);
            }
        }
        open = still_open;
    }
    for (std::ptrdiff_t q = 0; q < count; ++q) {
        std::sort_heap(best[q].heap, best[q].heap + best[q].size);
        for (std::ptrdiff_t i = 0; i < k; ++i) {
            const bool found = i < best[q].size;
            ids[q * k + i] = found ? best[q].heap[i].id : -1;
            scores[q * k + i] = found ? best[q].heap[i].score : std::numeric_limits<T>::lowest();
        }
    }
}
FOR_BEST_ISA(topk_block, topk_block_body)
