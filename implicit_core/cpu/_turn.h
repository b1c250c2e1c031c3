// Rows turned by an orthogonal matrix, which keeps their inner products.
#pragma once
#include "_simd.h"
#include <algorithm>

constexpr std::ptrdiff_t TURN_BLOCK = 64, TURN_WIDTH = 32; // rows at a time; what the width of `basis` is a multiple of

// Each row x of `count` becomes basis^T x, where `basis` is factors x width. `out` holds TURN_BLOCK width elements.
template <class Set, class T>
ALWAYS_INLINE void turn_rows_body(T *rows, std::ptrdiff_t count, std::ptrdiff_t factors, const T *basis,
                                  std::ptrdiff_t width, T *out) {
    using V = Vec<Set, T>;
    constexpr int M = Set::tile_rows;
    for (std::ptrdiff_t j = 0; j < width; j += 2 * V::LANES)
        for (std::ptrdiff_t i = 0; i < count; i += M) {
            const T *x[M];
            for (int m = 0; m < M; ++m) x[m] = rows + std::min(i + m, count - 1) * factors;
            V sum[M][2] = {};
            for (std::ptrdiff_t r = 0; r < factors; ++r) {
                const V b0 = V::load(basis + r * width + j), b1 = V::load(basis + r * width + j + V::LANES);
                for (int m = 0; m < M; ++m) {
                    sum[m][0] = sum[m][0] + x[m][r] * b0;
                    sum[m][1] = sum[m][1] + x[m][r] * b1;
                }
            }
            for (int m = 0; m < M; ++m)
                for (int b = 0; b < 2; ++b) sum[m][b].store(out + (i + m) * width + j + b * V::LANES);
        }
    for (std::ptrdiff_t i = 0; i < count; ++i) std::copy_n(out + i * width, factors, rows + i * factors);
}
FOR_BEST_ISA(turn_rows, turn_rows_body)
