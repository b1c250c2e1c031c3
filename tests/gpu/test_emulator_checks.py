"""The emulator reports what a kernel must not do, at its place, and does not report what it may do."""

import emulator
import numpy as np
import pytest
from emulator import KernelError, nvrtc

pytestmark = pytest.mark.skipif(bool(emulator.missing()), reason=emulator.missing())

SOURCE = """
extern "C" __global__ void copy(const int *from, int *to, int n, int shift) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = from[i + shift];
}
extern "C" __global__ void vectors(const float4 *from, float *to) {
    const float4 v = from[threadIdx.x];
    to[threadIdx.x] = v.x + v.y + v.z + v.w;
}
extern "C" __global__ void sizes(int a, float b, const int *c, double d) {}
extern "C" __global__ void into_shared(int *out, int n, int barrier) {
    __shared__ int buffer[64];
    __shared__ int other[8];
    if (threadIdx.x < n) buffer[threadIdx.x] = threadIdx.x;
    if (threadIdx.x == 0) other[0] = 1;
    if (barrier) __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = buffer[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void within_warp(int *out, int barrier) {
    __shared__ int buffer[64];
    buffer[threadIdx.x] = threadIdx.x;
    if (barrier) __syncwarp();
    out[threadIdx.x] = buffer[threadIdx.x ^ 1];
}
extern "C" __global__ void across_warps(int *out) {
    __shared__ int buffer[64];
    buffer[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = buffer[threadIdx.x ^ 32];
}
extern "C" __global__ void only_shuffles(int *out) {
    __shared__ int buffer[32];
    buffer[threadIdx.x] = threadIdx.x;
    int x = __shfl_xor_sync(0xffffffff, (int)threadIdx.x, 1);
    out[threadIdx.x] = x + buffer[threadIdx.x ^ 1];
}
extern "C" __global__ void read_then_write(int *out, int barrier) {
    __shared__ int buffer[64];
    buffer[threadIdx.x] = 1;
    __syncthreads();
    int x = buffer[(threadIdx.x + 1) % 64];
    if (barrier) __syncthreads();
    buffer[threadIdx.x] = x + 1;
    out[threadIdx.x] = x;
}
extern "C" __global__ void same_element(int *out) { out[threadIdx.x] = blockIdx.x; }
extern "C" __global__ void add_up(float *sum) { atomicAdd(sum, 1.0f); }
extern "C" __global__ void add_and_read(float *sum, float *out) {
    atomicAdd(sum, 1.0f);
    out[blockIdx.x * blockDim.x + threadIdx.x] = *sum;
}
extern "C" __global__ void add_and_read_relaxed(float *sum, float *out) {
    atomicAdd(sum, 1.0f);
    float x;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(sum) : "memory");
    out[blockIdx.x * blockDim.x + threadIdx.x] = x;
}
extern "C" __global__ void two_barriers(int *out) {
    if (threadIdx.x < 32) __syncthreads();
    else { out[threadIdx.x] = 1; __syncthreads(); }
}
extern "C" __global__ void return_before_barrier(int *out) {
    if (threadIdx.x >= 32) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}
extern "C" __global__ void half_mask(int *out) { out[threadIdx.x] = __shfl_xor_sync(0xffff, (int)threadIdx.x, 1); }
extern "C" __global__ void missing_lane(int *out) {
    if (threadIdx.x != 7) out[threadIdx.x] = __shfl_xor_sync(0xffffffff, (int)threadIdx.x, 1);
}
extern "C" __global__ void waits_for_ever(int *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffff, (int)threadIdx.x, 1);
    else __syncthreads();
}
extern "C" __global__ void strided(const float *from, float *to, int stride) {
    to[threadIdx.x] = from[threadIdx.x * stride];
}
extern "C" __global__ void banks(float *to, int stride) {
    __shared__ float buffer[1024];
    buffer[threadIdx.x * stride] = 1;
    to[threadIdx.x] = buffer[threadIdx.x * stride];
}
"""
LINES = SOURCE.split("\n")


@pytest.fixture(scope="module")
def run():
    module = emulator.load(SOURCE, name="checks.cu")

    def errors(name, grid, block, *args, **options):
        return module.get_function(name).run((grid,), (block,), args, **options).errors

    return errors


def line(text):
    """The place of the first source line with this text."""
    return f"checks.cu:{next(i for i, line in enumerate(LINES, 1) if text in line)}"


def ints(n):
    return np.zeros(n, np.int32)


def only(errors, kind, *words):
    assert len(errors) == 1
    assert errors[0].startswith(kind)
    for word in words:
        assert word in errors[0]


def test_nothing_is_reported_of_a_right_kernel(run):
    source, target = np.arange(100, dtype=np.int32), ints(100)
    assert run("copy", 4, 32, source, target, np.int32(100), np.int32(0)) == []
    np.testing.assert_array_equal(target, source)


def test_reading_and_writing_beyond_an_array_is_reported(run):
    place = line("to[i] = from")
    only(
        run("copy", 1, 32, ints(32), ints(32), np.int32(32), np.int32(1)), "OUT OF BOUNDS", place, "reads 4", "arg0+128"
    )
    only(
        run("copy", 1, 32, ints(32), ints(31), np.int32(32), np.int32(0)),
        "OUT OF BOUNDS",
        place,
        "writes 4",
        "arg1+124",
    )
    only(run("copy", 1, 32, ints(32), ints(32), np.int32(32), np.int32(-1)), "OUT OF BOUNDS", place, "arg0-4")


def test_each_place_is_reported_once(run):
    assert len(run("copy", 4, 32, ints(1), ints(128), np.int32(128), np.int32(0))) == 1


def test_a_vector_must_be_aligned(run):
    source = np.zeros(40, np.float32)
    aligned = source[(-source.ctypes.data // 4) % 4 :]
    assert run("vectors", 1, 8, aligned[:32], np.zeros(8, np.float32)) == []
    only(run("vectors", 1, 8, aligned[1:33], np.zeros(8, np.float32)), "MISALIGNED", line("const float4 v"))


def test_an_array_that_is_not_writeable_must_not_be_written(run):
    target = ints(32)
    target.flags.writeable = False
    only(run("copy", 1, 32, ints(32), target, np.int32(32), np.int32(0)), "READ-ONLY", "arg1")


def test_memory_that_nothing_has_written_must_not_be_read(run):
    written = np.zeros(128, np.uint8)
    written[:64] = 1
    only(run("copy", 1, 32, (ints(32), written), ints(32), np.int32(32), np.int32(0)), "UNINITIALISED", "arg0+64")
    assert run("copy", 1, 16, (ints(32), written), ints(32), np.int32(16), np.int32(0)) == []
    assert run("copy", 1, 32, ints(32), (ints(32), written), np.int32(32), np.int32(0)) == []
    assert written.all()


def test_arrays_that_overlap_are_one_memory(run):
    both = ints(64)
    assert run("copy", 1, 32, both[32:], both[:33], np.int32(32), np.int32(0)) == []
    written = np.ones(33 * 4, np.uint8)
    assert run("copy", 1, 32, both[32:], (both[:33], written), np.int32(32), np.int32(0)) == []
    only(run("copy", 1, 32, both[20:], both[:32], np.int32(32), np.int32(0)), "RACE", "write after read")


def test_shared_memory_starts_without_contents_in_each_block(run):
    only(run("into_shared", 2, 64, ints(128), np.int32(60), np.int32(1)), "UNINITIALISED", "shared memory")
    assert run("into_shared", 2, 64, ints(128), np.int32(64), np.int32(1)) == []


def test_variables_in_shared_memory_are_told_apart(run):
    assert "OUT OF BOUNDS" in run("into_shared", 1, 65, ints(65), np.int32(65), np.int32(1))[0]


def test_arguments_must_be_of_the_size_of_their_parameters(run):
    args = np.int32(1), np.float32(1), ints(1), np.float64(1)
    assert run("sizes", 1, 1, *args) == []
    with pytest.raises(KernelError, match="takes 4 arguments, got 3"):
        run("sizes", 1, 1, *args[:3])
    with pytest.raises(KernelError, match="argument 0: 8 bytes for a parameter of 4"):
        run("sizes", 1, 1, np.int64(1), *args[1:])
    with pytest.raises(KernelError, match="a NumPy scalar, an array or None is needed, got int"):
        run("sizes", 1, 1, 1, *args[1:])


@pytest.mark.parametrize("order", emulator.ORDERS)
class TestRaces:
    def test_a_barrier_of_the_block_orders_all(self, run, order):
        assert run("into_shared", 3, 64, ints(192), np.int32(64), np.int32(1), order=order) == []
        found = run("into_shared", 3, 64, ints(192), np.int32(64), np.int32(0), order=order, initialised=False)
        assert all(error.startswith("RACE") for error in found)
        assert any(
            "no __syncthreads between them" in error and line("if (threadIdx.x < n)") in error for error in found
        )

    def test_syncwarp_orders_a_warp(self, run, order):
        assert run("within_warp", 1, 64, ints(64), np.int32(1), order=order) == []
        found = run("within_warp", 1, 64, ints(64), np.int32(0), order=order, initialised=False)
        assert all("no __syncwarp between them" in error for error in found)
        assert found

    def test_syncwarp_orders_no_other_warp(self, run, order):
        found = run("across_warps", 1, 64, ints(64), order=order, initialised=False)
        assert all("no __syncthreads between them" in error for error in found)
        assert found

    def test_a_shuffle_orders_nothing(self, run, order):
        assert any(error.startswith("RACE") for error in run("only_shuffles", 1, 32, ints(32), order=order))

    def test_a_write_after_a_read_needs_a_barrier(self, run, order):
        assert run("read_then_write", 1, 64, ints(64), np.int32(1), order=order) == []
        found = run("read_then_write", 1, 64, ints(64), np.int32(0), order=order)
        assert all(error.startswith("RACE") for error in found)
        assert found

    def test_blocks_are_not_ordered(self, run, order):
        only(run("same_element", 2, 32, ints(32), order=order), "RACE", "second write", "blocks are not ordered")
        assert run("same_element", 1, 32, ints(32), order=order) == []

    def test_atomic_accesses_may_race_with_each_other_alone(self, run, order):
        total, out = np.zeros(1, np.float32), np.zeros(128, np.float32)
        assert run("add_up", 4, 32, total, order=order) == []
        assert total[0] == 128
        assert run("add_and_read_relaxed", 4, 32, total, out, order=order) == []
        assert run("add_and_read", 4, 32, total, out, order=order)


def test_races_are_found_whatever_the_result(run):
    out = ints(64)
    assert run("read_then_write", 1, 64, out, np.int32(0), order="ascending")
    assert out.min() == 1


def test_all_threads_must_come_to_the_same_barrier(run):
    only(run("two_barriers", 1, 64, ints(64)), "BARRIER", "waits at another barrier")
    only(run("return_before_barrier", 1, 64, ints(64)), "BARRIER", "32 of 64 threads have already returned")


def test_a_lane_must_be_in_the_mask_that_it_gives(run):
    assert all(error.startswith("MASK") for error in run("half_mask", 1, 32, ints(32)))
    assert run("half_mask", 1, 32, ints(32))


def test_a_shuffle_must_not_read_a_lane_that_has_returned(run):
    assert any("reads lane 7" in error for error in run("missing_lane", 1, 32, ints(32)))


def test_threads_that_wait_for_each_other_are_reported(run):
    assert any(error.startswith("DEADLOCK") for error in run("waits_for_ever", 1, 32, ints(32)))


def test_a_block_has_at_most_1024_threads(run):
    only(run("same_element", 1, 1025, ints(2000)), "LAUNCH", "1025 threads")


def test_checks_can_be_turned_off(run):
    assert run("only_shuffles", 1, 32, ints(32), races=False) == []
    assert run("into_shared", 1, 64, ints(64), np.int32(60), np.int32(1), initialised=False) == []


def test_calling_a_kernel_raises_what_is_reported():
    kernel = emulator.load(SOURCE, name="checks.cu").get_function("same_element")
    with pytest.raises(KernelError, match="RACE"):
        kernel((2,), (32,), (ints(32),))
    with pytest.raises(KernelError, match="no kernel 'other'; there are"):
        emulator.load(SOURCE, name="checks.cu").get_function("other")


def costs(name, block, *args):
    report = emulator.load(SOURCE, name="checks.cu").get_function(name).run((1,), (block,), args, costs=True)
    assert report.errors == []
    return {(cost.place, cost.space): (cost.requests, cost.moved, cost.ideal) for cost in report.costs}


def aligned(n):
    array = np.zeros(n + 64, np.float32)
    return array[(-array.ctypes.data // 4) % 32 :][:n]


@pytest.mark.parametrize(("stride", "moved"), [(1, 8), (2, 16), (8, 64), (9, 64)])
def test_sectors_of_global_memory_are_counted(stride, moved):
    place = line("to[threadIdx.x] = from[threadIdx.x * stride]"), "global"
    found = costs("strided", 64, aligned(64 * stride), aligned(64), np.int32(stride))
    assert found[place] == (4, moved + 8, 16)


@pytest.mark.parametrize(("stride", "passes"), [(1, 1), (2, 2), (8, 8), (9, 1), (32, 32)])
def test_passes_over_the_banks_of_shared_memory_are_counted(stride, passes):
    found = costs("banks", 32, aligned(32), np.int32(stride))
    assert found[line("buffer[threadIdx.x * stride] = 1"), "shared"] == (1, passes, 1)


def test_the_compiler_says_what_is_wrong():
    with pytest.raises(nvrtc.CompileError, match=r'bad.cu\(1\): error: identifier "x" is undefined'):
        emulator.load('extern "C" __global__ void bad() { x = 1; }', name="bad.cu")
