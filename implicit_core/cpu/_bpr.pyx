"""Loops of Bayesian personalized ranking; draws, steps and their schedule are in ``_bpr.h``."""
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t


cdef extern from "_span.h" nogil:
    cppclass Span[T]:
        pass
    Span[T] span[T](T *data, Py_ssize_t size)

cdef extern from "_bpr.h" nogil:
    enum: DRAWS
    cppclass Triple:
        pass
    cppclass Entries:
        const int64_t *indptr
        Span[const int32_t] users
        Span[const int32_t] indices
    int draw_triples[T](
        const Entries *entries, uint64_t key, uint32_t epoch, uint64_t first, int n, bint verify, T *triples
    )
    uint32_t block_multiplier(uint64_t key, uint32_t epoch, uint64_t first)
    uint16_t task_of(const Triple &triple, uint32_t multiplier)
    cppclass Schedule:
        int64_t take()
        void finish(int64_t task)
    int64_t bpr_steps[T](
        const Triple *triples, Py_ssize_t size, Span[T] X, Span[T] Y, Py_ssize_t width, T rate, T regularization
    )


def draw(
    const int64_t[::1] indptr,  # IN
    const int32_t[::1] users,  # IN: the row of each entry
    const int32_t[::1] indices,  # IN: sorted within a row
    uint64_t key,
    uint32_t epoch,
    uint64_t first,
    bint verify,
    const int64_t[::1] parts,  # IN: part p is draws first + parts[p] .. first + parts[p + 1] - 1
    int32_t[:, ::1] triples,  # OUT: user, liked, disliked of the useful draws of part p, from parts[p] on
    uint16_t[::1] tasks,  # OUT: their tasks
    int64_t[:, ::1] sizes,  # IN/OUT: + how many of part p belong to each task
):
    """Draw triples and say which task each belongs to, in parallel over parts."""
    cdef int p, n = <int> parts.shape[0] - 1
    cdef Entries entries
    entries.indptr = &indptr[0]
    entries.users = span(&users[0], users.shape[0])
    entries.indices = span(&indices[0], indices.shape[0])
    for p in prange(n, nogil=True, schedule="static", chunksize=1, num_threads=n):
        _draw_part(&entries, key, epoch, first, verify, parts[p], parts[p + 1], triples, tasks, sizes[p])


cdef void _draw_part(
    const Entries *entries, uint64_t key, uint32_t epoch, uint64_t first, bint verify, int64_t start, int64_t stop,
    int32_t[:, ::1] triples, uint16_t[::1] tasks, int64_t[::1] sizes,
) noexcept nogil:
    cdef int64_t k, end = start
    cdef int n, useful
    cdef uint32_t multiplier = block_multiplier(key, epoch, first)
    while start < stop:
        n = <int> min(stop - start, DRAWS)
        useful = draw_triples(entries, key, epoch, first + <uint64_t> start, n, verify, <Triple *> &triples[end, 0])
        for k in range(end, end + useful):
            tasks[k] = task_of((<Triple *> &triples[k, 0])[0], multiplier)
            sizes[tasks[k]] += 1
        start += n
        end += useful


def group(
    const int64_t[::1] parts,  # IN
    const int32_t[:, ::1] triples,  # IN
    const uint16_t[::1] tasks,  # IN
    const int64_t[:, ::1] sizes,  # IN
    int64_t[:, ::1] places,  # IN: the place in ``grouped`` of the first triple of part p in each task; changed
    int32_t[:, ::1] grouped,  # OUT: triples by task, in the order of drawing
):
    """Sort triples by task, in parallel over parts."""
    cdef int p, n = <int> parts.shape[0] - 1
    for p in prange(n, nogil=True, schedule="static", chunksize=1, num_threads=n):
        _group_part(parts[p], triples, tasks, sizes[p], places[p], grouped)


cdef void _group_part(
    int64_t start, const int32_t[:, ::1] triples, const uint16_t[::1] tasks, const int64_t[::1] sizes,
    int64_t[::1] places, int32_t[:, ::1] grouped,
) noexcept nogil:
    cdef int64_t k, stop = start
    for k in range(sizes.shape[0]):
        stop += sizes[k]
    for k in range(start, stop):
        (<Triple *> &grouped[places[tasks[k]], 0])[0] = (<const Triple *> &triples[k, 0])[0]
        places[tasks[k]] += 1


def learn(
    const int32_t[:, ::1] triples,  # IN
    const int64_t[::1] offsets,  # IN: task t is triples[offsets[t]] .. triples[offsets[t + 1] - 1]
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] Y,  # IN/OUT
    floating learning_rate,
    floating regularization,
    int num_threads,
):
    """Take the steps by task, in parallel where tasks share no block; return how many liked items scored higher."""
    cdef int _
    cdef int64_t correct = 0
    cdef Schedule schedule
    for _ in prange(num_threads, nogil=True, schedule="static", chunksize=1, num_threads=num_threads):
        correct += _learn_turns(&schedule, triples, offsets, X, Y, learning_rate, regularization)
    return correct


cdef int64_t _learn_turns(
    Schedule *schedule, const int32_t[:, ::1] triples, const int64_t[::1] offsets, floating[:, ::1] X,
    floating[:, ::1] Y, floating learning_rate, floating regularization,
) noexcept nogil:
    cdef int64_t correct = 0, task = schedule.take()
    while task >= 0:
        correct += _steps(triples, offsets[task], offsets[task + 1], X, Y, learning_rate, regularization)
        schedule.finish(task)
        task = schedule.take()
    return correct


def race(
    const int32_t[:, ::1] triples,  # IN
    const int64_t[::1] parts,  # IN: part p is triples[parts[p]] .. triples[parts[p + 1] - 1]
    floating[:, ::1] X,  # IN/OUT
    floating[:, ::1] Y,  # IN/OUT
    floating learning_rate,
    floating regularization,
    int num_threads,
):
    """Take steps without regard to what other threads update (Niu et al. 2011, "Hogwild!")."""
    cdef Py_ssize_t p
    cdef int64_t correct = 0
    for p in prange(parts.shape[0] - 1, nogil=True, schedule="dynamic", chunksize=1, num_threads=num_threads):
        correct += _steps(triples, parts[p], parts[p + 1], X, Y, learning_rate, regularization)
    return correct


cdef int64_t _steps(
    const int32_t[:, ::1] triples, int64_t start, int64_t stop, floating[:, ::1] X, floating[:, ::1] Y,
    floating learning_rate, floating regularization,
) noexcept nogil:
    cdef Py_ssize_t width = X.shape[1]
    if start == stop:
        return 0
    return bpr_steps(
        <const Triple *> &triples[start, 0], <Py_ssize_t> (stop - start), span(&X[0, 0], X.shape[0] * width),
        span(&Y[0, 0], Y.shape[0] * width), width, learning_rate, regularization,
    )
