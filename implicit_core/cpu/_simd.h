// Vectors that fill a register of an instruction set, over the vector extension of GCC and Clang.
#pragma once
#include "_isa.h"
#include <cstddef>
#include <cstdint>
#include <type_traits>

template <class T, int BYTES> struct VectorOf { typedef T type __attribute__((vector_size(BYTES))); };

// LANES elements; a class, since an argument of a bare vector type needs the instruction set in the caller too.
template <class Set, class T> struct Vec {
    static constexpr int LANES = Set::bytes / sizeof(T);
    typename VectorOf<T, Set::bytes>::type lanes;

    static ALWAYS_INLINE Vec load(const T *from) {
        Vec v;
        __builtin_memcpy(&v.lanes, from, Set::bytes);
        return v;
    }
    ALWAYS_INLINE void store(T *to) const { __builtin_memcpy(to, &lanes, Set::bytes); }

    friend ALWAYS_INLINE Vec operator+(const Vec &a, const Vec &b) { return {a.lanes + b.lanes}; }
    friend ALWAYS_INLINE Vec operator-(const Vec &a, const Vec &b) { return {a.lanes - b.lanes}; }
    friend ALWAYS_INLINE Vec operator*(const Vec &a, const Vec &b) { return {a.lanes * b.lanes}; }
    friend ALWAYS_INLINE Vec operator*(T a, const Vec &b) { return {a * b.lanes}; }
};

// The sum of the lanes of a vector, by halves.
template <int BYTES, class T> ALWAYS_INLINE T sum_lanes(const T *lanes) {
    constexpr int HALF = BYTES / 2;
    if constexpr (HALF >= int(sizeof(T))) {
        typename VectorOf<T, HALF>::type halves[2];
        __builtin_memcpy(halves, lanes, BYTES);
        halves[0] += halves[1];
        T folded[HALF / sizeof(T)];
        __builtin_memcpy(folded, halves, HALF);
        return sum_lanes<HALF>(folded);
    } else {
        return lanes[0];
    }
}

#if defined(__clang__)
#define SHUFFLE(a, b, mask, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, mask, ...) __builtin_shuffle(a, b, mask{__VA_ARGS__})
#endif

// The sums of the lanes of four vectors, by halves.
template <int BYTES, class T> ALWAYS_INLINE void sum_lanes(const T *lanes, T *sums) {
    constexpr int HALF = BYTES / 2, N = HALF / sizeof(T);
    if constexpr (N >= 4) {
        typename VectorOf<T, HALF>::type halves[8];
        __builtin_memcpy(halves, lanes, 4 * BYTES);
        for (int i = 0; i < 4; ++i) halves[i] = halves[2 * i] + halves[2 * i + 1];
        T folded[4 * N];
        __builtin_memcpy(folded, halves, 4 * HALF);
        sum_lanes<HALF>(folded, sums);
    } else if constexpr (N == 2) {
        using Four = typename VectorOf<T, BYTES>::type;
        using Mask = typename VectorOf<std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>, BYTES>::type;
        Four v[4];
        __builtin_memcpy(v, lanes, 4 * BYTES);
        const Four ab = SHUFFLE(v[0], v[1], (Mask), 0, 4, 1, 5) + SHUFFLE(v[0], v[1], (Mask), 2, 6, 3, 7);
        const Four cd = SHUFFLE(v[2], v[3], (Mask), 0, 4, 1, 5) + SHUFFLE(v[2], v[3], (Mask), 2, 6, 3, 7);
        const Four sum = SHUFFLE(ab, cd, (Mask), 0, 1, 4, 5) + SHUFFLE(ab, cd, (Mask), 2, 3, 6, 7);
        __builtin_memcpy(sums, &sum, BYTES);
    } else {
        for (int i = 0; i < 4; ++i) sums[i] = lanes[2 * i] + lanes[2 * i + 1];
    }
}

template <class Set, class T> ALWAYS_INLINE void sum_lanes(const Vec<Set, T> (&v)[4], T *sums) {
    T lanes[4 * Vec<Set, T>::LANES];
    __builtin_memcpy(lanes, v, sizeof(lanes));
    sum_lanes<Set::bytes>(lanes, sums);
}
