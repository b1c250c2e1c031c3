// Bayesian personalized ranking: draws of (user, liked item, disliked item), the step on one of them, and the schedule
// that lets threads take steps side by side with the result of one fixed order.
#pragma once
#include "_isa.h"
#include "_random.h"
#include "_search.h"
#include "_span.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

struct Triple {
    std::int32_t user, liked, disliked;
};

// The stored entries; users[k] is the row of entry k.
struct Entries {
    const std::int64_t *indptr;
    Span<const std::int32_t> users, indices;
};

constexpr int DRAWS = 256; // that are made together, so that what they wait for arrives together

// Draws first .. first + n - 1 of an epoch, at most DRAWS: each a stored entry, and the item of another. Returns how many
// are of use, which are left in `triples`. The others have an item twice or, if `verify`, a user who has both items.
template <class Set, class T>
ALWAYS_INLINE int draw_triples_body(const Entries *from, std::uint64_t key, std::uint32_t epoch, std::uint64_t first,
                                    int n, bool verify, T *RESTRICT triples) {
    const Entries &entries = *from;
    const std::int64_t size = entries.indices.size;
    std::int64_t liked[DRAWS], disliked[DRAWS];
#pragma omp simd
    for (int k = 0; k < n; ++k) {
        const Draw draw = philox(key, epoch, 0, first + k);
        liked[k] = below(draw.first, size);
        disliked[k] = below(draw.second, size);
    }
    for (int k = 0; k < n; ++k)
        triples[k] = {*entries.users.slice(liked[k], 1), *entries.indices.slice(liked[k], 1),
                      *entries.indices.slice(disliked[k], 1)};
    int useful = 0;
    for (int k = 0; k < n; ++k) {
        const T triple = triples[k];
        const std::int64_t start = entries.indptr[triple.user], length = entries.indptr[triple.user + 1] - start;
        triples[useful] = triple;
        useful += verify ? !contains(entries.indices.slice(start, length), length, triple.disliked)
                         : triple.liked != triple.disliked;
    }
    return useful;
}
FOR_BEST_ISA(draw_triples, draw_triples_body)

constexpr std::uint32_t BLOCKS = 16; // as _arrays.BPR_BLOCKS

// Users and items fall into BLOCKS blocks each (a power of two), by the first bits of their id times an odd number
// (Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem"). It is drawn anew each
// time that steps are put in order: with the same blocks in all epochs the same pairs always have the last word, and
// the model ranks worse. A step belongs to the block of its user and the pair of blocks of its items. In a round, tasks
// share no block: rounds 0 .. BLOCKS - 1 hold the pairs of a block with itself, the others, by the circle method of
// round-robin tournaments, the pairs of different blocks; within both, the blocks of users rotate. Round r has BLOCKS
// or BLOCKS / 2 tasks, numbered from r * BLOCKS.
inline std::uint32_t block_multiplier(std::uint64_t key, std::uint32_t epoch, std::uint64_t first) {
    return std::uint32_t(philox(key, epoch, 1, first).first) | 1;
}

inline std::uint32_t block_of(std::int32_t id, std::uint32_t multiplier) {
    return std::uint32_t(std::uint64_t(std::uint32_t(id) * multiplier) * BLOCKS >> 32);
}

inline std::uint16_t task_of(const Triple &triple, std::uint32_t multiplier) {
    const std::uint32_t user = block_of(triple.user, multiplier), last = BLOCKS - 1;
    const std::uint32_t a = block_of(triple.liked, multiplier), b = block_of(triple.disliked, multiplier);
    if (a == b) return std::uint16_t(((user + BLOCKS - a) % BLOCKS) * BLOCKS + a);
    std::uint32_t round, slot = 0;
    if (a == last || b == last) {
        round = std::min(a, b);
    } else {
        round = (a + b) * (BLOCKS / 2) % last; // half of a + b, modulo BLOCKS - 1
        slot = std::min((a + last - round) % last, (b + last - round) % last);
    }
    return std::uint16_t((BLOCKS + round * BLOCKS + (user + BLOCKS - slot) % BLOCKS) * BLOCKS + slot);
}

// The round and the blocks of a task: the inverse of task_of. Rounds from BLOCKS on fill only half of their slots.
struct Blocks {
    std::uint32_t round, slot, user, liked, disliked;

    Blocks(std::int64_t task) {
        const std::uint32_t last = BLOCKS - 1;
        round = std::uint32_t(task) / BLOCKS;
        slot = std::uint32_t(task) % BLOCKS;
        user = (round + slot) % BLOCKS;
        liked = disliked = slot;
        if (round < BLOCKS) return;
        const std::uint32_t pairing = round / BLOCKS - 1;
        liked = slot == 0 ? last : (pairing + slot) % last;
        disliked = (pairing + last - slot) % last;
    }
    bool exist() const { return round < BLOCKS || slot < BLOCKS / 2; }

    // The end of the last round before this one that has a task for the block of users. One for those of items has
    // each round; in the round before, this block of users had the next slot, if that existed.
    std::uint32_t users_free() const {
        if (round < BLOCKS || slot + 1 < BLOCKS / 2) return round;
        return std::max(round - BLOCKS / 2, BLOCKS);
    }
};

// Hands out tasks to threads, in their order. A task begins when the earlier ones that share a block with it are done:
// each block sees its tasks in the same order, whatever the threads do, and none waits for all others as at a barrier.
class Schedule {
    std::atomic<std::int64_t> next{0};
    std::atomic<std::uint32_t> users[BLOCKS] = {}, items[BLOCKS] = {}; // the end of the last round that is done

    static void wait(const std::atomic<std::uint32_t> &done, std::uint32_t before) {
        for (int spins = 0; done.load(std::memory_order_acquire) != before; ++spins)
            if (spins > 100) std::this_thread::yield();
    }

  public:
    // The next task, once it may begin; -1 after the last.
    std::int64_t take() {
        std::int64_t task = next.fetch_add(1);
        while (!Blocks(task).exist()) task = next.fetch_add(1);
        if (task >= std::int64_t(BLOCKS) * BLOCKS * BLOCKS) return -1;
        const Blocks its(task);
        wait(users[its.user], its.users_free());
        wait(items[its.liked], its.round);
        wait(items[its.disliked], its.round);
        return task;
    }

    void finish(std::int64_t task) {
        const Blocks its(task);
        users[its.user].store(its.round + 1, std::memory_order_release);
        items[its.liked].store(its.round + 1, std::memory_order_release);
        items[its.disliked].store(its.round + 1, std::memory_order_release);
    }
};

// A step of gradient ascent on ln sigma(x . (liked - disliked)) with an L2 penalty (Rendle et al. 2009). The last of
// the f + 1 columns is the bias of an item and 1 for a user. True where the liked item scored higher.
template <class T>
ALWAYS_INLINE bool bpr_step(T *RESTRICT x, T *RESTRICT liked, T *RESTRICT disliked, std::ptrdiff_t f, T rate,
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

constexpr std::ptrdiff_t AHEAD = 4; // steps between the fetch of rows and their use

// Take steps in turn; return how many liked items scored higher. X and Y have `width` columns.
template <class Set, class T>
ALWAYS_INLINE std::int64_t bpr_steps_body(const Triple *triples, std::ptrdiff_t size, Span<T> X, Span<T> Y,
                                          std::ptrdiff_t width, T rate, T regularization) {
    const auto row = [width](Span<T> side, std::ptrdiff_t id) { return side.slice(id * width, width); };
    std::int64_t correct = 0;
    for (std::ptrdiff_t next = 0; next < size + AHEAD; ++next) {
        if (next < size) {
            const Triple &coming = triples[next];
            const T *x = row(X, coming.user), *liked = row(Y, coming.liked), *disliked = row(Y, coming.disliked);
            for (std::ptrdiff_t j = 0; j < width; j += 64 / std::ptrdiff_t(sizeof(T))) {
                __builtin_prefetch(x + j);
                __builtin_prefetch(liked + j);
                __builtin_prefetch(disliked + j);
            }
        }
        if (next < AHEAD) continue;
        const Triple &now = triples[next - AHEAD];
        correct += bpr_step(row(X, now.user), row(Y, now.liked), row(Y, now.disliked), width - 1, rate, regularization);
    }
    return correct;
}
FOR_BEST_ISA(bpr_steps, bpr_steps_body)
