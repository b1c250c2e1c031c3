// A view of an array that knows its size. In debug builds every slice is checked; in others it costs nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#ifdef IMPLICIT_CORE_DEBUG
#include <cstdio>
#include <cstdlib>
#endif

template <class T> struct Span {
    T *data;
    std::ptrdiff_t size;

    // A pointer to `count` elements from `offset` on.
    T *slice(std::ptrdiff_t offset, std::ptrdiff_t count) const {
#ifdef IMPLICIT_CORE_DEBUG
        if (offset < 0 || count < 0 || offset > size || count > size - offset) {
            std::fprintf(stderr, "implicit_core: slice [%td, %td) of an array of %td elements\n", offset,
                         offset + count, size);
            std::abort();
        }
#endif
        return data + offset;
    }
};

template <class T> inline Span<T> span(T *data, std::ptrdiff_t size) { return {data, size}; }
