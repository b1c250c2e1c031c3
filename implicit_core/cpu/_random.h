// Counter-based random numbers: draw n is a function of (key, epoch, n), so that any number of threads, in any order,
// and any device see the same draws. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
#pragma once
#include <cstdint>

struct Draw {
    std::uint64_t first, second;
};

inline Draw philox(std::uint64_t key, std::uint32_t epoch, std::uint32_t stream, std::uint64_t n) {
    std::uint32_t c0 = std::uint32_t(n), c1 = std::uint32_t(n >> 32), c2 = epoch, c3 = stream;
    std::uint32_t k0 = std::uint32_t(key), k1 = std::uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = 0xD2511F53ULL * c0, product1 = 0xCD9E8D57ULL * c2;
        c0 = std::uint32_t(product1 >> 32) ^ c1 ^ k0;
        c2 = std::uint32_t(product0 >> 32) ^ c3 ^ k1;
        c1 = std::uint32_t(product1);
        c3 = std::uint32_t(product0);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return {std::uint64_t(c1) << 32 | c0, std::uint64_t(c3) << 32 | c2};
}

// A number in [0, n) from 64 random bits: their product with n, divided by 2^64 (n below 2^63).
inline std::int64_t below(std::uint64_t bits, std::int64_t n) {
    const std::uint64_t m = std::uint64_t(n), low = bits & 0xFFFFFFFF, high = bits >> 32;
    const std::uint64_t m_low = m & 0xFFFFFFFF, m_high = m >> 32;
    const std::uint64_t middle = (low * m_low >> 32) + (high * m_low & 0xFFFFFFFF) + low * m_high;
    return std::int64_t(high * m_high + (high * m_low >> 32) + (middle >> 32));
}
