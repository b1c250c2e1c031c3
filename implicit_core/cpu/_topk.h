// Exact top-k by inner product. Candidates come in panels of LANES items, factor by factor (panel[j][lane]), so that a
// score is always summed over the factors in ascending order: the same bits for one query and for a million. What is faster
// tells which few need that sum: integers in a batch (_codes.h); for a single query, which reads the items where they lie,
// sums in any order.
#pragma once
#include "_codes.h"
#include "_isa.h"
#include "_search.h"
#include "_simd.h"
#include "_span.h"
#include <algorithm>
#include <cmath>
#include <limits>

constexpr int QUERY_BLOCK = 384; // queries at most that are scored against a panel of items while it is in cache
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

// Rows `ids` of `items`; where `packed` is there, they lie in it by panels, with `norms` beside, and perhaps their `codes`.
template <class T> struct Candidates {
    Span<const T> items;
    Span<const std::int32_t> ids;
    Span<const T> packed;
    Span<const double> norms; // of the candidates if cosine, else upper bounds for all from there on
    Span<const std::int16_t> codes;
    std::ptrdiff_t factors;
    bool cosine;
};

// Which (query, item) pairs rank last: columns of the CSR row of the query, and `drop` for all. Both are sorted.
struct Exclusions {
    const std::int64_t *indptr; // null: no pairs
    Span<const std::int32_t> indices;
    Span<const std::int32_t> drop;

    ALWAYS_INLINE bool contain(std::ptrdiff_t query, std::int32_t id) const {
        if (contains(drop.data, drop.size, id)) return true;
        if (!indptr) return false;
        const std::int64_t n = indptr[query + 1] - indptr[query];
        return contains(indices.slice(indptr[query], n), n, id);
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

// The codes of a panel; false where the norm of a row is not plain.
template <class Set, class T>
ALWAYS_INLINE bool encode_panel_body(const T *panel, std::ptrdiff_t f, const double *norms, std::int16_t *codes) {
    bool plain = true;
    for (int lane = 0; lane < LANES<T>; ++lane) {
        encode(panel + lane, LANES<T>, f, norms[lane], codes + 2 * lane, 2 * LANES<T>);
        bool zeros = true;
        for (std::ptrdiff_t j = 0; j < f; ++j) zeros &= panel[j * LANES<T> + lane] == 0;
        plain &= zeros || has_plain_norm<T>(norms[lane]);
    }
    return plain;
}
FOR_BEST_ISA(encode_panel, encode_panel_body)

// scores[q][lane] of the queries in ROWS rows against a panel.
template <int ROWS, class T>
ALWAYS_INLINE void score_tile(const T *queries, const std::int32_t *rows, const T *RESTRICT panel, std::ptrdiff_t f,
                              T *RESTRICT scores) {
    const T *query[ROWS];
    for (int q = 0; q < ROWS; ++q) query[q] = queries + rows[q] * f;
    T sum[ROWS][LANES<T>] = {};
    for (std::ptrdiff_t j = 0; j < f; ++j)
        for (int q = 0; q < ROWS; ++q)
#pragma omp simd
            for (int lane = 0; lane < LANES<T>; ++lane) sum[q][lane] += query[q][j] * panel[j * LANES<T> + lane];
    for (int q = 0; q < ROWS; ++q)
#pragma omp simd
        for (int lane = 0; lane < LANES<T>; ++lane) scores[q * LANES<T> + lane] = sum[q][lane];
}

// The k best of a query so far: a heap with the worst of them on top.
template <class T> struct Best {
    Candidate<T> *heap;
    std::ptrdiff_t size;
    double norm;  // of the query
    double share; // the worst score in units of |x| / CODE^2 where the heap is full and codes can tell, else 0
    bool gained;  // from the last panel

    void offer(Candidate<T> candidate, std::ptrdiff_t k, std::ptrdiff_t query, const Exclusions &exclusions) {
        const T lowest = std::numeric_limits<T>::lowest();
        if (!(candidate.score >= lowest)) candidate.score = lowest; // NaN and -inf
        if (size == k && !(candidate < heap[0])) return;
        if (exclusions.contain(query, candidate.id)) {
            candidate.score = lowest;
            if (size == k && !(candidate < heap[0])) return;
        }
        if (size == k) {
            replace_worst(candidate);
        } else {
            heap[size++] = candidate;
            std::push_heap(heap, heap + size);
        }
    }

    // In one pass; pop_heap and push_heap take two.
    ALWAYS_INLINE void replace_worst(const Candidate<T> &candidate) {
        std::ptrdiff_t place = 0;
        for (std::ptrdiff_t child; (child = 2 * place + 1) < size; place = child) {
            if (child + 1 < size) child += heap[child] < heap[child + 1];
            if (!(candidate < heap[child])) break;
            heap[place] = heap[child];
        }
        heap[place] = candidate;
    }

    // The same for the lanes of a panel.
    ALWAYS_INLINE void offer(const T *score, const std::int32_t *ids, int lanes, std::ptrdiff_t k, std::ptrdiff_t query,
                             const Exclusions &exclusions) {
        const bool full = size == k && heap[0].score > std::numeric_limits<T>::lowest();
        const T worst = full ? heap[0].score : T(0);
        std::uint32_t good = 0;
#pragma omp simd reduction(| : good)
        for (int lane = 0; lane < LANES<T>; ++lane) good |= std::uint32_t(!full | (score[lane] >= worst)) << lane;
        good &= ~0u >> (32 - lanes);
        gained = good != 0;
        for (; good; good &= good - 1) {
            const int lane = __builtin_ctz(good);
            offer({score[lane], ids[lane]}, k, query, exclusions);
        }
        share = size == k && has_plain_norm<T>(norm) ? heap[0].score / norm * CODE * CODE : 0;
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

// Which queries of a tile may gain something from a panel, a bit each: those whose codes cannot tell, or tell so.
template <class Set, class T>
ALWAYS_INLINE unsigned promising_queries(const Best<T> *best, const std::int16_t *query_codes,
                                         const std::int16_t *panel_codes, std::ptrdiff_t pairs, double scale,
                                         double slack) {
    const unsigned all = (1u << Set::tile) - 1;
    std::int32_t bounds[Set::tile];
    unsigned unknown = 0;
    int likely = 0;
    for (int r = 0; r < Set::tile; ++r) {
        bounds[r] = hopeless_product(best[r].share * scale - slack);
        unknown |= unsigned(bounds[r] == 0) << r;
        likely += (bounds[r] == 0) | best[r].gained;
    }
    if (3 * likely > Set::tile) return all;
    return unknown | above<Set::tile, 4 * LANES<T>>(Set(), query_codes, panel_codes, pairs, bounds);
}

// A block of queries against the panels first .. last - 1: the k best candidates of query `start + q` go to row q of
// `ids` and `scores` (stride k), padded with id -1 and the lowest score. Where candidates come by descending norm, a
// tile of queries is done once no later candidate can reach any of them: |x . y| <= |x| |y| (Cauchy-Schwarz), widened
// by the rounding error of a sum of f products. Codes tell which queries need the scores of a panel, unless more than a
// third of their tile is likely to. Adds to `work` how many pairs of a query and a candidate it looked at and how many of
// these it scored. Work space: `heaps` count * k, `panel` f * LANES, `codes` QUERY_BLOCK * (f + f % 2).
template <class Set, class T>
ALWAYS_INLINE void topk_block_body(Candidates<T> c, const T *queries, std::ptrdiff_t start, std::ptrdiff_t count,
                                   Exclusions exclusions, std::ptrdiff_t first, std::ptrdiff_t last, std::ptrdiff_t k,
                                   std::int32_t *ids, T *scores, Candidate<T> *heaps, T *panel, std::int16_t *codes,
                                   std::int64_t *work) {
    static_assert(QUERY_BLOCK % Set::tile == 0, "the codes of the last tile must have room");
    const std::ptrdiff_t f = c.factors, pairs = (f + 1) / 2;
    const bool ordered = c.packed.data && !c.cosine, single = count == 1 && !c.packed.data && f >= Vec<Narrow<Set>, T>::LANES;
    const double margin = 1 + (f + 8.0) * std::numeric_limits<T>::epsilon(), slack = code_slack<T>(f);
    Best<T> best[QUERY_BLOCK];
    for (std::ptrdiff_t q = 0; q < count; ++q) {
        double square = 0;
        for (std::ptrdiff_t j = 0; j < f; ++j) square += double(queries[q * f + j]) * queries[q * f + j];
        best[q] = {heaps + q * k, 0, std::sqrt(std::max(square, TINY_SQUARE)), 0, false};
        if (c.codes.data && has_plain_norm<T>(best[q].norm))
            encode(queries + q * f, 1, f, best[q].norm, codes + 2 * (q / Set::tile * Set::tile * pairs + q % Set::tile),
                   2 * Set::tile);
    }
    T tile[std::max(Set::tile, 2) * LANES<T>], divisors[LANES<T>];
    double panel_norms[LANES<T>];
    std::int32_t chosen[LANES<T>], needed[QUERY_BLOCK];
    std::ptrdiff_t open = count; // queries from here on can gain nothing more
    std::int64_t looked_at = 0, scored = 0;
    for (std::ptrdiff_t p = first; p < last && open > 0; ++p) {
        const std::ptrdiff_t offset = p * LANES<T>;
        int lanes = static_cast<int>(std::min<std::ptrdiff_t>(LANES<T>, c.ids.size - offset));
        const std::int32_t *panel_ids = c.ids.slice(offset, lanes);
        if (single && best[0].size == k) {
            looked_at += lanes;
            lanes = promising<Set>(c, panel_ids, lanes, queries, best[0].norm, best[0].heap[0].score, chosen);
            looked_at -= lanes; // those that follow below
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

        std::ptrdiff_t still_open = 0, n_needed = 0;
        for (std::ptrdiff_t q = 0; q < open; q += Set::tile) {
            const int rows = static_cast<int>(std::min<std::ptrdiff_t>(Set::tile, open - q));
            if (ordered) {
                bool done = true;
                for (int r = 0; r < rows; ++r)
                    done &= best[q + r].size == k && best[q + r].heap[0].score > best[q + r].norm * norms[0] * margin;
                if (done) continue;
            }
            still_open = q + rows;
            looked_at += rows * lanes;
            unsigned promises = ~0u;
            if constexpr (HAS_CODES)
                if (c.codes.data && rows == Set::tile)
                    promises = promising_queries<Set>(
                        best + q, codes + q * 2 * pairs, c.codes.slice(offset * 2 * pairs, LANES<T> * 2 * pairs), pairs,
                        c.cosine ? 1 : 1 / norms[0], slack);
            for (int r = 0; r < rows; ++r) {
                needed[n_needed] = static_cast<std::int32_t>(q + r);
                n_needed += promises >> r & 1;
                best[q + r].gained = false;
            }
        }
        open = still_open;
        scored += n_needed * lanes;

        if (c.cosine && n_needed)
            for (int lane = 0; lane < LANES<T>; ++lane) divisors[lane] = norms[lane] > 0 ? T(norms[lane]) : T(ZERO_NORM);
        int rows;
        for (std::ptrdiff_t i = 0; i < n_needed; i += rows) {
            if (i + Set::tile <= n_needed) {
                rows = Set::tile;
                score_tile<Set::tile>(queries, needed + i, items, f, tile);
            } else if (i + 2 <= n_needed) {
                rows = 2;
                score_tile<2>(queries, needed + i, items, f, tile);
            } else {
                rows = 1;
                score_tile<1>(queries, needed + i, items, f, tile);
            }
            for (int r = 0; r < rows; ++r) {
                T *score = tile + r * LANES<T>;
                if (c.cosine)
#pragma omp simd
                    for (int lane = 0; lane < LANES<T>; ++lane) score[lane] /= divisors[lane];
                const std::int32_t q = needed[i + r];
                best[q].offer(score, panel_ids, lanes, k, start + q, exclusions);
            }
        }
    }
    for (std::ptrdiff_t q = 0; q < count; ++q) {
        std::sort_heap(best[q].heap, best[q].heap + best[q].size);
        for (std::ptrdiff_t i = 0; i < k; ++i) {
            const bool found = i < best[q].size;
            ids[q * k + i] = found ? best[q].heap[i].id : -1;
            scores[q * k + i] = found ? best[q].heap[i].score : std::numeric_limits<T>::lowest();
        }
    }
    work[0] += looked_at;
    work[1] += scored;
}
FOR_BEST_ISA_OR_VNNI(topk_block, topk_block_body)
