"""Nearest neighbours, weights, splits and metrics with drawn arguments."""

import numpy as np
from arguments import NO_NUMBER, NO_SEED, NO_THREADS, THREADS
from judging import POSITIVE, RIGHT_N, SEEDS, SHARES, WRONG_N, configured, coo, prop, require, same, selection, sizes

from implicit_core import evaluation
from implicit_core._nearest_neighbours import NearestNeighboursScorer
from implicit_core.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    ItemItemRecommender,
    TFIDFRecommender,
    all_pairs_knn,
    bm25_weight,
    normalize,
    tfidf_weight,
)


def knn_weights(kind, model, dense, stored):
    """Weighted users × items matrix, from the formulas."""
    if kind is CosineRecommender:
        return dense / np.where((n := np.linalg.norm(dense, axis=0)) == 0, 1, n)
    if kind is TFIDFRecommender:
        w = tfidf(dense.T, stored.T).T
        return w / np.where((n := np.linalg.norm(w, axis=0)) == 0, 1, n)
    if kind is BM25Recommender:
        return bm25(dense.T, stored.T, model.K1, model.B).T
    return dense


def idf(stored):
    return np.log(max(stored.shape[0], 1) / (1 + stored.sum(axis=0)))


def tfidf(dense, stored):
    return np.sqrt(dense) * idf(stored)


def bm25(dense, stored, K1, B):
    lengths = dense.sum(axis=1)
    mean = lengths.mean() if len(lengths) else 0
    scale = K1 * (1 - B + B * lengths / (mean or 1))
    denominator = scale[:, None] + dense
    denominator[denominator == 0] = 1
    return dense * (K1 + 1) / denominator * idf(stored)


@prop
def knn(case):
    users, items = shape = sizes(case)
    kind = case.one([ItemItemRecommender, CosineRecommender, TFIDFRecommender, BM25Recommender])
    parameters = {
        "K": case.pick("K", [20, 1, 2, 5, 2**40], POSITIVE),
        "num_threads": case.pick("num_threads", THREADS, NO_THREADS),
    }
    if kind is BM25Recommender:
        parameters["K1"] = case.pick("K1", [1.2, 100, 0.1], NO_NUMBER)
        parameters["B"] = case.pick("B", [0.75, 0, 1], NO_NUMBER)
    matrix, dense, stored = case.matrix("user_items", *shape)

    def fit(user_items):
        model = configured(case, kind, parameters)()
        model.fit(user_items, show_progress=False)
        return model

    model = case.call(fit, matrix)
    if model is None:
        return
    weighted = knn_weights(kind, model, dense, stored)
    products, reached = weighted.T @ weighted, (stored.T.astype(int) @ stored) > 0
    similarity = model.similarity.toarray()
    require(model.similarity.shape == (items, items), "shape")
    for i in range(items):
        row = slice(model.similarity.indptr[i], model.similarity.indptr[i + 1])
        kept = model.similarity.indices[row]
        require(len(kept) == min(model.K, reached[i].sum()) and reached[i][kept].all(), "neighbours", kept)
        same(similarity[i, kept], products[i, kept], "is not the product", 1e-9)
        rest = [products[i, j] for j in range(items) if reached[i, j] and j not in kept]
        if rest and len(kept):
            require(max(rest) <= products[i, kept].min() + 1e-9, "a larger one is missing")
    which = case.byte(4)
    N = case.pick("N", RIGHT_N, WRONG_N)
    if which == 0:
        given, ids = case.ids("itemid", items)
        options, candidates, dropped = selection(case, items, "items", "filter_items")
        rows, own = np.eye(items), np.zeros((items, items), bool)
        result = case.call(model.similar_items, given, N=N, **options)
        liked_reach = np.eye(items, dtype=bool)
    elif which == 1:
        given, ids = case.ids("userid", users)
        options, candidates, dropped = selection(case, users, "users", "filter_users")
        result = case.call(model.similar_users, given, N=N, **options)
        if (
            result is not None
            and isinstance(ids, int)
            and candidates is None
            and ids not in dropped
            and stored[ids].any()
        ):
            require(len(result[0]) <= N, "too many")
        return
    else:
        given, ids = case.ids("userid", users, mask=False)
        strange = ids is None  # users need not be known, so that few ids are wrong
        if strange:
            case.refusals, case.allowed = [], (IndexError, ValueError, TypeError)
        options, candidates, dropped = selection(case, items, "items", "filter_items")
        filter_liked = bool(case.byte(2))
        many = [ids] if isinstance(ids, int) else (ids or [])
        user_items, _, _ = case.matrix("user_items", len(many), items, formats="csr", finite=None)
        result = case.call(model.recommend, given, user_items, N=N, filter_already_liked_items=filter_liked, **options)
        if result is None or strange:
            return
        entries = coo(user_items)
        rows = np.zeros((len(many), items))
        np.add.at(rows, (entries.row, entries.col), entries.data.astype(np.float64))
        liked_reach = np.zeros(rows.shape, bool)
        liked_reach[entries.row, entries.col] = True
        own = liked_reach if filter_liked else np.zeros_like(liked_reach)
        ids = 0 if isinstance(ids, int) else list(range(len(many)))
    if result is None:
        return
    pattern = model.similarity.copy()
    pattern.data = np.ones_like(pattern.data)
    pattern = pattern.toarray() > 0
    for position, one in enumerate([ids] if isinstance(ids, int) else ids):
        got, scores = result if isinstance(ids, int) else (result[0][position], result[1][position])
        score = rows[one] @ similarity
        can = (liked_reach[one].astype(int) @ pattern > 0) & ~own[one]
        can[list(dropped)] = False
        found = got[got >= 0]
        require((np.diff(scores[: len(found)]) <= 0).all(), "scores rise", scores)
        if candidates is None:
            require(len(found) == min(N, can.sum()) and can[found].all(), "found", found, can)
            same(scores[: len(found)], score[found], "is not the score", 1e-9)
            rest = [score[i] for i in np.flatnonzero(can) if i not in found]
            if rest and len(found):
                require(max(rest) <= scores[len(found) - 1] + 1e-9 * max(1, abs(max(rest))), "a better one is missing")


@prop
def neighbours(case):
    shape = sizes(case)
    K = case.pick("K", [1, 3, 100, 2**50], POSITIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    matrix, dense, stored = case.matrix("users", *shape, values="signed")
    result = case.call(all_pairs_knn, matrix, K=K, num_threads=threads, show_progress=False)
    if result is None:
        return
    products, reached = dense.T @ dense, (stored.T.astype(int) @ stored) > 0
    result = result.tocsr()
    for i in range(shape[1]):
        wanted = np.flatnonzero(reached[i])
        wanted = wanted[np.lexsort((wanted, -products[i, wanted]))][:K]
        row = slice(result.indptr[i], result.indptr[i + 1])
        same(np.sort(result.indices[row]), np.sort(wanted))
        same(result.toarray()[i, wanted], products[i, wanted])


@prop
def scorer(case):
    n = case.byte(9)
    matrix, dense, _ = case.matrix("similarity", n, n, values="signed", finite=None)
    found = case.call(NearestNeighboursScorer, matrix)
    if found is None:
        return
    row, likes, _ = case.matrix("user", 1, n, values="signed", wrong=False, formats="csr")
    K = case.pick("K", RIGHT_N, WRONG_N)
    arrays = [row.indptr, row.indices, row.data]
    if case.wrong():
        place = case.byte(3)
        arrays[place] = case.one(["a", None, [[0, 1]], [1j], [object()], [[1], [1, 2]]])
        case.refuse("user_", ValueError, TypeError)
    result = case.call(found.recommend, *arrays, K=K, remove_own_likes=bool(case.byte(2)))
    if result is not None:
        same(result[1], (likes[0] @ dense)[result[0]])


# Weights


@prop
def weights(case):
    shape = sizes(case)
    which = case.byte(3)
    matrix, dense, stored = case.matrix("X", *shape, values="counts" if which < 2 else "signed", finite=ValueError)
    case.converts = False
    if which == 0:
        result, expected = case.call(tfidf_weight, matrix), tfidf
    elif which == 1:
        K1 = case.pick("K1", [100, 1.2, 0.5], NO_NUMBER)
        B = case.pick("B", [0.8, 0, 1], NO_NUMBER)
        result, expected = case.call(bm25_weight, matrix, K1, B), lambda d, s: bm25(d, s, K1, B)
    else:
        result = case.call(normalize, matrix)
        expected = lambda d, s: d / np.where((n := np.linalg.norm(d, axis=1)) == 0, 1, n)[:, None]  # noqa: E731
    if result is not None and len(result.data) == stored.sum():  # cells in one part
        same(result.toarray(), expected(dense, stored), tolerance=1e-9)


# Evaluation


@prop
def splits(case):
    shape = sizes(case)
    matrix, dense, stored = case.matrix("ratings", *shape, finite=None, canonical=True)
    case.converts = False
    seed = case.pick("random_state", [*SEEDS, case.random()], NO_SEED)
    if case.byte(2):
        share = case.pick("train_percentage", [0.8, 0, 1, 0.5, np.float32(0.3)], SHARES)
        result = case.call(evaluation.train_test_split, matrix, share, seed)
    else:
        K = case.pick("K", [1, 2, 5, 2**40], POSITIVE)
        only = case.pick("train_only_size", [0.0, 0.5, 0.99], [*SHARES, (1.0, ValueError)])
        result = case.call(evaluation.leave_k_out_split, matrix, K, only, seed)
        if result is not None:
            taken = (result[1].toarray() != 0).sum(axis=1)
            enough = stored.sum(axis=1) >= K + 2
            require((taken <= np.where(enough, K, 0)).all(), "test entries", taken)
            if only == 0 and (dense[stored] > 0).all():
                require((taken == np.where(enough, K, 0)).all(), "test entries", taken)
    if result is not None:
        train, test = result
        same(train.toarray().astype(np.float64) + test.toarray(), dense, "parts do not add up")
        require(train.shape == test.shape == shape, "shape")
        require(
            train.dtype == test.dtype == (np.float32 if matrix.dtype == np.float16 else matrix.dtype),
            "type",
            train.dtype,
        )


class Fixed:
    """A model that recommends what it was told."""

    def __init__(self, ids):
        self.ids = ids

    def recommend(self, userids, user_items, N=10):
        sound = isinstance(self.ids, np.ndarray) and self.ids.ndim == 2 and len(self.ids)
        return self.ids[userids][:, :N] if sound else self.ids, None


@prop
def metrics(case):
    users, items = shape = sizes(case, least=1)
    K = case.pick("K", [10, 1, 2, 5, 30], POSITIVE)
    threads = case.pick("num_threads", THREADS, NO_THREADS)
    test, _, stored = case.matrix("test_user_items", *shape, finite=None)
    train, _, _ = case.matrix("train_user_items", *shape, finite=None)
    case.converts = False
    random = case.random()
    ids = random.integers(-1, items + 2, (users, case.one([1, 3, 10, 40]))).astype(
        case.one([np.int32, np.int64, np.int16])
    )
    if case.wrong() and stored.any():
        ids = case.one([ids.astype(float), ids.ravel(), ids[:0], None, "a", [[0], [0, 1]]])
        case.refuse("recommend", ValueError, TypeError)
    result = case.call(evaluation.ranking_metrics_at_k, Fixed(ids), train, test, K, False, threads)
    if result is None:
        return
    same(list(result.values()), metrics_by_definition(ids, stored, K), tolerance=1e-9)
    function, name = case.one(
        [
            (evaluation.precision_at_k, "precision"),
            (evaluation.mean_average_precision_at_k, "map"),
            (evaluation.ndcg_at_k, "ndcg"),
            (evaluation.AUC_at_k, "auc"),
        ]
    )
    require(case.call(function, Fixed(ids), train, test, K, False, threads) == result[name], name)


def metrics_by_definition(ids, stored, K):
    hits_sum = possible_sum = average = gain = area = users = ordered = 0
    items = stored.shape[1]
    for row, likes in zip(ids, stored, strict=True):
        if not likes.any():
            continue
        likes, seen, hits, misses = set(np.flatnonzero(likes).tolist()), set(), 0, 0
        size, negatives, precision, dcg, auc = len(likes), items - len(likes), 0.0, 0.0, 0.0
        for rank, item in enumerate(row[:K].tolist(), 1):
            if item in likes - seen:
                seen.add(item)
                hits += 1
                precision += hits / rank
                dcg += 1 / np.log2(rank + 1)
            elif misses < negatives:
                misses += 1
                auc += hits
        users += 1
        hits_sum += hits
        possible_sum += min(K, size)
        average += precision / min(K, size)
        gain += dcg / sum(1 / np.log2(rank + 1) for rank in range(1, min(K, size) + 1))
        if negatives:
            ordered += 1
            area += (auc + (negatives - misses) * (hits + size) / 2) / (negatives * size)
    divide = lambda a, b: a / b if b else 0.0  # noqa: E731
    return [divide(hits_sum, possible_sum), divide(average, users), divide(gain, users), divide(area, ordered)]
