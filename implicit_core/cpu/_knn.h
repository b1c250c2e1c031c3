// The best k columns of a row of a sparse product left . right, gathered in a dense accumulator (Gustavson's algorithm).
// A cell is summed over the entries of the left row in their order: the same bits on any number of threads.
#pragma once
#include "_isa.h"
#include "_span.h"
#include "_topk.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// A CSR matrix; the pointers of its rows need not start at 0.
struct Rows {
    const std::int64_t *indptr;
    Span<const std::int32_t> indices;
    Span<const double> values;
};

// The sum of a column that the row has not reached. Sums of reached ones are never -0.
constexpr double UNREACHED = -0.0;

// Scratch space of a thread. Between two rows all sums are UNREACHED, except those of dropped columns, which are any other
// number and so never enter the list of columns reached.
struct Accumulator {
    double *sums;                 // columns
    std::int32_t *reached;        // columns + 1
    Span<Candidate<double>> best; // as many as there are candidates, or k + OFFERED
};

inline bool is_unreached(double sum) { return sum == 0 && std::signbit(sum); }

// Rows of `right` come in an order that no processor could foresee, so the first 64 entries of each are fetched some rows
// ahead, also across the end of the left row, into the second cache: the first cannot wait for so many. Always inline: to
// GCC a function that only prefetches does nothing, and it drops calls of it.
constexpr std::int64_t AHEAD = 8, LINE_BYTES = 64;

ALWAYS_INLINE void prefetch(const Rows &right, std::int32_t row) {
    const char *indices = reinterpret_cast<const char *>(right.indices.data + right.indptr[row]);
    const char *values = reinterpret_cast<const char *>(right.values.data + right.indptr[row]);
    for (int line = 0; line < 4; ++line) __builtin_prefetch(indices + line * LINE_BYTES, 0, 2);
    for (int line = 0; line < 8; ++line) __builtin_prefetch(values + line * LINE_BYTES, 0, 2);
}

// Add left row `r` times right to `a`; return how many columns it reached whose sums were UNREACHED.
inline std::ptrdiff_t accumulate(const Rows &left, const Rows &right, std::ptrdiff_t r, const Accumulator &a) {
    double *RESTRICT sums = a.sums;
    std::int32_t *RESTRICT reached = a.reached;
    std::ptrdiff_t count = 0;
    const std::int64_t n = left.indptr[r + 1] - left.indptr[r];
    const std::int32_t *rows = left.indices.slice(left.indptr[r], n);
    const double *factors = left.values.slice(left.indptr[r], n);
    for (std::int64_t i = 0; i < n; ++i) {
        if (left.indptr[r] + i + AHEAD < left.indices.size) prefetch(right, rows[i + AHEAD]);
        const std::int64_t start = right.indptr[rows[i]], m = right.indptr[rows[i] + 1] - start;
        const std::int32_t *RESTRICT columns = right.indices.slice(start, m);
        const double *RESTRICT values = right.values.slice(start, m);
        const double factor = factors[i];
        for (std::int64_t j = 0; j < m; ++j) { // without a branch, which no processor could foresee
            const std::int32_t column = columns[j];
            const double sum = sums[column];
            std::int64_t bits;
            std::memcpy(&bits, &sum, sizeof bits);
            reached[count] = column;
            count += bits == std::numeric_limits<std::int64_t>::min(); // the bits of -0
            sums[column] = (sum + factor * values[j]) + 0.0;           // + 0 turns -0 into 0
        }
    }
    return count;
}

constexpr std::ptrdiff_t OFFERED = 64; // candidates that are offered at once

// The k best candidates so far, and some that may turn out to be worse. There is room for k + OFFERED, or for all.
struct Selection {
    Span<Candidate<double>> best;
    std::ptrdiff_t k, size;
    Candidate<double> worst; // of the k best when last looked at: what is no better cannot be among them

    // Take at most OFFERED candidates, without a branch on scores, which no processor could foresee.
    template <class Score> void offer(const std::int32_t *ids, std::ptrdiff_t count, const Score &score_of) {
        if (size + count > best.size) cut();
        const double lowest = std::numeric_limits<double>::lowest();
        const Candidate<double> least = worst;
        Candidate<double> *RESTRICT free = best.slice(size, count);
        std::ptrdiff_t taken = 0;
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            const std::int32_t id = ids[i];
            const double found = score_of(id), score = found > lowest ? found : lowest; // NaN and -inf
            free[taken] = {score, id};
            taken += (score > least.score) | ((score == least.score) & (id < least.id));
        }
        size += taken;
    }

    template <class Score> void offer_all(Span<const std::int32_t> ids, const Score &score_of) {
        for (std::ptrdiff_t i = 0; i < ids.size; i += OFFERED) {
            const std::ptrdiff_t count = std::min(OFFERED, ids.size - i);
            offer(ids.slice(i, count), count, score_of);
        }
    }

    void cut() {
        if (size <= k) return;
        std::nth_element(best.data, best.data + k - 1, best.data + size);
        size = k;
        worst = best.data[k - 1];
    }
};

// The k best of left row `r` times right to `ids` and `scores`, descending, equal scores by ascending id; what is left
// over holds id -1 and `padding`. Only columns that the row reaches and that are not in `drop` take part, but with `only`
// exactly those in it, where others score lowest. `exclude` makes the columns stored in the left row count as unreached.
inline void product_topk_row(const Rows &left, const Rows &right, std::ptrdiff_t r, bool exclude,
                             Span<const std::int32_t> only, Span<const std::int32_t> drop, std::ptrdiff_t k,
                             double padding, std::int32_t *ids, double *scores, const Accumulator &a) {
    const double lowest = std::numeric_limits<double>::lowest();
    const auto dropped = [&](std::int32_t id) { return std::binary_search(drop.data, drop.data + drop.size, id); };
    const std::int64_t own = exclude ? left.indptr[r + 1] - left.indptr[r] : 0;
    const std::int32_t *liked = left.indices.slice(left.indptr[r], own);
    for (std::int64_t i = 0; i < own; ++i) a.sums[liked[i]] = 0;
    const std::ptrdiff_t count = accumulate(left, right, r, a);
    for (std::int64_t i = 0; i < own; ++i) a.sums[liked[i]] = dropped(liked[i]) ? 0 : UNREACHED;

    Selection selection{a.best, k, 0, {-std::numeric_limits<double>::infinity(), 0}};
    double *RESTRICT sums = a.sums;
    const auto take = [sums](std::int32_t id) {
        const double sum = sums[id];
        sums[id] = UNREACHED;
        return sum;
    };
    if (only.size) {
        selection.offer_all(only, [&](std::int32_t id) { return is_unreached(sums[id]) || dropped(id) ? lowest : sums[id]; });
        for (std::ptrdiff_t i = 0; i < count; ++i) take(a.reached[i]);
    } else {
        selection.offer_all(span<const std::int32_t>(a.reached, count), take);
    }
    selection.cut();
    std::sort(a.best.data, a.best.data + selection.size);
    for (std::ptrdiff_t i = 0; i < k; ++i) {
        ids[i] = i < selection.size ? a.best.data[i].id : -1;
        scores[i] = i < selection.size ? a.best.data[i].score : padding;
    }
}
