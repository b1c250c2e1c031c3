// Bayesian personalized ranking: draws of (user, liked item, disliked item), the step on one of them, and the schedule
// that lets threads take steps side by side with the result of one fixed order.
#pragma once
#include "_isa.h"
#include "_random.h"
#include "_span.h"
#include <algorithm>
#include <cmath>

struct Triple {
    std::int32_t user, liked, disliked;
};

// The stored entries; users[k] is the row of entry k.
struct Entries {
    const std::int64_t *indptr;
    Span<const std::int32_t> users, indices;
};

// Draw n of an epoch: a stored entry, and the item of another. False where it is no use: the two items are the same,
// or, if `verify`, the user has both.
inline bool draw_triple(const Entries &entries, std::uint64_t key, std::uint32_t epoch, std::uint64_t n, bool verify,
                        Triple &triple) {
    const Draw draw = philox(key, epoch, 0, n);
    const std::ptrdiff_t size = entries.indices.size;
    const std::int64_t liked = below(draw.first, size), disliked = below(draw.second, size);
    triple = {*entries.users.slice(liked, 1), *entries.indices.slice(liked, 1), *entries.indices.slice(disliked, 1)};
    if (triple.liked == triple.disliked) return false;
    if (!verify) return true;
    const std::int64_t start = entries.indptr[triple.user], stop = entries.indptr[triple.user + 1];
    const std::int32_t *row = entries.indices.slice(start, stop - start);
    return !std::binary_search(row, row + (stop - start), triple.disliked);
}

// Users and items fall into `blocks` blocks each (a power of two), by a hash. A step belongs to the block of its user
// and the pair of blocks of its items. In a round, tasks share no block: rounds 0 .. blocks - 1 hold the pairs of a
// block with itself, the others, by the circle method of round-robin tournaments, the pairs of different blocks; within
// both, the blocks of users rotate. Round r has `blocks` or `blocks / 2` tasks, numbered from r * blocks.
inline std::uint32_t block_of(std::int32_t id, std::uint32_t blocks) {
    return (std::uint32_t(id) * 0x9E3779B9U >> 16) & (blocks - 1);
}

inline std::int32_t task_of(const Triple &triple, std::uint32_t blocks) {
    const std::uint32_t user = block_of(triple.user, blocks);
    const std::uint32_t a = block_of(triple.liked, blocks), b = block_of(triple.disliked, blocks), last = blocks - 1;
    if (a == b) return std::int32_t(((user + blocks - a) % blocks) * blocks + a);
    std::uint32_t round, slot = 0;
    if (a == last || b == last) {
        round = std::min(a, b);
    } else {
        round = (a + b) * (blocks / 2) % last; // half of a + b, modulo blocks - 1
        slot = std::min((a + last - round) % last, (b + last - round) % last);
    }
    return std::int32_t((blocks + round * blocks + (user + blocks - slot) % blocks) * blocks + slot);
}

// A step of gradient ascent on ln sigma(x . (liked - disliked)) with an L2 penalty (Rendle et al. 2009). The last of
// the f + 1 columns is the bias of an item and 1 for a user. True where the liked item scored higher.
template <class Set, class T>
ALWAYS_INLINE bool bpr_step_body(T *RESTRICT x, T *RESTRICT liked, T *RESTRICT disliked, std::ptrdiff_t f, T rate,
                                 T regularization) {
    T lanes[16] = {};
    std::ptrdiff_t j = 0;
    for (; j + 16 <= f; j += 16)
#pragma omp simd
        for (int l = 0; l < 16; ++l) lanes[l] += x[j + l] * (liked[j + l] - disliked[j + l]);
    T score = liked[f] - disliked[f];
    for (int l = 0; l < 16; ++l) score += lanes[l];
    for (; j < f; ++j) score += x[j] * (liked[j] - disliked[j]);
    const T z = 1 / (1 + std::exp(score));
#pragma omp simd
    for (std::ptrdiff_t l = 0; l < f; ++l) {
        const T user = x[l];
        x[l] += rate * (z * (liked[l] - disliked[l]) - regularization * user);
        liked[l] += rate * (z * user - regularization * liked[l]);
        disliked[l] += rate * (-z * user - regularization * disliked[l]);
    }
    liked[f] += rate * (z - regularization * liked[f]);
    disliked[f] += rate * (-z - regularization * disliked[f]);
    return z < T(0.5);
}
FOR_BEST_ISA(bpr_step, bpr_step_body)
