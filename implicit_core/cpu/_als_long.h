// Conjugate gradient for rows that are too long for the cache. Many of them take each pass together, one block of Y after
// the other, so that what one of them brings into the cache is there for the others. Entries come in the same order as in
// conjugate_gradient, and so do the bits.
#pragma once
#include "_als.h"

// A row of which the first `next` entries have been taken in this pass.
template <class T, class V> struct LongRow {
    const std::int32_t *ids;
    const V *values;
    std::ptrdiff_t n, next;
    T ridge;
    T *x;

    // Where the entries of a block end, in whole groups; all of them do where the columns are not in order.
    std::ptrdiff_t stop_before(std::int64_t column) const {
        std::ptrdiff_t k = next;
        while (k < n && ids[k] < column) ++k;
        return std::min(round_up(k, GROUP), n);
    }
};

constexpr std::ptrdiff_t PIECE = 256; // entries whose weights are there at once

// Steps for `count` rows; Y has `columns` rows, of which `block` at a time. `work` holds SEARCH width elements for each.
template <class Set, class T, class V>
ALWAYS_INLINE void search_by_blocks_body(Fixed<T> fixed, LongRow<T, V> *rows, std::ptrdiff_t count, std::int64_t columns,
                                         std::int64_t block, float alpha, int policy, int steps, T *work) {
    alignas(64) T weight[PIECE], rhs[PIECE];
    for_width<Set>(fixed, [&](auto F, const Fixed<T> &fixed) __attribute__((always_inline)) {
        const auto search_of = [&](std::ptrdiff_t i) __attribute__((always_inline)) {
            return Search<Set, T>(work + i * SEARCH * fixed.width, fixed.width);
        };
        for (std::ptrdiff_t i = 0; i < count; ++i) search_of(i).begin(fixed, rows[i].x);
        for (int pass = 0; pass <= steps; ++pass) {
            for (std::ptrdiff_t i = 0; i < count; ++i) {
                search_of(i).start(fixed, rows[i].ridge, pass);
                rows[i].next = 0;
            }
            for (std::int64_t column = block; column < columns + block; column += block)
                for (std::ptrdiff_t i = 0; i < count; ++i) {
                    Search<Set, T> search = search_of(i);
                    if (pass && search.done()) continue;
                    LongRow<T, V> &row = rows[i];
                    const std::ptrdiff_t stop = row.stop_before(column);
                    for (std::ptrdiff_t n; row.next < stop; row.next += n) {
                        n = std::min(PIECE, stop - row.next);
                        entries(row.values + row.next, n, alpha, policy, weight, rhs);
                        Stream stream{nullptr, row.ids + stop, true};
                        search.template take<F>(fixed, {row.ids + row.next, weight, rhs, n, row.ridge}, stream, pass, steps);
                    }
                }
            for (std::ptrdiff_t i = 0; i < count; ++i) {
                Search<Set, T> search = search_of(i);
                if (!pass || !search.done()) search.finish(fixed.width, pass, steps);
            }
        }
        for (std::ptrdiff_t i = 0; i < count; ++i)
            std::copy_n(search_of(i).z, fixed.factors, rows[i].x);
    });
}
FOR_BEST_ISA(search_by_blocks, search_by_blocks_body)
