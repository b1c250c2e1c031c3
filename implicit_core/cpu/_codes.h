// Inner products of rows rounded to 16-bit integers, which x86 multiplies and adds at twice the rate of floats: they tell
// for most candidates that they are not among the best. How much they can be wrong by is known, so that nothing is lost.
#pragma once
#include "_isa.h"
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

constexpr double CODE = 32767; // the norm of a row of codes, but for rounding

// Norms so far from the smallest and the largest of T that products of two rows neither underflow nor overflow.
template <class T> ALWAYS_INLINE bool has_plain_norm(double norm) {
    using Limits = std::numeric_limits<T>;
    return norm > 1e4 * std::sqrt(Limits::min()) && norm < 1e-4 * std::sqrt(Limits::max());
}

// The codes of values[0], values[stride] ... of a row: CODE * value / norm rounded, zeros for a norm of zero. Pairs of
// codes lie `step` apart; an odd number of factors has a zero after it.
template <class T>
ALWAYS_INLINE void encode(const T *values, std::ptrdiff_t stride, std::ptrdiff_t f, double norm, std::int16_t *codes,
                          std::ptrdiff_t step) {
    const double scale = norm > 0 ? CODE / norm : 0;
    for (std::ptrdiff_t j = 0; j < f; ++j)
        codes[j / 2 * step + j % 2] = static_cast<std::int16_t>(std::lrint(scale * values[j * stride]));
    if (f % 2) codes[f / 2 * step + 1] = 0;
}

// How much the product of the codes of two rows and |x . y| CODE^2 / (|x| |y|) differ at most, where x . y is a sum of f
// products in T: a code is off by half a unit, which makes CODE sqrt(f) + f / 4 (Cauchy-Schwarz), and the sum by less
// than (f + 8) eps |x| |y|.
template <class T> inline double code_slack(std::ptrdiff_t f) {
    return CODE * std::sqrt(double(f)) + f + (f + 8) * std::numeric_limits<T>::epsilon() * CODE * CODE;
}

// The largest product of codes that is too small for certain, where all below `bound` are; 0 where that tells nothing.
ALWAYS_INLINE std::int32_t hopeless_product(double bound) {
    return bound > 1 ? static_cast<std::int32_t>(std::min(bound, 2e9)) - 1 : 0;
}

#if defined(__x86_64__)
constexpr bool HAS_CODES = true;

// Which of ROWS queries have a product above their bound with one of the items of a panel (panel[pair][lane][2], BYTES
// for each pair; queries[pair][query][2]); bit r stands for query r. With intrinsics, since compilers multiply and add pairs
// like this only in sums along a row; a function of its own, since GCC keeps the sums in memory where it is inlined.
#define DEFINE_ABOVE(SET, TARGET, REGISTER, SPLAT, ADD_PRODUCT, ANY_ABOVE)                                             \
    template <int ROWS, int BYTES>                                                                                     \
    TARGET __attribute__((noinline)) unsigned above(SET, const std::int16_t *queries, const std::int16_t *panel,       \
                                                    std::ptrdiff_t pairs, const std::int32_t *bounds) {                \
        constexpr int SIZE = sizeof(REGISTER), N = std::min(BYTES / SIZE, ROWS > 1 ? 2 : 4); /* registers at once */  \
        unsigned found = 0;                                                                                            \
        for (int offset = 0; offset < BYTES / 2; offset += N * SIZE / 2) {                                             \
            REGISTER sum[ROWS][N], items[N];                                                                           \
            for (int r = 0; r < ROWS; ++r)                                                                             \
                for (int i = 0; i < N; ++i) sum[r][i] = SPLAT(0);                                                      \
            for (std::ptrdiff_t j = 0; j < pairs; ++j) {                                                               \
                for (int i = 0; i < N; ++i)                                                                            \
                    __builtin_memcpy(&items[i], panel + j * (BYTES / 2) + offset + i * (SIZE / 2), SIZE);              \
                for (int r = 0; r < ROWS; ++r) {                                                                       \
                    std::int32_t pair;                                                                                 \
                    __builtin_memcpy(&pair, queries + 2 * (j * ROWS + r), 4);                                          \
                    for (int i = 0; i < N; ++i) sum[r][i] = ADD_PRODUCT(sum[r][i], SPLAT(pair), items[i]);             \
                }                                                                                                      \
            }                                                                                                          \
            _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; ++r)                                                    \
                _Pragma("GCC unroll 16") for (int i = 0; i < N; ++i)                                                   \
                    found |= unsigned(ANY_ABOVE(sum[r][i], SPLAT(bounds[r])) != 0) << r;                               \
        }                                                                                                              \
        return found;                                                                                                  \
    }
#define ANY_ABOVE_128(a, b) _mm_movemask_epi8(_mm_cmpgt_epi32(a, b))
#define ANY_ABOVE_256(a, b) _mm256_movemask_epi8(_mm256_cmpgt_epi32(a, b))
#define ADD_PRODUCT_128(sum, a, b) _mm_add_epi32(sum, _mm_madd_epi16(a, b))
#define ADD_PRODUCT_256(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#define ADD_PRODUCT_512(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
DEFINE_ABOVE(Baseline, , __m128i, _mm_set1_epi32, ADD_PRODUCT_128, ANY_ABOVE_128)
DEFINE_ABOVE(Avx2, TARGET_AVX2, __m256i, _mm256_set1_epi32, ADD_PRODUCT_256, ANY_ABOVE_256)
DEFINE_ABOVE(Avx512, TARGET_AVX512, __m512i, _mm512_set1_epi32, ADD_PRODUCT_512, _mm512_cmpgt_epi32_mask)
DEFINE_ABOVE(Avx512Vnni, TARGET_AVX512_VNNI, __m512i, _mm512_set1_epi32, _mm512_dpwssd_epi32, _mm512_cmpgt_epi32_mask)
#else
constexpr bool HAS_CODES = false;
template <int ROWS, int BYTES, class Set> // the name, for what is never compiled
unsigned above(Set, const std::int16_t *, const std::int16_t *, std::ptrdiff_t, const std::int32_t *);
#endif
