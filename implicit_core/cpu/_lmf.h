// Logistic matrix factorization: the step of one row, which is a row of `counts`, with the other side Y fixed.
#pragma once
#include "_dots.h"
#include "_random.h"
#include "_span.h"
#include <algorithm>
#include <cmath>

// What all rows of a half-step share.
template <class T> struct HalfStep {
    Span<const T> Y;
    std::ptrdiff_t width, constant; // the length of a row of Y, and the element of x that stays as it is
    Span<const std::int32_t> indices;
    Span<const T> values;
    Span<const std::int32_t> pool; // columns in random order, of which BATCH in a row are drawn at once
    T rate, regularization;
    std::uint64_t key;
    std::uint32_t epoch, stream;

    const T *row(std::ptrdiff_t i) const { return Y.slice(i * width, width); }
};

constexpr int BATCH = 32; // samples that are looked at together; a multiple of 4

// Samples of a row: values are confidences, negative for what is not liked.
template <class T> struct Samples {
    std::int32_t ids[BATCH];
    T values[BATCH] = {};
    int n = 0;
};

// Add the samples to the gradient: value * (1 - sigma(x . y)) for what is liked, value * sigma(x . y) for what is not,
// times y.
template <class T>
ALWAYS_INLINE void add_samples(const HalfStep<T> &half, Samples<T> &samples, const T *RESTRICT x,
                               T *RESTRICT gradient) {
    const std::ptrdiff_t f = half.width;
    while (samples.n % 4) {
        samples.ids[samples.n] = samples.ids[0];
        samples.values[samples.n++] = 0;
    }
    T s[BATCH] = {};
    for (int k = 0; k < samples.n; k += 4) {
        const std::int32_t *ids = samples.ids + k;
        T products[4];
        dots<4>({half.row(ids[0]), half.row(ids[1]), half.row(ids[2]), half.row(ids[3])}, x, f, products);
        for (int l = 0; l < 4; ++l) s[k + l] = products[l];
    }
    for (int l = 0; l < BATCH; ++l) {
        const T value = samples.values[l];
        s[l] = value / (1 + std::exp(value > 0 ? s[l] : -s[l]));
    }
    for (int k = 0; k < samples.n; k += 4) {
        const T *y0 = half.row(samples.ids[k]), *y1 = half.row(samples.ids[k + 1]);
        const T *y2 = half.row(samples.ids[k + 2]), *y3 = half.row(samples.ids[k + 3]);
        const T s0 = s[k], s1 = s[k + 1], s2 = s[k + 2], s3 = s[k + 3];
        std::ptrdiff_t j = 0;
        for (; j + WIDTH<T> <= f; j += WIDTH<T>)
#pragma omp simd
            for (int l = 0; l < WIDTH<T>; ++l)
                gradient[j + l] += s0 * y0[j + l] + s1 * y1[j + l] + s2 * y2[j + l] + s3 * y3[j + l];
        for (; j < f; ++j) gradient[j] += s0 * y0[j] + s1 * y1[j] + s2 * y2[j] + s3 * y3[j];
    }
    samples.n = 0;
}

template <class T>
ALWAYS_INLINE void add_sample(const HalfStep<T> &half, Samples<T> &samples, std::int32_t id, T value,
                              const T *RESTRICT x, T *RESTRICT gradient) {
    const T *y = half.row(id);
    for (std::ptrdiff_t j = 0; j < half.width; j += WIDTH<T>) PREFETCH(y + j);
    samples.ids[samples.n] = id;
    samples.values[samples.n] = value;
    if (++samples.n == BATCH) add_samples(half, samples, x, gradient);
}

// A step of AdaGrad (Duchi, Hazan & Singer 2011) for the row of entries start .. stop - 1, with draws first .. last - 1.
// `squares` sums its squared gradients; `stored` is zero for every column, before and after.
template <class Set, class T>
ALWAYS_INLINE void lmf_row_body(const HalfStep<T> *shared, std::int64_t start, std::int64_t stop, std::int64_t first,
                                std::int64_t last, T *RESTRICT x, T *RESTRICT squares, std::uint8_t *RESTRICT stored,
                                T *RESTRICT gradient) {
    const HalfStep<T> &half = *shared;
    const std::int32_t *ids = half.indices.slice(start, stop - start);
    const T *values = half.values.slice(start, stop - start);
    Samples<T> samples;
    for (std::ptrdiff_t j = 0; j < half.width; ++j) gradient[j] = -half.regularization * x[j];
    for (std::int64_t k = 0; k < stop - start; ++k) {
        stored[ids[k]] = 1;
        add_sample(half, samples, ids[k], values[k], x, gradient);
    }
    for (; first < last; first += BATCH) {
        const Draw draw = philox(half.key, half.epoch, half.stream, std::uint64_t(first));
        const std::int32_t *run = half.pool.slice(below(draw.first, half.pool.size - BATCH + 1), BATCH);
        const int n = int(std::min<std::int64_t>(last - first, BATCH));
        for (int l = 0; l < n; ++l)
            if (!stored[run[l]]) add_sample(half, samples, run[l], T(-1), x, gradient);
    }
    add_samples(half, samples, x, gradient);
    for (std::int64_t k = 0; k < stop - start; ++k) stored[ids[k]] = 0;
    const T kept = x[half.constant];
#pragma omp simd
    for (std::ptrdiff_t j = 0; j < half.width; ++j) {
        squares[j] += gradient[j] * gradient[j];
        x[j] += half.rate * gradient[j] / std::sqrt(T(1e-6) + squares[j]);
    }
    x[half.constant] = kept;
}
FOR_BEST_ISA(lmf_row, lmf_row_body)
