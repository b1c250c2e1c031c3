"""What docs/make_parity.py cannot see: where a name of implicit is better or different here, and why.

Keys are paths below the package, with the wildcards of the shell; the first that fits counts. A name without an entry
is the same: same arguments, same results but for what the introduction says of all.
"""

INTRODUCTION = """\
A row per public name of `implicit` 0.7.3, checked against both packages by `docs/make_parity.py`: no name is missing,
and every parameter has the same place and default, but for those that a remark names.

- **same**: the same arguments give the same results. For all names, what makes no sense is an error that says what to
  do, where `implicit` may crash, wrap around or return NaN.
- **better**: whatever worked works alike, and more does.
- **different**: something that worked has another result, on purpose; see [Coming from implicit](migration.md) too.
- **absent**: not offered; the remark says why.
"""

_GPU = ("better", "needs CuPy alone; a ValueError says what is missing")
_FACTORY = "a class, not a function: `isinstance`, `load` and subclasses work"
_RANKING = (
    "different",
    "places beyond the number of items hold id −1, not 0; equal scores rank by ascending id; negative ids are an "
    "IndexError; the full matrix and `csr_array` are taken",
)
_SIMILAR = (
    "different",
    "filtered entries have the lowest finite score, not −inf; padding and ties as in `recommend`; negative ids are an "
    "IndexError",
)
_METRIC = ("better", "never above 1; an empty test is 0, not an error; any model, int64 indices, all cores")
_GENERATOR = ("better", "needs no pandas, runs on current NumPy, takes the archives as published")
_LOADER = ("better", "downloads are checked and never half-written; `IMPLICIT_DATASETS` names the folder")
_FILE = ("better", "takes a path with and without suffix, refuses what is no model; `mmap=True` maps it")
_SAVED = ("better", "any kind of seed; replaces a file only by a complete one")
_KNN_FIT = ("better", "any real type and index width, no warning for CSR; `user_items` names the matrix, as may `{}`")

NOTES = {
    # Factories and classes of models
    "als.AlternatingLeastSquares": ("better", f"{_FACTORY}; `use_gpu=None` decides at each call"),
    "bpr.BayesianPersonalizedRanking": ("better", f"{_FACTORY}; `use_gpu=None` decides at each call"),
    "lmf.LogisticMatrixFactorization": ("better", f"{_FACTORY}; learns; negatives that are not among the positives"),
    "approximate_als.*": ("better", "`use_gpu=None` decides at each call"),
    "ann.*Model.recommend": (
        "different",
        "exact scores and always N columns, padded as by exact models; `items` works",
    ),
    "ann.*Model.similar_items": ("different", "exact scores and always N columns; `items` works"),
    "ann.*Model.similar_users": ("better", "works: `implicit` raises NotImplementedError"),
    "ann.*Model.save": ("better", "works: `implicit` raises NotImplementedError"),
    "ann.*Model.load": ("better", "works: `implicit` raises NotImplementedError"),
    "ann.faiss.FaissModel": ("better", "wraps fitted models too, and pickles; `use_gpu=None` is the default"),
    "ann.nmslib.NMSLibModel": ("better", "wraps fitted models too, and pickles; an unknown parameter is an error"),
    "ann.*Model": ("better", "wraps fitted models too, and pickles"),
    "cpu.lmf.LogisticMatrixFactorization": ("different", "other random numbers; see the changelog"),
    "cpu.als.AlternatingLeastSquares": (
        "better",
        "`cg_steps` is a parameter too; the same bits for any number of threads",
    ),
    "cpu.als.AlternatingLeastSquares.fit": (
        "better",
        "the same initial factors for an int seed; entries of a cell are added up; no copies of all values",
    ),
    "cpu.als.AlternatingLeastSquares.recalculate_*": ("better", "the full matrix will do; a wrong shape is an error"),
    "cpu.als.AlternatingLeastSquares.partial_fit_*": ("better", "adding rows one by one does not copy all factors"),
    "cpu.als.AlternatingLeastSquares.to_gpu": _GPU,
    "cpu.als.calculate_loss": ("different", "does not add the magnitude of each negative entry"),
    "cpu.als.least_squares_cg": ("better", "an empty row becomes zero at once"),
    "cpu.bpr.BayesianPersonalizedRanking": (
        "different",
        "random numbers are drawn by counter: factors have the same bits for any number of threads, others than in "
        "`implicit`; `deterministic=False` lets threads race",
    ),
    "cpu.bpr.BayesianPersonalizedRanking.fit": ("better", "never sorts the input in place"),
    "cpu.bpr.BayesianPersonalizedRanking.to_gpu": _GPU,
    # Models of factors
    "cpu.matrix_factorization_base.MatrixFactorizationBase.recommend": _RANKING,
    "cpu.matrix_factorization_base.MatrixFactorizationBase.recommend_all": ("better", "an offset works"),
    "cpu.matrix_factorization_base.MatrixFactorizationBase.similar_*": _SIMILAR,
    "cpu.matrix_factorization_base.MatrixFactorizationBase.*_norms": ("better", "never stale"),
    "cpu.topk.topk": ("different", "ties rank by ascending id; padding has id −1"),
    # GPU
    "gpu.HAS_*": ("better", "found out when it is asked for, without a warning; `why_not()` says what is missing"),
    "gpu.matrix_factorization_base.check_random_state": ("different", "a NumPy Generator, which every model takes"),
    "gpu.als.AlternatingLeastSquares": (
        "different",
        "factors are CuPy arrays; `alpha` counts in `fit`; the initial factors of the CPU; any number of factors",
    ),
    "gpu.bpr.BayesianPersonalizedRanking": (
        "different",
        "factors are CuPy arrays; the draws of the CPU; the bias column of users stays 1",
    ),
    "gpu.matrix_factorization_base.MatrixFactorizationBase": ("different", "factors and norms are CuPy arrays"),
    "gpu.als.calculate_loss": ("different", "does not add the magnitude of each negative entry"),
    "gpu.*": ("different", "as its class"),
    # Nearest neighbours
    "_nearest_neighbours.all_pairs_knn": ("different", "unused slots are left out; any type and index width"),
    "_nearest_neighbours.NearestNeighboursScorer": ("better", "calls run side by side"),
    "nearest_neighbours.all_pairs_knn": ("different", "unused slots are left out; any type and index width"),
    "nearest_neighbours.NearestNeighboursScorer": ("better", "calls run side by side"),
    "nearest_neighbours.ItemItemRecommender.fit": (_KNN_FIT[0], _KNN_FIT[1].format("weighted")),
    "nearest_neighbours.*Recommender.fit": (_KNN_FIT[0], _KNN_FIT[1].format("counts")),
    "nearest_neighbours.*.recommend": (
        "different",
        "liked and filtered items never appear, and no more than N; of the full matrix the row of the user counts, not "
        "row 0; batches run on all cores",
    ),
    "nearest_neighbours.*.similar_items": (
        "different",
        "unknown ids are an IndexError; ids are always int32; lists are taken",
    ),
    "nearest_neighbours.*.similar_users": ("better", "works: `implicit` raises NotImplementedError"),
    "nearest_neighbours.*.save": ("better", "K1, B, num_threads and the matrix of the users are saved"),
    "nearest_neighbours.TFIDFRecommender": ("different", "a user with all items but one weighs exactly 0"),
    "nearest_neighbours.normalize": ("better", "rows of zeros stay; nothing overflows"),
    "nearest_neighbours.tfidf_weight": (
        "different",
        "a negative value is a ValueError, not NaN; exact 0 where it must be",
    ),
    "nearest_neighbours.bm25_weight": ("better", "values that are not finite are a ValueError"),
    # Evaluation
    "evaluation.train_test_split": ("better", "the same split for the same int seed; `csr_array`, int64 indices"),
    "evaluation.leave_k_out_split": (
        "different",
        "obeys its seed; train + test is the input; exactly K test entries of each user",
    ),
    "evaluation.*_at_k": _METRIC,
    # Data sets
    "datasets.*.generate_dataset": _GENERATOR,
    "datasets.million_song_dataset.get_msd_taste_profile": ("different", "labels are str, not bytes"),
    "datasets.sketchfab.get_sketchfab": ("different", "labels are str, not bytes"),
    "datasets.*.get_*": _LOADER,
    # Files, interface and helpers
    "*.load": _FILE,
    "cpu.*.save": _SAVED,
    "recommender_base.RecommenderBase.save": ("same", "models call the argument `fileobj_or_path`, as in `implicit`"),
    "recommender_base.ModelFitError": ("better", "a ValueError too"),
    "recommender_base.RecommenderBase": ("better", "`get_params`, `set_params` and a readable repr"),
    "utils.check_blas_config": ("better", "does nothing: BLAS threads are limited where it matters"),
    "utils.check_random_state": ("better", "a RandomState works"),
    "utils.check_csr": ("better", "`csr_array` is CSR; what is not sparse is a TypeError"),
}

_INTERNAL = "inside of the compiled epoch; draws here are by counter, so that there is no generator per thread"
ABSENT = {
    "cpu.bpr.RNGVector": _INTERNAL,
    "cpu.bpr.bpr_update": _INTERNAL,
    "cpu.lmf.RNGVector": _INTERNAL,
    "cpu.lmf.lmf_update": _INTERNAL,
    "gpu.matrix_factorization_base.MatrixFactorizationBase.knn": "models search by themselves; `gpu.KnnQuery` is there",
}

#: Parameters that differ on purpose, by the path of what takes them.
PARAMETERS = {
    "als.AlternatingLeastSquares": {"use_gpu"},
    "bpr.BayesianPersonalizedRanking": {"use_gpu"},
    "approximate_als.*": {"use_gpu"},
    "ann.faiss.FaissModel": {"use_gpu"},
    "ann.nmslib.NMSLibModel": {"kwargs"},
    "ann.*Model.fit": {"Cui"},  # user_items, as in every other model
    "nearest_neighbours.*.fit": {"weighted", "counts"},
    "recommender_base.RecommenderBase.save": {"file"},  # models take fileobj_or_path, as those of implicit do
    "ann.*Model.load": {"file"},  # which raises NotImplementedError in implicit
    "ann.*Model.save": {"file"},
    "gpu.matrix_factorization_base.MatrixFactorizationBase.load": {"file"},
    "gpu.matrix_factorization_base.MatrixFactorizationBase.save": {"file"},
}
