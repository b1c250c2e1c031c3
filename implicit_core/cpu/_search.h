// Binary search without branches on what is there, which no processor can predict.
#pragma once
#include "_isa.h"
#include <cstddef>
#include <cstdint>

// Whether n numbers, which rise, hold a value.
ALWAYS_INLINE bool contains(const std::int32_t *sorted, std::ptrdiff_t n, std::int32_t value) {
    if (n == 0) return false;
    for (std::ptrdiff_t half; n > 1; n -= half) {
        half = n / 2;
        sorted += (sorted[half] <= value) * half;
    }
    return *sorted == value;
}
