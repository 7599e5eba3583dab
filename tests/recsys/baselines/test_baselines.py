"""What holds for every baseline, driven by the registry, and each against its definition."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from recsys.baselines import BASELINES, Interactions, history_matrix
from recsys.baselines.ease import EASE, MAX_ITEMS
from recsys.baselines.ials import IALS
from recsys.baselines.item_knn import ItemKNN, Similarity
from recsys.baselines.popularity import DAY, Popularity, RecentPopularity

NUM_ITEMS = 24


def random_log(seed: int, num_users: int = 60) -> Interactions:
    """Two tastes: users of an odd row choose odd items mostly."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 12, num_users)
    ends = np.cumsum(lengths)
    parity = np.repeat(np.arange(num_users) % 2, lengths)
    items = 2 * rng.integers(0, NUM_ITEMS // 2, ends[-1]) + np.where(
        rng.random(ends[-1]) < 0.9, 1 - parity, parity
    )
    times = rng.integers(0, 40 * DAY, ends[-1])
    return Interactions(items + 1, times, ends - lengths, ends, NUM_ITEMS)


def histories_of(*rows: list[int]) -> csr_matrix:
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    items = np.array([item for row in rows for item in row], np.int64)
    return history_matrix(items, np.append(0, ends)[:-1], ends, NUM_ITEMS)


@pytest.mark.parametrize("name", BASELINES)
def test_scores_have_the_promised_shape_type_and_padding(name: str) -> None:
    scores = BASELINES[name].fit(random_log(0)).scores(histories_of([1, 3], [], [2]))
    assert scores.shape == (3, NUM_ITEMS + 1)
    assert scores.dtype == np.float32
    assert (scores[:, 0] == -np.inf).all()
    assert np.isfinite(scores[:, 1:]).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_answers_like_single_histories(name: str) -> None:
    model = BASELINES[name].fit(random_log(1))
    rows = [[1, 3, 5], [], [2, 4, 24]]
    together = model.scores(histories_of(*rows))
    for row, scores in zip(rows, together, strict=True):
        np.testing.assert_allclose(model.scores(histories_of(row))[0], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_fitting_twice_gives_the_same_scores(name: str) -> None:
    first, second = (BASELINES[name].fit(random_log(2)) for _ in range(2))
    queries = histories_of([1, 2], [7])
    np.testing.assert_array_equal(first.scores(queries), second.scores(queries))


@pytest.mark.parametrize("name", BASELINES)
def test_no_warning_is_raised_or_hidden(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        BASELINES[name].fit(random_log(3)).scores(histories_of([1]))
    assert not caught, [str(w.message) for w in caught]


@pytest.mark.parametrize("name", ["item_knn", "ials", "ease"])
def test_two_tastes_are_told_apart_for_users_never_seen(name: str) -> None:
    scores = BASELINES[name].fit(random_log(4)).scores(histories_of([1, 5, 9], [2, 6, 10]))
    odd = [i for i in range(1, NUM_ITEMS + 1, 2) if i not in (1, 5, 9)]
    even = [i for i in range(2, NUM_ITEMS + 1, 2) if i not in (2, 6, 10)]
    assert scores[0, odd].mean() > scores[0, even].mean()
    assert scores[1, even].mean() > scores[1, odd].mean()


@pytest.mark.parametrize("name", BASELINES)
def test_rows_of_no_user_are_never_read(name: str) -> None:
    log = random_log(5)
    ends = log.ends - 1  # each user's last event belongs to a later split
    held_back = Interactions(log.items, log.timestamps, log.starts, ends, NUM_ITEMS)
    kept = np.concatenate([np.arange(s, e) for s, e in zip(log.starts, ends, strict=True)])
    cuts = np.cumsum(ends - log.starts)
    alone = Interactions(
        log.items[kept], log.timestamps[kept], cuts - (ends - log.starts), cuts, NUM_ITEMS
    )
    queries = histories_of([1, 2, 3], [8])
    np.testing.assert_array_equal(
        BASELINES[name].fit(held_back).scores(queries), BASELINES[name].fit(alone).scores(queries)
    )


def test_a_history_matrix_says_once_what_was_met_twice() -> None:
    matrix = history_matrix(
        np.array([9, 3, 3, 1, 7]), np.array([1, 4, 4]), np.array([4, 4, 5]), NUM_ITEMS
    ).toarray()
    expected = np.zeros((3, NUM_ITEMS + 1))
    expected[0, [3, 1]] = expected[2, 7] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_popularity_counts_events() -> None:
    log = random_log(6)
    counted = [np.sum(log.items == item) for item in range(1, NUM_ITEMS + 1)]
    np.testing.assert_array_equal(Popularity.fit(log).scores(histories_of([]))[0, 1:], counted)


def test_recent_popularity_counts_the_days_before_the_cutoff_and_nothing_after() -> None:
    items = np.array([1, 1, 2, 3, 3, 4])
    times = np.array([0, 1, 9 * DAY, 10 * DAY, 10 * DAY + 1, 3 * DAY])
    log = Interactions(items, times, np.array([0]), np.array([6]), NUM_ITEMS)
    recent = RecentPopularity.fit(log, days=7, cutoff=10 * DAY).scores(histories_of([]))[0]
    np.testing.assert_array_equal(np.floor(recent[1:5]), [0, 1, 1, 0])  # 3 * DAY is just outside
    assert recent[1] > recent[4] > recent[5], "among equals, the item of more events comes first"


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
def test_item_knn_keeps_the_most_similar_items_by_definition(similarity: Similarity) -> None:
    log = random_log(7)
    indptr, indices, values = ItemKNN.fit(log, similarity=similarity, num_neighbours=5).neighbours
    x = log.matrix.toarray().astype(np.float64)
    idf = np.log(NUM_ITEMS + 1) - np.log1p(x.sum(1))
    if similarity == "bm25":
        df = x.sum(0)
        norm = 0.25 + 0.75 * df / df.mean()
        weighted = x * 2.2 / (1.2 * norm + x) * idf[:, None]
    else:
        weighted = x * (idf[:, None] if similarity == "tfidf" else 1)
        weighted = weighted / np.maximum(np.linalg.norm(weighted, axis=0), 1e-12)
    dense = weighted.T @ weighted
    np.fill_diagonal(dense, 0)
    assert len(indptr) == NUM_ITEMS + 2
    for item in range(1, NUM_ITEMS + 1):
        row = slice(indptr[item], indptr[item + 1])
        assert item not in indices[row]
        assert len(indices[row]) in (5, 6)
        assert (np.diff(values[row]) <= 0).all()
        best = np.sort(dense[item])[::-1][: len(indices[row])]
        np.testing.assert_allclose(values[row], best, rtol=1e-5)
        np.testing.assert_allclose(values[row], dense[item, indices[row]], rtol=1e-5)


def test_item_knn_scores_are_summed_votes() -> None:
    model = ItemKNN.fit(random_log(8), num_neighbours=4)
    indptr, indices, values = model.neighbours
    expected = np.zeros(NUM_ITEMS + 1)
    for item in (3, 8):
        for e in range(indptr[item], indptr[item + 1]):
            expected[indices[e]] += values[e]
    np.testing.assert_allclose(model.scores(histories_of([3, 8]))[0, 1:], expected[1:], rtol=1e-6)


def test_ease_solves_its_constrained_regression() -> None:
    """Steck's eq. 2: each column minimises |x_j - X b|^2 + l2 |b|^2 with b_j = 0."""
    log, l2 = random_log(9), 7.0
    x = log.matrix.toarray().astype(np.float64)
    weights = EASE.fit(log, l2=l2).scores(csr_matrix(np.eye(NUM_ITEMS + 1, dtype=np.float32)))
    for item in (1, 8, NUM_ITEMS):
        others = np.arange(NUM_ITEMS + 1) != item
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + l2 * np.eye(NUM_ITEMS), a.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-5)
        assert weights[item, item] == 0


def test_ease_refuses_a_catalogue_it_cannot_invert() -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match=f"{MAX_ITEMS + 1} items, at most {MAX_ITEMS}"):
        EASE.fit(Interactions(none, none, none, none, MAX_ITEMS + 1))


def test_ials_does_not_run_threads_under_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here, and implicit warns (once a process) when BLAS has two threads."""
    monkeypatch.setattr("implicit.utils._checked_blas_config", False)
    with threadpool_limits(2, "blas"):
        IALS.fit(random_log(11), dim=4, iterations=1)


def test_ials_folds_in_by_the_weighted_least_squares_of_the_paper() -> None:
    log = random_log(10)
    model = IALS.fit(log, dim=6, regularization=0.5, alpha=3.0)
    history = [1, 5, 8]
    y = model.item_factors.astype(np.float64)
    x = histories_of(history).toarray()[0]
    confidence = np.where(x > 0, 3.0, 1.0)
    vector = np.linalg.solve(
        y.T @ (confidence[:, None] * y) + 0.5 * np.eye(6), y.T @ (confidence * x)
    )
    np.testing.assert_allclose(
        model.scores(histories_of(history))[0, 1:], (y @ vector)[1:], rtol=1e-3, atol=1e-4
    )


ML_1M = Path(__file__).parents[4] / "shared/datasets/movielens_1m/interactions.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not ML_1M.is_file(), reason="MovieLens-1M is not here")
@pytest.mark.parametrize(
    ("name", "least"), [("popularity", 0.03), ("item_knn", 0.07), ("ials", 0.09), ("ease", 0.10)]
)
def test_hit_rate_on_movielens(name: str, least: float) -> None:
    """Leave one out, all items minus seen, HR@10."""
    import polars as pl

    log = pl.read_parquet(ML_1M).sort("user_id", maintain_order=True)
    items = log["item_id"].rank("dense").to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(log["user_id"].to_numpy(), prepend=-1))
    ends = np.append(starts[1:], len(items))
    num_items = int(items.max())
    model = BASELINES[name].fit(
        Interactions(items, log["timestamp"].to_numpy(), starts, ends - 2, num_items)
    )
    histories = history_matrix(items, starts, ends - 1, num_items)
    scores = model.scores(histories)
    scores[histories.nonzero()] = -np.inf
    targets = scores[np.arange(len(ends)), items[ends - 1]]
    assert ((scores > targets[:, None]).sum(1) < 10).mean() > least
