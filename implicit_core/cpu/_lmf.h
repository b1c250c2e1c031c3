// Logistic matrix factorization: the steps of rows of `counts`, with the other side Y fixed.
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

constexpr int BATCH = 32; // samples that are looked at together
constexpr int STRIP = 8;  // of them, whose products are summed side by side
constexpr int GROUP = 16; // rows that draw from the same place of the pool, as _arrays.LMF_GROUP

// Rows of Y for a batch, padded to a multiple of STRIP.
struct Samples {
    std::int32_t ids[BATCH];
    int n;

    Samples(const std::int32_t *from, std::int64_t count) : n(int(std::min<std::int64_t>(count, BATCH))) {
        std::copy_n(from, n, ids);
        for (; n % STRIP; ++n) ids[n] = ids[0];
    }
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

// Add the first n samples to the gradient of a row: value * (1 - sigma(x . y)) for what is liked, value * sigma(x . y) for
// what is not, times y. Values are confidences, negative for what is not liked; 0 adds nothing.
template <class Set, class T>
ALWAYS_INLINE void add_samples(const HalfStep<T> &half, const Samples &samples, int n, const T *RESTRICT values,
                               const T *RESTRICT x, T *RESTRICT gradient) {
    using V = Vec<Set, T>;
    T s[BATCH] = {};
    for (int k = 0; k < n; k += STRIP) {
        const T *y[STRIP];
        for (int l = 0; l < STRIP; ++l) y[l] = half.row(samples.ids[k + l]);
        V sums[STRIP / 4][4] = {};
        for (std::ptrdiff_t j = 0; j < half.width; j += V::LANES)
            for (int l = 0; l < STRIP; ++l) sums[l / 4][l % 4] = sums[l / 4][l % 4] + V::load(y[l] + j) * V::load(x + j);
        for (int l = 0; l < STRIP; l += 4) sum_lanes(sums[l / 4], s + k + l);
    }
#pragma omp simd
    for (int l = 0; l < BATCH; ++l) {
        const T value = values[l];
        s[l] = value / (1 + exponential(value > 0 ? s[l] : -s[l]));
    }
    for (int k = 0; k < n; k += STRIP) {
        const T *y[STRIP];
        for (int l = 0; l < STRIP; ++l) y[l] = half.row(samples.ids[k + l]);
        for (std::ptrdiff_t j = 0; j < half.width; j += V::LANES) {
            V sum = V::load(gradient + j);
            for (int l = 0; l < STRIP; ++l) sum = sum + s[k + l] * V::load(y[l] + j);
            sum.store(gradient + j);
        }
    }
}

// Ask for the rows of a batch some time before they are added; into the second cache and always inline, as _knn.h says.
template <class T> ALWAYS_INLINE void prefetch(const HalfStep<T> &half, const std::int32_t *ids, std::int64_t count) {
    for (std::int64_t k = 0; k < std::min<std::int64_t>(count, BATCH); ++k) {
        const T *y = half.row(ids[k]);
        for (std::ptrdiff_t j = 0; j < half.width; j += 64 / std::ptrdiff_t(sizeof(T))) __builtin_prefetch(y + j, 0, 2);
    }
}

// Steps of AdaGrad (Duchi, Hazan & Singer 2011) for rows u .. u + count - 1 of one group, which draw the same columns, so
// that a batch of them is read once for all; row r has as many draws as `draws` rises by. `squares` sums the squared
// gradients; `scratch` has room for 2 GROUP rows of Y; bit r of stored[column] tells of what row r holds, zero before and
// after.
template <class Set, class T>
ALWAYS_INLINE void lmf_group_body(const HalfStep<T> *shared, std::int64_t u, int count, const std::int64_t *indptr,
                                  const std::int64_t *draws, T *RESTRICT X, T *RESTRICT squares,
                                  std::uint16_t *RESTRICT stored, T *RESTRICT scratch) {
    const HalfStep<T> &half = *shared;
    T *x = scratch, *gradient = scratch + GROUP * half.width, values[BATCH];
    std::int64_t left[GROUP], most = 0; // draws
    for (int r = 0; r < count; ++r) {
        const std::int64_t n = indptr[r + 1] - indptr[r];
        const std::int32_t *ids = half.indices.slice(indptr[r], n);
        const T *confidences = half.values.slice(indptr[r], n);
        left[r] = n ? draws[r + 1] - draws[r] : 0;
        most = std::max(most, left[r]);
        T *xr = x + r * half.width, *gr = gradient + r * half.width;
        std::fill(std::copy_n(X + r * half.columns, half.columns, xr), xr + half.width, T(0));
        for (std::ptrdiff_t j = 0; j < half.width; ++j) gr[j] = -half.regularization * xr[j];
        if (r + 1 < count) prefetch(half, half.indices.data + indptr[r + 1], indptr[r + 2] - indptr[r + 1]);
        for (std::int64_t k = 0; k < n; k += BATCH) {
            const Samples samples(ids + k, n - k);
            prefetch(half, ids + k + BATCH, n - k - BATCH);
            std::fill(std::copy_n(confidences + k, std::min<std::int64_t>(n - k, BATCH), values), values + BATCH, T(0));
            add_samples<Set>(half, samples, samples.n, values, xr, gr);
        }
        for (std::int64_t k = 0; k < n; ++k) stored[ids[k]] |= 1U << r;
    }

    const Draw draw = philox(half.key, half.epoch, half.stream, std::uint64_t(u / GROUP));
    std::int64_t place = below(draw.first, half.pool.size);
    for (std::int64_t done = 0, n; done < most; done += n) {
        n = std::min({most - done, half.pool.size - place, std::int64_t(BATCH)});
        const Samples samples(half.pool.slice(place, n), n);
        std::int32_t holders[BATCH] = {}; // bit r: row r holds it
        for (int l = 0; l < samples.n; ++l) holders[l] = stored[samples.ids[l]];
        place = place + n < half.pool.size ? place + n : 0;
        prefetch(half, half.pool.data + place, std::min(most - done - n, half.pool.size - place));
        for (int r = 0; r < count; ++r) {
            const int drawn = int(std::clamp<std::int64_t>(left[r] - done, 0, n));
            if (drawn == 0) continue;
#pragma omp simd
            for (int l = 0; l < BATCH; ++l) values[l] = T((holders[l] >> r & 1) - 1);
            std::fill(values + drawn, values + BATCH, T(0));
            add_samples<Set>(half, samples, (drawn + STRIP - 1) / STRIP * STRIP, values, x + r * half.width, gradient + r * half.width);
        }
    }

    for (int r = 0; r < count; ++r) {
        const std::int64_t n = indptr[r + 1] - indptr[r];
        const std::int32_t *ids = half.indices.slice(indptr[r], n);
        for (std::int64_t k = 0; k < n; ++k) stored[ids[k]] = 0;
        if (n == 0) continue;
        T *row = X + r * half.columns, *sums = squares + r * half.columns;
        const T *gr = gradient + r * half.width;
        const T kept = row[half.constant];
#pragma omp simd
        for (std::ptrdiff_t j = 0; j < half.columns; ++j) {
            sums[j] += gr[j] * gr[j];
            row[j] += half.rate * gr[j] / std::sqrt(T(1e-6) + sums[j]);
        }
        row[half.constant] = kept;
    }
}
FOR_BEST_ISA(lmf_group, lmf_group_body)
