// Bayesian personalized ranking: draws of (user, liked item, disliked item), the step on one of them, and the schedule
// that lets threads take steps side by side with the result of one fixed order.
#pragma once
#include "_isa.h"
#include "_random.h"
#include "_span.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

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

// The blocks of a task: the inverse of task_of. Rounds from `blocks` on fill only half of their slots.
struct Blocks {
    std::uint32_t user, liked, disliked;

    Blocks(std::int64_t task, std::uint32_t blocks) {
        const std::uint32_t round = std::uint32_t(task) / blocks, slot = std::uint32_t(task) % blocks, last = blocks - 1;
        user = (round + slot) % blocks;
        liked = disliked = slot;
        if (round < blocks) return;
        const std::uint32_t pairing = round / blocks - 1;
        liked = slot == 0 ? last : (pairing + slot) % last;
        disliked = (pairing + last - slot) % last;
    }
    static bool exists(std::int64_t task, std::uint32_t blocks) {
        return std::uint32_t(task) / blocks < blocks || std::uint32_t(task) % blocks < blocks / 2;
    }
};

// Hands out tasks to threads, in their order. A task begins when the earlier ones that share a block with it are done:
// each block sees its tasks in the same order, whatever the threads do, and none waits for all others as at a barrier.
class Schedule {
    struct Turn { // what a thread knows: its task, and how many come before it per block
        std::int64_t task = -1;
        std::vector<std::uint32_t> users, items;
    };
    std::uint32_t blocks;
    std::atomic<std::int64_t> next{0};
    std::vector<std::atomic<std::uint32_t>> users, items; // tasks done per block
    std::vector<Turn> turns;

    static void wait(const std::atomic<std::uint32_t> &done, std::uint32_t before) {
        for (int spins = 0; done.load(std::memory_order_acquire) != before; ++spins)
            if (spins > 100) std::this_thread::yield();
    }

  public:
    Schedule(std::uint32_t blocks, int threads)
        : blocks(blocks), users(blocks), items(blocks),
          turns(threads, Turn{-1, std::vector<std::uint32_t>(blocks), std::vector<std::uint32_t>(blocks)}) {}

    // The next task for this thread, once it may begin; -1 after the last.
    std::int64_t take(int thread) {
        const std::int64_t tasks = std::int64_t(blocks) * blocks * blocks;
        Turn &turn = turns[thread];
        std::int64_t task = next.fetch_add(1);
        while (task < tasks && !Blocks::exists(task, blocks)) task = next.fetch_add(1);
        if (task >= tasks) return -1;
        for (std::int64_t earlier = std::max<std::int64_t>(turn.task, 0); earlier < task; ++earlier) {
            if (!Blocks::exists(earlier, blocks)) continue;
            const Blocks its(earlier, blocks);
            ++turn.users[its.user];
            ++turn.items[its.liked];
            if (its.disliked != its.liked) ++turn.items[its.disliked];
        }
        turn.task = task;
        const Blocks its(task, blocks);
        wait(users[its.user], turn.users[its.user]);
        wait(items[its.liked], turn.items[its.liked]);
        wait(items[its.disliked], turn.items[its.disliked]);
        return task;
    }

    void finish(std::int64_t task) {
        const Blocks its(task, blocks);
        users[its.user].fetch_add(1, std::memory_order_release);
        items[its.liked].fetch_add(1, std::memory_order_release);
        if (its.disliked != its.liked) items[its.disliked].fetch_add(1, std::memory_order_release);
    }
};

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
