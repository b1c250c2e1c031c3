// The execution of a CUDA grid on one CPU thread, under checks.
//
// Blocks run one after another. Each thread of a block is a fiber with a stack of its own, which runs until it comes to
// a barrier or a collective of its warp. What is checked does not depend on the order in which fibers happen to run:
//
//   bounds, alignment    each access lies in one allocation, at a multiple of its size
//   initialisation       no byte is read that nothing has written
//   races                of two accesses to the same bytes, one of them a write, one is ordered before the other: by
//                        a barrier of the block, by __syncwarp, or by being of the same thread. Blocks are not ordered.
//                        A shuffle orders nothing. Atomic accesses may race with each other.
//   barriers             all threads of the block come to the same barrier, none has returned before
//   collectives          all threads of the mask take part, at the same instruction
//   deadlock             somebody can run
//
// For each 4 bytes are kept the last write and two reads, the last one and the last of another warp: a race of a write
// with a third read can go unseen in one run.
#include "runtime.hpp"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

constexpr u32 WARP = 32, MOST_THREADS = 1024;
constexpr u64 STACK_BYTES = 1 << 16;

enum class State { READY, AT_BARRIER, AT_COLLECTIVE, RETURNED };

struct Thread {
    void *stack; // where its fiber left off
    u32 id, warp, lane;
    State state;
    u32 clock; // one more than the __syncwarps that it has passed
    // The barrier or collective that it waits in, and what comes of it.
    u32 where;
    Collective kind;
    u32 value, argument, clamp, mask, result;
    bool in_range;
};

struct Record { // an access to some of 4 bytes
    u32 block, epoch, clock, where;
    u16 thread;
    u8 bytes;
    bool atomic;
};

struct Shadow { // of 4 bytes; a record without bytes is none
    Record write, read, other_read;
};

struct Allocation {
    u64 start, size;
    u8 *written; // a flag for each byte, or null: all are
    bool read_only;
    std::string name;
    Shadow *shadow;
};

struct Cost {
    u64 requests, moved, ideal;
};

struct Request { // what the lanes of a warp access in one execution of an instruction
    u32 where, size, lanes = 0; // a bit for each lane
    bool shared;
    u64 addresses[WARP];
};

struct Options {
    int order; // of blocks and threads: 0 ascending, 1 descending, 2 random
    u64 seed;
    bool races, initialised, costs;
} options;

std::vector<Allocation> allocations;
std::vector<Thread> threads;
u32 seen_clocks[MOST_THREADS][WARP]; // of each lane of its warp, the clock up to which its accesses come before what is next
u32 absent[MOST_THREADS / WARP];     // of each warp, the lanes that neither wait in a collective nor have returned
std::vector<void *> stacks;
u32 n_threads, running, block_number, epoch; // an epoch ends at each barrier of a block
Thread *current;
void *scheduler_stack;
void (*entry)(const u8 *);
const u8 *parameters;
bool aborted;

std::vector<u8> shared_bytes, shared_allowed, shared_written;
std::vector<Shadow> shared_shadow;

std::map<std::string, bool> reported; // kinds of error with their place
std::string reports;
std::map<std::pair<u32, bool>, Cost> costs;
std::unordered_map<u64, Request> requests;
std::unordered_map<u64, u32> executions; // of an instruction by a thread, within a block

u64 random_bits() { // xorshift (Marsaglia 2003)
    options.seed ^= options.seed << 13;
    options.seed ^= options.seed >> 7;
    return options.seed ^= options.seed << 17;
}

// Each kind of error is reported once for each place. A place is written @N@, N being its line in the PTX.
void report(const char *kind, u32 where, const char *format, ...) {
    if (!reported.emplace(std::string(kind) + "@" + std::to_string(where), true).second) return;
    char text[512], line[640];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "%s at @%u@: block %u, thread %d: %s\n", kind, where, block_number,
             current ? int(current->id) : -1, text);
    reports += line;
}

// ---- races

bool ordered_before_now(const Record &record) {
    if (record.block != block_number) return false;
    if (record.thread == current->id || record.epoch < epoch) return true;
    return record.thread / WARP == current->warp && seen_clocks[current->id][record.thread % WARP] >= record.clock;
}

void check_order(const Record &record, u8 bytes, bool atomic, u32 where, const char *conflict, const std::string &name,
                 u64 offset) {
    if (!(record.bytes & bytes) || (record.atomic && atomic) || ordered_before_now(record)) return;
    const char *missing = record.block != block_number              ? "blocks are not ordered"
                          : record.thread / WARP == current->warp ? "no __syncwarp between them"
                                                                    : "no __syncthreads between them";
    report("RACE", where, "%s of %s+%llu, with block %u, thread %u at @%u@: %s", conflict, name.c_str(),
           (unsigned long long)offset, record.block, record.thread, record.where, missing);
}

void check_races(Shadow *shadow, u64 offset, u32 size, Access access, u32 where, const std::string &name) {
    const bool write = access == WRITE || access == ATOMIC_WRITE || access == ATOMIC_UPDATE;
    const bool atomic = access >= ATOMIC_READ;
    for (u64 word = offset / 4; word <= (offset + size - 1) / 4; ++word) {
        const u64 begin = std::max(offset, 4 * word) - 4 * word, end = std::min(offset + size, 4 * word + 4) - 4 * word;
        const u8 bytes = u8(((1u << (end - begin)) - 1) << begin);
        Shadow &past = shadow[word];
        const Record now = {block_number, epoch, current->clock, where, u16(current->id), bytes, atomic};
        check_order(past.write, bytes, atomic, where, write ? "second write" : "read after write", name, 4 * word);
        if (write) {
            check_order(past.read, bytes, atomic, where, "write after read", name, 4 * word);
            check_order(past.other_read, bytes, atomic, where, "write after read", name, 4 * word);
            past.write = now;
        } else {
            const bool same_warp = past.read.block == now.block && past.read.thread / WARP == now.thread / WARP;
            if (past.read.bytes && (!same_warp || (!past.other_read.bytes && past.read.thread != now.thread)))
                past.other_read = past.read;
            past.read = now;
        }
    }
}

// ---- memory

u8 *nowhere() { // what an access gets that is not allowed
    static u8 bytes[16];
    std::memset(bytes, 0xff, sizeof bytes);
    return bytes;
}

// The n-th execution of an instruction by each lane of a warp makes up one request.
void count(u64 address, u32 size, u32 where, bool shared) {
    const u32 execution = executions[u64(current->id) << 32 | where]++;
    Request &request = requests[u64(current->warp) << 56 ^ u64(where) << 32 ^ execution];
    request.where = where;
    request.size = size;
    request.shared = shared;
    request.lanes |= 1u << current->lane;
    request.addresses[current->lane] = address;
}

void add_up_costs() {
    for (const auto &[key, request] : requests) {
        Cost &cost = costs[{request.where, request.shared}];
        ++cost.requests;
        const u32 lanes_at_once = request.shared ? std::max(1u, 128 / std::max(4u, request.size)) : WARP;
        for (u32 first = 0; first < WARP; first += lanes_at_once) {
            std::set<u64> words, sectors;
            u64 of_bank[WARP] = {};
            for (u32 lane = first; lane < first + lanes_at_once; ++lane)
                for (u32 byte = 0; (request.lanes >> lane & 1) && byte < request.size; byte += std::min(4u, request.size)) {
                    const u64 word = (request.addresses[lane] + byte) / 4;
                    if (words.insert(word).second) ++of_bank[word % WARP];
                    sectors.insert(word / 8);
                }
            cost.moved += request.shared ? *std::max_element(of_bank, of_bank + WARP) : sectors.size();
            cost.ideal += request.shared ? !words.empty() : (words.size() + 7) / 8;
        }
    }
    requests.clear();
    executions.clear();
}

void check_written(u8 *written, u32 size, Access access, u32 where, const std::string &name, u64 offset) {
    if (access != WRITE && access != ATOMIC_WRITE && std::count(written, written + size, 0))
        report("UNINITIALISED", where, "reads %u bytes at %s+%llu, which nothing has written", size, name.c_str(),
               (unsigned long long)offset);
    if (access != READ && access != ATOMIC_READ) std::memset(written, 1, size);
}

// ---- fibers

extern "C" void switch_stack(void **left, void *entered);
asm(R"(
.text
switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

void to_scheduler() { switch_stack(&current->stack, scheduler_stack); }

void run_thread() {
    entry(parameters);
    current->state = State::RETURNED;
    absent[current->warp] &= ~(1u << current->lane);
    --running;
    to_scheduler();
    std::abort(); // nobody comes back to a thread that has returned
}

void *new_stack(void *memory) {
    void **top = reinterpret_cast<void **>(static_cast<u8 *>(memory) + STACK_BYTES - 64);
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(run_thread);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    return top;
}

// ---- collectives of a warp

// Completes the collective that a thread waits in if all threads of its mask that have not returned wait there too.
bool complete_collective(const Thread &waiting) {
    if (absent[waiting.warp] & waiting.mask) return false;
    Thread *lanes = &threads[waiting.warp * WARP];
    const u32 present = std::min(WARP, n_threads - waiting.warp * WARP), mask = waiting.mask, where = waiting.where;
    u32 taking_part = 0;
    for (u32 lane = 0; lane < present; ++lane) {
        const Thread &other = lanes[lane];
        if (!(mask >> lane & 1) || other.state == State::RETURNED) continue;
        if (other.mask != mask || other.where != where) return false;
        taking_part |= 1u << lane;
    }
    if (waiting.kind == SYNC_WARP) {
        u32 seen[WARP] = {};
        for (u32 lane = 0; lane < present; ++lane) {
            if (!(taking_part >> lane & 1)) continue;
            const u32 *its = seen_clocks[lanes[lane].id];
            for (u32 other = 0; other < WARP; ++other) seen[other] = std::max(seen[other], its[other]);
            seen[lane] = std::max(seen[lane], lanes[lane].clock);
        }
        for (u32 lane = 0; lane < present; ++lane) {
            if (!(taking_part >> lane & 1)) continue;
            std::memcpy(seen_clocks[lanes[lane].id], seen, sizeof seen);
            ++lanes[lane].clock;
        }
    } else {
        for (u32 lane = 0; lane < present; ++lane) {
            if (!(taking_part >> lane & 1)) continue;
            Thread &thread = lanes[lane];
            const u32 segment = thread.clamp >> 8 & 31, last = (lane & segment) | (thread.clamp & 31 & ~segment);
            const u32 source = lane ^ (thread.argument & 31);
            thread.in_range = source <= last;
            const u32 from = thread.in_range ? source : lane;
            thread.result = lanes[from].value;
            if (!(taking_part >> from & 1)) {
                current = &thread;
                report("SHUFFLE", where, "reads lane %u, which does not take part", from);
            }
        }
    }
    for (u32 lane = 0; lane < present; ++lane)
        if (taking_part >> lane & 1) lanes[lane].state = State::READY;
    absent[waiting.warp] |= taking_part;
    return true;
}

// ---- blocks

bool complete_barrier() {
    const Thread *first = nullptr, *elsewhere = nullptr;
    u32 waiting = 0;
    for (u32 i = 0; i < n_threads; ++i) {
        const Thread &thread = threads[i];
        if (thread.state != State::AT_BARRIER) continue;
        ++waiting;
        if (!first) first = &thread;
        if (thread.where != first->where) elsewhere = &thread;
    }
    if (!waiting || waiting != running) return false;
    if (elsewhere)
        report("BARRIER", first->where, "thread %u waits at another barrier, @%u@", elsewhere->id, elsewhere->where);
    if (running != n_threads)
        report("BARRIER", first->where, "%u of %u threads have already returned", n_threads - running, n_threads);
    for (u32 i = 0; i < n_threads; ++i)
        if (threads[i].state == State::AT_BARRIER) threads[i].state = State::READY;
    ++epoch;
    return true;
}

void report_deadlock() {
    for (u32 i = 0; i < n_threads; ++i)
        if (threads[i].state != State::RETURNED)
            report("DEADLOCK", threads[i].where, "thread %u waits in %s for others that do not come; %u have returned", i,
                   threads[i].state == State::AT_BARRIER ? "__syncthreads" : "a collective of its warp",
                   n_threads - running);
    aborted = true;
}

void shuffle(std::vector<u32> &order) {
    for (u32 i = u32(order.size()); i > 1; --i) std::swap(order[i - 1], order[random_bits() % i]);
}

std::vector<u32> ordered(u32 n) {
    std::vector<u32> order(n);
    for (u32 i = 0; i < n; ++i) order[i] = options.order == 1 ? n - 1 - i : i;
    return order;
}

void run_block() {
    running = n_threads;
    ++epoch;
    for (u32 i = 0; i < n_threads; ++i) {
        threads[i] = Thread();
        threads[i].stack = new_stack(stacks[i]);
        threads[i].id = i;
        threads[i].warp = i / WARP;
        threads[i].lane = i % WARP;
        threads[i].clock = 1;
    }
    std::memset(seen_clocks, 0, n_threads * sizeof *seen_clocks);
    for (u32 i = 0; i < n_threads; i += WARP) absent[i / WARP] = u32((1ull << std::min(WARP, n_threads - i)) - 1);
    std::vector<u32> order = ordered(n_threads);
    while (running && !aborted) {
        if (options.order == 2) shuffle(order);
        bool progress = false;
        for (const u32 i : order)
            if (threads[i].state == State::READY) {
                current = &threads[i];
                switch_stack(&scheduler_stack, current->stack);
                progress = true;
            }
        current = nullptr;
        for (u32 i = 0; i < n_threads && !progress; ++i) // lanes of the mask may have returned
            progress = threads[i].state == State::AT_COLLECTIVE && complete_collective(threads[i]);
        if (!progress && running && !complete_barrier()) report_deadlock();
    }
}

} // namespace

extern "C" {

Extent grid, block, block_id;

Extent thread_id() { return {current->id % block.x, current->id / block.x % block.y, current->id / (block.x * block.y)}; }

u8 *global_memory(u64 address, u32 size, Access access, u32 where) {
    static Allocation *last = nullptr;
    const auto holds = [&](const Allocation &a) { return a.start <= address && address + size <= a.start + a.size; };
    if (allocations.empty() || last < &allocations.front() || last > &allocations.back() || !holds(*last)) {
        last = nullptr;
        for (Allocation &allocation : allocations)
            if (holds(allocation)) last = &allocation;
    }
    if (options.costs) count(address, size, where, false);
    if (!last) {
        const Allocation *nearest = nullptr;
        const auto distance = [&](const Allocation &a) { return address < a.start ? a.start - address : address - a.start; };
        for (const Allocation &allocation : allocations)
            if (!nearest || distance(allocation) < distance(*nearest)) nearest = &allocation;
        report("OUT OF BOUNDS", where, "%s %u bytes at %s%+lld (the nearest), of %llu bytes",
               access == READ || access == ATOMIC_READ ? "reads" : "writes", size, nearest ? nearest->name.c_str() : "?",
               nearest ? (long long)(address - nearest->start) : 0, (unsigned long long)(nearest ? nearest->size : 0));
        return nowhere();
    }
    const u64 offset = address - last->start;
    if (address % size) {
        report("MISALIGNED", where, "%u bytes at %s+%llu", size, last->name.c_str(), (unsigned long long)offset);
        return nowhere();
    }
    if (last->read_only && access != READ && access != ATOMIC_READ)
        report("READ-ONLY", where, "writes to %s+%llu", last->name.c_str(), (unsigned long long)offset);
    if (options.initialised && last->written) check_written(last->written + offset, size, access, where, last->name, offset);
    if (options.races) check_races(last->shadow, offset, size, access, where, last->name);
    return reinterpret_cast<u8 *>(address);
}

u8 *shared_memory(u64 offset, u32 size, Access access, u32 where) {
    static const std::string name = "shared memory";
    if (options.costs) count(offset, size, where, true);
    if (offset + size > shared_bytes.size() || offset + size < offset || !shared_allowed[offset] ||
        !shared_allowed[offset + size - 1]) {
        report("OUT OF BOUNDS", where, "%s %u bytes at %lld of shared memory, of %llu bytes",
               access == READ || access == ATOMIC_READ ? "reads" : "writes", size, (long long)offset,
               (unsigned long long)shared_bytes.size());
        return nowhere();
    }
    if (offset % size) {
        report("MISALIGNED", where, "%u bytes at %llu of shared memory", size, (unsigned long long)offset);
        return nowhere();
    }
    if (options.initialised) check_written(&shared_written[offset], size, access, where, name, offset);
    if (options.races) check_races(shared_shadow.data(), offset, size, access, where, name);
    return &shared_bytes[offset];
}

void block_barrier(u32 where) {
    current->state = State::AT_BARRIER;
    current->where = where;
    to_scheduler();
}

u32 warp_collective(Collective kind, u32 value, u32 argument, u32 clamp, u32 mask, u32 where, bool *in_range) {
    Thread *thread = current;
    if (!(mask >> thread->lane & 1)) {
        report("MASK", where, "the calling lane %u is not in the mask %08x", thread->lane, mask);
        return 0;
    }
    thread->kind = kind;
    thread->value = value;
    thread->argument = argument;
    thread->clamp = clamp;
    thread->mask = mask;
    thread->where = where;
    thread->state = State::AT_COLLECTIVE;
    absent[thread->warp] &= ~(1u << thread->lane);
    const bool complete = complete_collective(*thread);
    current = thread;
    if (!complete) to_scheduler();
    if (in_range) *in_range = thread->in_range;
    return thread->result;
}

// ---- for the front end

void set_options(int order, u64 seed, int races, int initialised, int count_costs) {
    options = {order, seed | 1, races != 0, initialised != 0, count_costs != 0};
    allocations.clear();
    reported.clear();
    reports.clear();
    costs.clear();
}

void allocate(u64 start, u64 size, u8 *written, int read_only, const char *name) {
    allocations.push_back({start, size, written, read_only != 0, name, nullptr});
}

// `extents` are (offset, bytes) of the parts of shared memory that may be used, n of them.
void launch(void (*kernel)(const u8 *), const u8 *arguments, const u32 *grid_size, const u32 *block_size,
            const u64 *extents, u32 n) {
    entry = kernel;
    parameters = arguments;
    grid = {grid_size[0], grid_size[1], grid_size[2]};
    block = {block_size[0], block_size[1], block_size[2]};
    n_threads = block.x * block.y * block.z;
    aborted = false;
    epoch = 0;
    if (n_threads < 1 || n_threads > MOST_THREADS) return report("LAUNCH", 0, "a block of %u threads", n_threads);
    threads.resize(MOST_THREADS);
    while (stacks.size() < n_threads)
        stacks.push_back(mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

    u64 shared_size = 0;
    for (u32 i = 0; i < n; ++i) shared_size = std::max(shared_size, extents[2 * i] + extents[2 * i + 1]);
    shared_allowed.assign(shared_size, 0);
    for (u32 i = 0; i < n; ++i)
        std::fill_n(shared_allowed.begin() + std::ptrdiff_t(extents[2 * i]), extents[2 * i + 1], 1);
    if (options.races)
        for (Allocation &allocation : allocations) // zeroed pages come when they are touched
            allocation.shadow = static_cast<Shadow *>(std::calloc(allocation.size / 4 + 2, sizeof(Shadow)));

    std::vector<u32> order = ordered(grid.x * grid.y * grid.z);
    if (options.order == 2) shuffle(order);
    for (const u32 number : order) {
        block_number = number;
        block_id = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
        shared_bytes.assign(shared_size, 0xcd);
        shared_written.assign(shared_size, 0);
        shared_shadow.assign(shared_size / 4 + 1, Shadow());
        run_block();
        if (options.costs) add_up_costs();
        if (aborted) break;
    }
    for (Allocation &allocation : allocations) std::free(allocation.shadow);
}

const char *get_reports() { return reports.c_str(); }

// Up to n rows of (place, in shared memory, requests, moved, ideal); returns how many.
u32 get_costs(u64 *rows, u32 n) {
    u32 row = 0;
    for (const auto &[place, cost] : costs) {
        if (row == n) break;
        const u64 values[] = {place.first, place.second, cost.requests, cost.moved, cost.ideal};
        std::copy_n(values, 5, rows + 5 * row++);
    }
    return row;
}
}
