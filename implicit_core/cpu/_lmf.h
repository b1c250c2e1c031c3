// Logistic matrix factorization: the step of one row, which is a row of `counts`, with the other side Y fixed.
#pragma once
#include "_random.h"
#include "_simd.h"
#include "_span.h"
#include <algorithm>
#include <cmath>

// What all rows of a half-step share.
template <class T> struct HalfStep {
    Span<const T> Y; // with zeros after each row, so that `width` columns fill whole cache lines
    std::ptrdiff_t width, columns, constant; // of which x has `columns`; the element of it that stays as it is
    Span<const std::int32_t> indices;
    Span<const T> values;
    Span<const std::int32_t> pool; // columns in random order
    T rate, regularization;
    std::uint64_t key;
    std::uint32_t epoch, stream;

    const T *row(std::ptrdiff_t i) const { return Y.slice(i * width, width); }
};

constexpr int BATCH = 32; // samples that are looked at together; a multiple of 4
constexpr int GROUP = 16; // rows that draw from the same place of the pool, as _arrays.LMF_GROUP

// Samples of a row: values are confidences, negative for what is not liked. A batch waits for its rows to come, while
// the one before is added.
template <class T> struct Samples {
    std::int32_t ids[2 * BATCH];
    T values[2 * BATCH] = {};
    int n = 0;
};

// e^x = 2^n e^r, r within ln 2 / 2 of zero: the first terms of a series that rounding leaves something of.
ALWAYS_INLINE float exponential(float x) {
    x = x < -87 ? -87 : x > 88 ? 88 : x;
    constexpr float whole = 3 << 22; // where neighbours are 1 apart
    const float shifted = x * 1.44269504F + whole, n = shifted - whole;
    const float r = x - n * 0.693359375F + n * 2.12194440e-4F; // ln 2 in two parts, the first one short
    float series = 1 + r / 7;
    for (int k = 6; k > 0; --k) series = 1 + r * (1.0F / float(k)) * series;
    std::uint32_t bits;
    __builtin_memcpy(&bits, &shifted, 4);
    bits = (bits + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, 4);
    return power * series;
}
inline double exponential(double x) { return std::exp(x); }

// Add the first n samples, at most BATCH, to the gradient: value * (1 - sigma(x . y)) for what is liked,
// value * sigma(x . y) for what is not, times y.
template <class Set, class T>
ALWAYS_INLINE void add_samples(const HalfStep<T> &half, Samples<T> &samples, int n, const T *RESTRICT x,
                               T *RESTRICT gradient) {
    using V = Vec<Set, T>;
    for (; n % 4; ++n) {
        samples.ids[n] = samples.ids[0];
        samples.values[n] = 0;
    }
    T s[BATCH] = {};
    for (int k = 0; k < n; k += 4) {
        V sums[4] = {};
        for (std::ptrdiff_t j = 0; j < half.width; j += V::LANES)
            for (int l = 0; l < 4; ++l)
                sums[l] = sums[l] + V::load(half.row(samples.ids[k + l]) + j) * V::load(x + j);
        sum_lanes(sums, s + k);
    }
#pragma omp simd
    for (int l = 0; l < BATCH; ++l) {
        const T value = samples.values[l];
        s[l] = value / (1 + exponential(value > 0 ? s[l] : -s[l]));
    }
    for (int k = 0; k < n; k += 4)
        for (std::ptrdiff_t j = 0; j < half.width; j += V::LANES) {
            V sum = V::load(gradient + j);
            for (int l = 0; l < 4; ++l) sum = sum + s[k + l] * V::load(half.row(samples.ids[k + l]) + j);
            sum.store(gradient + j);
        }
}

// Take in samples that stand after the first samples.n, at most BATCH.
template <class Set, class T>
ALWAYS_INLINE void take_in(const HalfStep<T> &half, Samples<T> &samples, int added, const T *RESTRICT x,
                           T *RESTRICT gradient) {
    for (int k = samples.n; k < samples.n + added; ++k) {
        const T *y = half.row(samples.ids[k]);
        for (std::ptrdiff_t j = 0; j < half.width; j += 64 / std::ptrdiff_t(sizeof(T))) PREFETCH(y + j);
    }
    samples.n += added;
    if (samples.n <= BATCH) return;
    add_samples<Set>(half, samples, BATCH, x, gradient);
    samples.n -= BATCH;
    std::copy_n(samples.ids + BATCH, BATCH, samples.ids);
    std::copy_n(samples.values + BATCH, BATCH, samples.values);
}

// A step of AdaGrad (Duchi, Hazan & Singer 2011) for row u, of entries start .. stop - 1 and that many draws. `squares`
// sums its squared gradients; `scratch` has room for two rows of Y; `stored` has a bit for every column, zero before and
// after.
template <class Set, class T>
ALWAYS_INLINE void lmf_row_body(const HalfStep<T> *shared, std::int64_t u, std::int64_t start, std::int64_t stop,
                                std::int64_t draws, T *RESTRICT row, T *RESTRICT squares, std::uint32_t *RESTRICT stored,
                                T *RESTRICT scratch) {
    const HalfStep<T> &half = *shared;
    const std::int32_t *ids = half.indices.slice(start, stop - start);
    const T *values = half.values.slice(start, stop - start);
    Samples<T> samples;
    T *x = scratch, *gradient = scratch + half.width;
    std::fill(std::copy_n(row, half.columns, x), gradient, T(0));
    for (std::ptrdiff_t j = 0; j < half.width; ++j) gradient[j] = -half.regularization * x[j];
    for (std::int64_t k = 0; k < stop - start; k += BATCH) {
        const int n = int(std::min<std::int64_t>(stop - start - k, BATCH));
        for (int l = 0; l < n; ++l) stored[ids[k + l] / 32] |= 1U << ids[k + l] % 32;
        std::copy_n(ids + k, n, samples.ids + samples.n);
        std::copy_n(values + k, n, samples.values + samples.n);
        take_in<Set>(half, samples, n, x, gradient);
    }
    const Draw draw = philox(half.key, half.epoch, half.stream, std::uint64_t(u / GROUP));
    std::int64_t place = below(draw.first, half.pool.size);
    while (draws > 0) {
        const int n = int(std::min({draws, half.pool.size - place, std::int64_t(BATCH)}));
        const std::int32_t *run = half.pool.slice(place, n);
        int added = 0;
        for (int l = 0; l < n; ++l) {
            samples.ids[samples.n + added] = run[l];
            samples.values[samples.n + added] = -1;
            added += ~stored[run[l] / 32] >> run[l] % 32 & 1;
        }
        take_in<Set>(half, samples, added, x, gradient);
        draws -= n;
        place = place + n < half.pool.size ? place + n : 0;
    }
    add_samples<Set>(half, samples, samples.n, x, gradient);
    for (std::int64_t k = 0; k < stop - start; ++k) stored[ids[k] / 32] = 0;
    const T kept = row[half.constant];
#pragma omp simd
    for (std::ptrdiff_t j = 0; j < half.columns; ++j) {
        squares[j] += gradient[j] * gradient[j];
        row[j] += half.rate * gradient[j] / std::sqrt(T(1e-6) + squares[j]);
    }
    row[half.constant] = kept;
}
FOR_BEST_ISA(lmf_row, lmf_row_body)
