// Inner products, each summed in the order that its length alone gives.
#pragma once
#include "_isa.h"
#include <cstddef>

template <class T> constexpr int WIDTH = 64 / sizeof(T);

// The sum of WIDTH<T> lanes, by halves.
template <class T> ALWAYS_INLINE T sum_lanes(const T *lanes) {
    T a[WIDTH<T> / 2];
    for (int l = 0; l < WIDTH<T> / 2; ++l) a[l] = lanes[l] + lanes[l + WIDTH<T> / 2];
    for (int half = WIDTH<T> / 4; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) a[l] += a[l + half];
    return a[0];
}

// The inner products of v with N vectors, each summed in lanes.
template <int N, class T>
ALWAYS_INLINE void dots(const T *const (&y)[N], const T *RESTRICT v, std::ptrdiff_t n, T (&sums)[N]) {
    T lanes[N][WIDTH<T>] = {};
    std::ptrdiff_t j = 0;
    for (; j + WIDTH<T> <= n; j += WIDTH<T>)
        for (int i = 0; i < N; ++i)
#pragma omp simd
            for (int l = 0; l < WIDTH<T>; ++l) lanes[i][l] += y[i][j + l] * v[j + l];
    for (int i = 0; i < N; ++i) {
        for (std::ptrdiff_t l = j; l < n; ++l) lanes[i][l - j] += y[i][l] * v[l];
        sums[i] = sum_lanes(lanes[i]);
    }
}

template <class T> ALWAYS_INLINE T dot(const T *a, const T *b, std::ptrdiff_t n) {
    T sums[1];
    dots<1>({a}, b, n, sums);
    return sums[0];
}
