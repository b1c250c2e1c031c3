"""Loops of Bayesian personalized ranking; draws, steps and their schedule are in ``_bpr.h``."""
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_bpr.h" nogil:
    cppclass Triple:
        int32_t user
        int32_t liked
        int32_t disliked
    cppclass Entries:
        const int64_t *indptr
        Span[const int32_t] users
        Span[const int32_t] indices
    bint draw_triple(
        const Entries &entries, uint64_t key, uint32_t epoch, uint64_t n, bint verify, Triple &triple
    )
    int32_t task_of(const Triple &triple, uint32_t blocks)
    cppclass Schedule:
        Schedule(uint32_t blocks, int threads) except +
        int64_t take(int thread)
        void finish(int64_t task)
    bint bpr_step[T](T *x, T *liked, T *disliked, Py_ssize_t f, T rate, T regularization)


def draw(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] users,  # IN: the row of each entry
    const int32_t[::1] indices,  # IN: sorted within a row
    uint64_t key,
    uint32_t epoch,
    uint64_t first,
    bint verify,
    uint32_t blocks,
    int32_t[:, ::1] triples,  # OUT: user, liked, disliked of draws first .. first + len - 1
    int32_t[::1] tasks,  # OUT: the task of each draw, or -1 where it is skipped
    int num_threads,
):
    """Draw triples and say which task each belongs to."""
    cdef Py_ssize_t n
    cdef Entries entries
    entries.indptr = &indptr[0]
    entries.users = span(&users[0], users.shape[0])
    entries.indices = span(&indices[0], indices.shape[0])
    for n in prange(tasks.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        if draw_triple(entries, key, epoch, first + <uint64_t> n, verify, (<Triple *> &triples[n, 0])[0]):
            tasks[n] = task_of((<Triple *> &triples[n, 0])[0], blocks)
        else:
            tasks[n] = -1


def group(
    const int32_t[::1] tasks,  # IN
    int64_t[::1] offsets,  # OUT, zeroed: task t is order[offsets[t]] .. order[offsets[t + 1] - 1]; one more than tasks
    int32_t[::1] order,  # OUT: draws by task, in the order of drawing; skipped ones are left out
):
    """Sort draws by task."""
    cdef Py_ssize_t n, t
    cdef int64_t start = 0, size
    with nogil:
        for n in range(tasks.shape[0]):
            if tasks[n] >= 0:
                offsets[tasks[n] + 1] += 1
        for t in range(offsets.shape[0] - 1):
            size = offsets[t + 1]
            offsets[t + 1] = start
            start += size
        for n in range(tasks.shape[0]):
            if tasks[n] >= 0:
                order[offsets[tasks[n] + 1]] = <int32_t> n
                offsets[tasks[n] + 1] += 1


def learn(
    const int32_t[:, ::1] triples,  # IN
    const int64_t[::1] offsets,  # IN
    const int32_t[::1] order,  # IN
    Py_ssize_t blocks,
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] Y,  # IN/OUT
    floating learning_rate,
    floating regularization,
    int num_threads,
):
    """Take the steps by task, in parallel where tasks share no block; return how many liked items scored higher."""
    cdef int thread
    cdef int64_t correct = 0
    cdef Schedule *schedule = new Schedule(<uint32_t> blocks, num_threads)
    for thread in prange(num_threads, nogil=True, schedule="static", chunksize=1, num_threads=num_threads):
        correct += _learn_turns(schedule, thread, triples, offsets, order, X, Y, learning_rate, regularization)
    del schedule
    return correct


cdef int64_t _learn_turns(
    Schedule *schedule, int thread, const int32_t[:, ::1] triples, const int64_t[::1] offsets, const int32_t[::1] order,
    floating[:, ::1] X, floating[:, ::1] Y, floating learning_rate, floating regularization,
) noexcept nogil:
    cdef int64_t correct = 0, task = schedule.take(thread)
    while task >= 0:
        correct += _learn_task(
            triples, order, offsets[task], offsets[task + 1], X, Y, learning_rate, regularization
        )
        schedule.finish(task)
        task = schedule.take(thread)
    return correct


def race(
    const int32_t[:, ::1] triples,  # IN
    const int32_t[::1] order,  # IN
    int64_t size,
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] Y,  # IN/OUT
    floating learning_rate,
    floating regularization,
    int num_threads,
):
    """Take ``size`` steps without regard to what other threads update (Niu et al. 2011, "Hogwild!")."""
    cdef Py_ssize_t part, parts = 64 * num_threads
    cdef int64_t correct = 0
    for part in prange(parts, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        correct += _learn_task(
            triples, order, size * part // parts, size * (part + 1) // parts, X, Y, learning_rate, regularization
        )
    return correct


cdef int64_t _learn_task(
    const int32_t[:, ::1] triples, const int32_t[::1] order, int64_t start, int64_t stop, floating[:, ::1] X,
    floating[:, ::1] Y, floating learning_rate, floating regularization,
) noexcept nogil:
    cdef Py_ssize_t k, n, f = X.shape[1] - 1
    cdef int64_t correct = 0
    for k in range(start, stop):
        n = order[k]
        correct += bpr_step(
            &X[triples[n, 0], 0], &Y[triples[n, 1], 0], &Y[triples[n, 2], 0], f, learning_rate, regularization
        )
    return correct
