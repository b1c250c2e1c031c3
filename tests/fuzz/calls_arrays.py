"""Functions on arrays with drawn arguments, and what their results must be by definition."""

import numpy as np
from arguments import HUGE, NO_COUNT, NO_SEED, NO_THREADS, THREADS
from judging import NOT_NEGATIVE, POSITIVE, RIGHT_N, SEEDS, WRONG_N, coo, prop, ranked, require, same, sizes
from scipy import sparse

import implicit_core.cpu.als
from implicit_core import utils
from implicit_core.cpu.topk import topk
from implicit_core.datasets.synthetic import make_implicit

NO_FACTORS = [
    (None, TypeError),
    ("X", TypeError),
    ([[1.0]], TypeError),
    (np.ones(3), ValueError),
    (np.ones((2, 1), complex), TypeError),
    (np.ones((2, 2), object), TypeError),
    (np.ones((1, 1, 1)), ValueError),
    (np.ones((40, 3)), ValueError),
    (sparse.eye(3), TypeError),
]


@prop
def half_steps(case):
    shape = sizes(case)
    width = 1 + case.byte(20)
    X, Y = case.factors(shape[0], width, whole=False), case.factors(shape[1], width, whole=False)
    regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    X = np.array(X, order="C")
    matrix, dense, stored = case.matrix("Cui", *shape)
    if case.wrong():
        wrong, error = case.one(NO_FACTORS)
        if case.byte(2):
            X = wrong
            case.refuse("X", error, ValueError)
        else:
            Y = wrong
            case.refuse("Y", error, ValueError)
    which = case.byte(3)
    if which == 0:
        loss = case.call(implicit_core.cpu.als.calculate_loss, matrix, X, Y, regularization, threads)
        if loss is not None:
            X, Y = X.astype(np.float64), Y.astype(np.float64)
            weight = np.where(stored, dense, 1.0)
            error = (weight * (np.where(stored & (dense > 0), 1.0, 0) - X @ Y.T) ** 2).sum()
            error += regularization * ((X**2).sum() + (Y**2).sum())
            same(loss, error / weight.sum() if weight.sum() else 0.0, tolerance=1e-4)
        return
    before = X.copy() if isinstance(X, np.ndarray) else None
    if which == 1:
        steps = ()
        function = implicit_core.cpu.als.least_squares
    else:
        steps = (case.pick("cg_steps", [1, 3, 50], [*POSITIVE, (2**31, ValueError)]),)
        function = implicit_core.cpu.als.least_squares_cg
    held = [X]  # X changes, which is what it is for
    done = case.call(
        lambda *rest: (function(rest[0], held[0], *rest[1:]), 1), matrix, Y, regularization, threads, *steps
    )
    if done is None:
        require(before is None or np.array_equal(X, before), "a refused call changed X")
        return
    for u in range(shape[0]):
        if not stored[u].any():
            require(not X[u].any(), "a row without entries is not zero")
        elif which == 1:
            y = Y.astype(np.float64)
            A = y.T @ (np.where(stored[u], dense[u], 1.0)[:, None] * y) + regularization * np.eye(width)
            same(
                X[u],
                np.linalg.solve(A, y.T @ np.where(stored[u], dense[u], 0)),
                tolerance=2e-3 if X.dtype == np.float32 else 1e-7,
            )
    require(np.isfinite(X).all(), "X is not finite")


@prop
def linear_equation(case):
    shape = sizes(case, least=1)
    width = 1 + case.byte(6)
    Y = case.factors(shape[1], width, whole=False)
    gram = Y.T.astype(np.float64) @ Y
    u, user = case.ids("u", shape[0], many=False)
    regularization = case.pick("regularization", [0.1, 1], NOT_NEGATIVE)
    n = case.pick("n_factors", [width], NO_COUNT)
    matrix, dense, stored = case.matrix("Cui", *shape)
    if case.wrong():
        Y, error = case.one(NO_FACTORS)
        case.refuse("Y", error, ValueError)
    function = case.one([implicit_core.cpu.als.user_factor, implicit_core.cpu.als.item_factor])
    system = case.call(implicit_core.cpu.als.user_linear_equation, Y, gram, matrix, u, regularization, n)
    solution = case.call(function, Y, gram, matrix, u, regularization, n)
    if system is None:
        return
    y = Y.astype(np.float64)
    A = y.T @ (np.where(stored[user], dense[user], 1.0)[:, None] * y) + regularization * np.eye(width)
    b = y.T @ np.where(stored[user], dense[user], 0)
    same(system[0], A, tolerance=1e-4)
    same(system[1], b, tolerance=1e-4)
    same(solution, np.linalg.solve(A, b), tolerance=1e-3)


@prop
def best(case):
    n, items = sizes(case)
    width = 1 + case.byte(20)
    Y, X = case.factors(items, width), case.factors(n, width)
    query, scalar = X, False
    if n and case.byte(4) == 0:
        query, scalar = X[0], True
    k = case.pick("k", RIGHT_N, WRONG_N)
    dropped, drop = [], None
    if case.byte(3) == 0:
        drop, dropped = case.ids("filter_items", items, sets=True)
        dropped = [dropped] if isinstance(dropped, int) else dropped or []
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    exclude, stored = None, np.zeros((n, items), bool)
    if case.byte(3) == 0 and not scalar:
        exclude, _, stored = case.matrix("filter_query_items", n, items, finite=None)
        if exclude is None:  # which is right here
            case.refusals = [(name, errors) for name, errors in case.refusals if name != "filter_query_items"]
            stored[:] = False
    if case.wrong():
        wrong = case.one(
            [
                np.ones((3, width + 1)),
                np.ones((2, 2, 2)),
                "a",
                None,
                [["a"]],
                np.ones((2, width), complex),
                [[1], [1, 2]],
                np.full((2, width), None),
            ]
        )
        if case.byte(2):
            Y = wrong
            case.refuse("items", ValueError, TypeError)
        else:
            query = wrong
            case.refuse("query", ValueError, TypeError)
    norms = None
    if case.byte(6) == 0 and isinstance(Y, np.ndarray) and Y.ndim == 2 and items:
        norms = case.pick(
            "item_norms",
            [np.ones(items), np.ones(items).tolist()],
            [(np.ones(items + 1), ValueError), ("a", TypeError, ValueError), (np.ones((items, 2)), ValueError)],
        )
    result = case.call(topk, Y, query, k, norms, exclude, drop, threads)
    if result is None:
        return
    scores = (X[:1] if scalar else X).astype(Y.dtype).astype(np.float64) @ Y.T.astype(np.float64)
    for row, score in enumerate(scores.astype(Y.dtype)):
        wanted = ranked(score, int(k), [*np.flatnonzero(stored[row]), *dropped])
        same(result[0][row], wanted[0])
        same(result[1][row], wanted[1])


@prop
def columns_of(case):
    shape = sizes(case, least=1)
    matrix, dense, _ = case.matrix("query_items", *shape, finite=None)
    ids = np.unique(case.random().integers(0, shape[1], 4))
    given = ids
    if case.wrong():
        given = case.one([[], [2, 1], [0.5], "a", None, [[0]], [[0], [0, 1]], {1: 2}])
        case.refuse("items", ValueError, TypeError)
    result = case.call(implicit_core.cpu.matrix_factorization_base._filter_items_from_sparse_matrix, given, matrix)
    if result is not None:
        same(coo(result).toarray()[:, : len(ids)], dense[:, ids])


@prop
def helpers(case):
    which = case.byte(4)
    if which == 0:
        factors = case.factors(*sizes(case), whole=False)
        if case.wrong():
            factors = case.one([np.ones(3), "a", None, [[1], [1, 2]], np.ones((2, 2), complex)])
            case.refuse("factors", ValueError, TypeError)
        result = case.call(utils.augment_inner_product_matrix, factors)
        if result is not None:
            norm, augmented = result
            norms = np.linalg.norm(factors.astype(np.float64), axis=1)
            same(norm, norms.max(initial=0), tolerance=1e-5)
            same(np.linalg.norm(augmented, axis=1), np.full(len(factors), norms.max(initial=0)), tolerance=1e-3)
    elif which == 1:
        seed = case.pick("random_state", [*SEEDS, case.random(), np.random.RandomState(3)], NO_SEED)
        result = case.call(lambda value: utils.check_random_state(value), seed)
        require(result is None or isinstance(result, np.random.Generator), "no generator")
    elif which == 2:
        matrix, dense, _ = case.matrix("user_items", *sizes(case), finite=None)
        result = case.call(utils.check_csr, matrix)
        require(result is None or result.shape == dense.shape, "shape")
    else:
        shape = sizes(case, least=1)
        matrix, dense, _ = case.matrix("m", *shape, formats="csr", wrong=False, canonical=True)
        row = case.byte(shape[0])
        for column, value in utils.nonzeros(matrix, row):
            require(dense[row, column] == value, "value")
    utils.check_blas_config()


@prop
def synthetic(case):
    users, items = sizes(case, least=1)
    real = [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("a", TypeError),
        (None, TypeError),
        (-1.0, ValueError),
        (1j, TypeError),
    ]
    whole = [
        (-1, ValueError),
        (2.5, TypeError),
        ("3", TypeError),
        (None, TypeError),
        (HUGE, ValueError),
        (True, TypeError),
    ]
    arguments = {
        "users": case.pick("users", [users], [*whole, (0, ValueError)]),
        "items": case.pick("items", [items], [*whole, (0, ValueError), (2**31, ValueError)]),
        "entries": case.pick("entries", [0, users * items, users * items // 2], [*whole, (10**6, ValueError)]),
        "groups": case.pick("groups", [1, items], [*whole, (0, ValueError), (99, ValueError)]),
        "affinity": case.pick("affinity", [0.8, 0, 1], [*real, (1.5, ValueError)]),
        "popularity_exponent": case.pick("popularity_exponent", [1.0, 0, 50], real),
        "popularity_offset": case.pick("popularity_offset", [10.0, 0], real),
        "activity_sigma": case.pick("activity_sigma", [0.5, 0, 30], real),
        "count_median": case.pick("count_median", [3.0, 0.1], [*real, (0, ValueError)]),
        "count_sigma": case.pick("count_sigma", [1.0, 0, 3], real),
        "random_state": case.pick("random_state", [None, 1, case.random()], NO_SEED),
    }
    matrix = case.call(make_implicit, **arguments)
    if matrix is not None:
        require(
            matrix.shape == (users, items) and matrix.nnz == arguments["entries"], "shape", matrix.shape, matrix.nnz
        )
        matrix.check_format(full_check=True)
        require(matrix.has_canonical_format and (matrix.data >= 1).all(), "entries")


@prop
def results(case):
    n, found = case.byte(5), case.byte(8)
    random = case.random()
    ids, scores = random.integers(0, 9, (n, found)), random.random((n, found))
    N = case.byte(9)
    filtered, dropped = case.ids("filter_items", 9, sets=True, wrong=False, scalar=False, mask=False)
    got = case.call(utils._filter_items_from_results, np.arange(n), ids, scores, filtered, N)
    for row in range(n):
        kept = [i for i in ids[row].tolist() if i not in dropped][:N]
        require(got[0][row].tolist() == kept + [-1] * (N - len(kept)), "kept", got[0][row], kept)
