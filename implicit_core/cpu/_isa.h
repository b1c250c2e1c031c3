// Instruction sets: a kernel body is written once as a portable template, compiled for each of them, and the best one
// that the processor has is chosen at run time. IMPLICIT_CORE_ISA=baseline|avx2|avx512|avx512vnni caps the choice.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <cstring>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define RESTRICT __restrict__

// What a body may know about the set that it is compiled for: the bytes of a register, how many queries a tile of `topk`
// holds in registers, and how many rows a tile of a matrix product.
struct Baseline { static constexpr int bytes = 16, tile = 1, tile_rows = 4; };
struct Avx2 { static constexpr int bytes = 32, tile = 3, tile_rows = 4; };
struct Avx512 { static constexpr int bytes = 64, tile = 8, tile_rows = 8; };

struct Avx512Vnni : Avx512 {}; // with products of integers in one instruction, for bodies that gain from it

enum Isa { BASELINE, AVX2, AVX512, AVX512_VNNI };

#if defined(__x86_64__)
#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__) // ignores an attribute whole that has a word in it which it does not know
#define AVX512_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#else
#define AVX512_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"
#endif
#define TARGET_AVX512 __attribute__((target(AVX512_FEATURES)))
#define TARGET_AVX512_VNNI __attribute__((target(AVX512_FEATURES ",avx512vnni")))

inline Isa best_isa() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512vnni") ? AVX512_VNNI : AVX512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? AVX2 : BASELINE;
}
#else
#define TARGET_AVX2
#define TARGET_AVX512
#define TARGET_AVX512_VNNI
inline Isa best_isa() { return BASELINE; }
#endif

inline Isa detect_isa() {
    const char *cap = std::getenv("IMPLICIT_CORE_ISA");
    const Isa best = best_isa();
    if (cap && !std::strcmp(cap, "baseline")) return BASELINE;
    if (cap && !std::strcmp(cap, "avx2")) return std::min(best, AVX2);
    if (cap && !std::strcmp(cap, "avx512")) return std::min(best, AVX512);
    return best;
}

inline Isa isa() {
    static const Isa chosen = detect_isa();
    return chosen;
}

// Defines NAME<T>(arguments...) that runs BODY<Set, T>(arguments...) as compiled for the best instruction set.
#define FOR_BEST_ISA(NAME, BODY) DEFINE_FOR_BEST_ISA(NAME, BODY, NAME##_avx512)

// The same for a body that gains from VNNI.
#define FOR_BEST_ISA_OR_VNNI(NAME, BODY)                                                                               \
    template <class T, class... A> TARGET_AVX512_VNNI auto NAME##_vnni(A... a) { return BODY<Avx512Vnni, T>(a...); }   \
    DEFINE_FOR_BEST_ISA(NAME, BODY, NAME##_vnni)

#define DEFINE_FOR_BEST_ISA(NAME, BODY, WITH_VNNI)                                                                     \
    template <class T, class... A> TARGET_AVX512 auto NAME##_avx512(A... a) { return BODY<Avx512, T>(a...); }          \
    template <class T, class... A> TARGET_AVX2 auto NAME##_avx2(A... a) { return BODY<Avx2, T>(a...); }                \
    template <class T, class... A> auto NAME##_baseline(A... a) { return BODY<Baseline, T>(a...); }                    \
    template <class T, class... A> auto NAME(A... a) {                                                                 \
        switch (isa()) {                                                                                               \
        case AVX512_VNNI: return WITH_VNNI<T>(a...);                                                                   \
        case AVX512: return NAME##_avx512<T>(a...);                                                                    \
        case AVX2: return NAME##_avx2<T>(a...);                                                                        \
        default: return NAME##_baseline<T>(a...);                                                                      \
        }                                                                                                              \
    }
