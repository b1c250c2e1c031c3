// What PTX instructions compute, each as the function op_NAME: see the PTX ISA reference for their definitions.
#pragma once
#include "runtime.hpp"
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <type_traits>

template <class T> constexpr bool is_float = std::is_floating_point<T>::value;
template <class T> using Unsigned = std::conditional_t<sizeof(T) == 2, u16, std::conditional_t<sizeof(T) == 4, u32, u64>>;
template <class T> using Wide = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed<T>::value, s32, u32>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed<T>::value, s64, u64>,
                       std::conditional_t<std::is_signed<T>::value, __int128, unsigned __int128>>>;

// A register holds bits; an instruction reads and writes them as values of its type. Values narrower than a register
// are extended by their sign.
template <class T, class Register> inline T get(Register bits) {
    static_assert(sizeof(Register) >= sizeof(T), "a register is narrower than what is read from it");
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

template <class Register, class T> inline void put(Register &bits, T value) {
    if constexpr (is_float<T>)
        std::memcpy(&bits, &value, sizeof value);
    else
        bits = Register(value);
}

// Integers wrap around.
#define ARITHMETIC(name, op)                                                                                           \
    template <class T> inline T op_##name(T a, T b) {                                                                  \
        if constexpr (is_float<T>)                                                                                     \
            return a op b;                                                                                             \
        else                                                                                                           \
            return T(Wide<Unsigned<T>>(Unsigned<T>(a)) op Wide<Unsigned<T>>(Unsigned<T>(b)));                          \
    }
ARITHMETIC(add, +)
ARITHMETIC(sub, -)
ARITHMETIC(mul, *)
ARITHMETIC(mul_lo, *)
#undef ARITHMETIC

template <class T> inline T op_mul_hi(T a, T b) { return T(Wide<T>(a) * Wide<T>(b) >> 8 * sizeof(T)); }
template <class T> inline Wide<T> op_mul_wide(T a, T b) { return Wide<T>(a) * Wide<T>(b); }
template <class T> inline T op_mad_lo(T a, T b, T c) { return op_add(op_mul_lo(a, b), c); }
template <class T> inline T op_fma_rn(T a, T b, T c) { return std::fma(a, b, c); }

inline float op_fma_rm(float a, float b, float c) { // rounds down; exact in double but for the sum, which is rounded once
    const int mode = std::fegetround();
    std::fesetround(FE_DOWNWARD);
    volatile float x = a, y = b, z = c;
    volatile float result = __builtin_fmaf(x, y, z);
    std::fesetround(mode);
    return result;
}

template <class T> inline T op_div(T a, T b) { // by zero: not defined by PTX
    return b == 0 ? T(-1) : std::is_signed<T>::value && b == T(-1) ? T(-Unsigned<T>(a)) : T(a / b);
}
template <class T> inline T op_div_rn(T a, T b) { return a / b; }
template <class T> inline T op_rcp_rn(T a) { return 1 / a; }

inline float flushed(float x) { return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.0f, x) : x; }
inline float op_ex2_approx_ftz(float a) { return flushed(std::exp2(flushed(a))); }

// Of floats: a number rather than NaN, and -0 is less than 0.
template <class T> inline bool less(T a, T b) {
    if constexpr (is_float<T>)
        if (a == b) return std::signbit(a) && !std::signbit(b);
    return a < b;
}
template <class T> inline T op_min(T a, T b) { return a != a || less(b, a) ? b : a; }
template <class T> inline T op_max(T a, T b) { return a != a || less(a, b) ? b : a; }
template <class T> inline T op_neg(T a) {
    if constexpr (is_float<T>) return -a;
    return T(-Unsigned<T>(a));
}
inline float op_abs(float a) { return std::fabs(a); }

template <class T> inline T op_and(T a, T b) { return a & b; }
template <class T> inline T op_or(T a, T b) { return a | b; }
template <class T> inline T op_xor(T a, T b) { return a ^ b; }
template <class T> inline T op_not(T a) { return std::is_same<T, bool>::value ? T(!a) : T(~a); }

// Shifts by more than the width shift all bits out.
template <class T> inline T op_shl(T a, u32 by) { return by < 8 * sizeof(T) ? T(Unsigned<T>(a) << by) : T(0); }
template <class T> inline T op_shr(T a, u32 by) { return T(a >> std::min<u32>(by, 8 * sizeof(T) - 1) >> (by >= 8 * sizeof(T))); }

// b with the low `length` bits of a at `position`.
template <class T> inline T op_bfi(T a, T b, u32 position, u32 length) {
    constexpr u32 width = 8 * sizeof(T);
    position &= 0xff;
    length &= 0xff;
    if (position >= width || length == 0) return b;
    const T mask = (length < width ? (T(1) << length) - 1 : ~T(0)) << position;
    return (b & ~mask) | (a << position & mask);
}

// Of the bytes of a and b those that the digits of `choice` name, or with 8 added their sign.
inline u32 op_prmt(u32 a, u32 b, u32 choice) {
    u32 result = 0;
    for (u32 i = 0; i < 32; i += 8, choice >>= 4) {
        const u32 byte = u32((u64(b) << 32 | a) >> 8 * (choice & 7)) & 0xff;
        result |= (choice & 8 ? (byte >> 7) * 0xff : byte) << i;
    }
    return result;
}

template <class T> inline T op_selp(T a, T b, bool first) { return first ? a : b; }

inline float op_cvt_sat(float a) { return a > 1 ? 1.0f : a > 0 ? a : 0.0f; } // NaN becomes 0

// The nearest integer, ties to even; the nearest that there is beyond those of 64 bits, and the least for NaN.
inline s64 nearest_s64(float a) {
    if (a >= 9223372036854775808.0f) return INT64_MAX;
    return a >= -9223372036854775808.0f ? s64(std::nearbyint(a)) : INT64_MIN;
}

inline float from_half(u16 bits) {
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return float(value);
}

inline u16 to_half(float a) {
    const _Float16 value = _Float16(a);
    u16 bits;
    std::memcpy(&bits, &value, 2);
    return bits;
}
