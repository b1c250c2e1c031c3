// What translated kernels call: memory under checks, barriers, collectives of a warp. runtime.cpp defines it.
#pragma once
#include <cstdint>

typedef std::uint8_t u8;
typedef std::uint16_t u16;
typedef std::uint32_t u32;
typedef std::uint64_t u64;
typedef std::int8_t s8;
typedef std::int16_t s16;
typedef std::int32_t s32;
typedef std::int64_t s64;

struct Extent {
    u32 x, y, z;
};

enum Access { READ, WRITE, ATOMIC_READ, ATOMIC_WRITE, ATOMIC_UPDATE };
enum Collective { SYNC_WARP, SHUFFLE_BUTTERFLY };

// `where` is the place of the instruction in the PTX, which tells instructions apart in reports.
extern "C" {
extern Extent grid, block, block_id;
Extent thread_id();
u8 *global_memory(u64 address, u32 size, Access access, u32 where); // where to read or write these bytes
u8 *shared_memory(u64 offset, u32 size, Access access, u32 where);
void block_barrier(u32 where);
u32 warp_collective(Collective kind, u32 value, u32 argument, u32 clamp, u32 mask, u32 where, bool *in_range);
}
