"""A deadline is kept by leaving work out, and the answer says what."""

import time
from typing import Any, cast

import numpy as np
import pytest

from features.encode import Histories
from serving.block import Block
from serving.candidates import Candidates, Proposals
from serving.deadline import Costs, Deadline
from serving.errors import DeadlineExceeded
from serving.options import Options
from serving.pipeline import RANK_CHUNK, Pipeline
from serving.policy import Policy
from serving.ranker import Ranker
from serving.recommender import Recommender

AT, POLICY = np.zeros(1, np.int64), Policy(exclude_seen=True)
HISTORY = Histories.of([[4, 8]])


class Slow:
    """A source that takes its time."""

    def __init__(self, source: Any, milliseconds: float) -> None:
        self.source, self.milliseconds = source, milliseconds
        self.name, self.candidates = source.name, source.candidates
        self.calls = 0

    def propose(self, block: Block, policy: Policy, k: int) -> Proposals:
        self.calls += 1
        time.sleep(self.milliseconds / 1000)
        return self.source.propose(block, policy, k)


class SlowRanker:
    """Ranks by item id, greatest first; each stage takes its time."""

    def __init__(self, features: float, chunk: float) -> None:
        self.pause = (features / 1000, chunk / 1000)
        self.chunks = 0

    def prepare(self, block: Block, candidates: Candidates) -> np.ndarray:
        time.sleep(self.pause[0])
        return candidates.items[..., None].astype(np.float32)

    def score_part(self, prepared: np.ndarray, items: np.ndarray, part: slice) -> np.ndarray:
        self.chunks += 1
        time.sleep(self.pause[1])
        mine = prepared[:, part, 0]
        return np.where(items[:, part] > 0, mine, -np.inf).astype(np.float32)

    def score(self, block: Block, candidates: Candidates) -> np.ndarray:
        return self.score_part(self.prepare(block, candidates), candidates.items, slice(None))


@pytest.fixture(scope="module")
def recommender(toy: Any) -> Recommender:
    return Recommender.load(toy.path)


def pipeline(
    recommender: Recommender, slow: dict[str, float], ranker: SlowRanker | None = None
) -> Pipeline:
    sources: Any = [
        Slow(source, slow.get(source.name, 0)) for source in recommender.pipeline.sources
    ]
    return Pipeline(sources, cast("Ranker", ranker), recommender.num_items, 1)


def timed(made: Pipeline, milliseconds: float) -> tuple[Any, float]:
    started = time.monotonic()
    found = made.rank(HISTORY, AT, POLICY, 10, deadline=Deadline.after(milliseconds))
    return found, (time.monotonic() - started) * 1000


def test_enough_time_changes_nothing(recommender: Recommender) -> None:
    plain = recommender.recommend([40, 80], k=10)
    hurried = recommender.recommend([40, 80], k=10, options=Options(deadline=Deadline.after(5_000)))
    assert hurried == plain
    ranker = SlowRanker(0, 0)
    made = pipeline(recommender, {}, ranker)
    full = made.rank(HISTORY, AT, POLICY, 10)
    found, _ = timed(made, 5_000)
    np.testing.assert_array_equal(found.items, full.items)
    np.testing.assert_array_equal(found.scores, full.scores)
    assert found.degraded == ()


def test_a_passed_deadline_is_refused_before_any_work(recommender: Recommender) -> None:
    with pytest.raises(DeadlineExceeded, match="before work began"):
        recommender.recommend([40], options=Options(deadline=Deadline.after(-1)))


def test_a_source_known_to_be_slow_is_skipped(recommender: Recommender) -> None:
    made = pipeline(recommender, {"model": 80})
    found, _ = timed(made, 1_000)  # learns what the model takes
    assert found.degraded == ()
    found, took = timed(made, 40)
    assert found.degraded == ("skipped:model",)
    assert took < 40
    assert (found.items[0] > 0).all()
    assert set(found.sources[0]) <= {1, 2}


def test_popularity_answers_when_nothing_else_can(recommender: Recommender) -> None:
    made = pipeline(recommender, {"model": 60, "item_knn": 60}, SlowRanker(60, 60))
    timed(made, 10_000)
    found, took = timed(made, 30)
    assert found.degraded == ("skipped:model", "skipped:item_knn", "not_ranked")
    assert took < 30
    expected = made.sources[-1].propose(Block.of(HISTORY, AT, 60), POLICY, 10).items
    np.testing.assert_array_equal(found.items, expected)


def test_without_time_for_the_ranker_the_order_is_that_of_retrieval(
    recommender: Recommender,
) -> None:
    made = pipeline(recommender, {}, SlowRanker(60, 0))
    timed(made, 10_000)
    found, took = timed(made, 50)
    assert found.degraded == ("not_ranked",)
    assert took < 50
    plain = recommender.rank(HISTORY, k=10, at=AT)
    np.testing.assert_array_equal(found.items, plain.items)


def test_candidates_are_ranked_as_far_as_time_allows(tmp_path: Any, make_toy: Any) -> None:
    toy = make_toy(tmp_path / "bundle", num_items=600, sources=("popularity",))
    source = Recommender.load(toy.path).pipeline.sources[0]
    source.candidates = 500
    ranker = SlowRanker(0, 30)
    made = Pipeline([source], cast("Ranker", ranker), 600, 1)
    found, took = timed(made, 100)
    assert found.degraded == ("partly_ranked",)
    assert took < 130
    assert 0 < ranker.chunks < 500 / RANK_CHUNK
    ranked = ranker.chunks * RANK_CHUNK
    candidates = made.candidates(HISTORY, AT, POLICY).items[0]
    best = sorted(candidates[:ranked].tolist(), reverse=True)
    assert found.items[0].tolist() == best[:10]


def test_costs_are_a_moving_mean_a_unit() -> None:
    costs = Costs()
    assert costs.fits("stage", Deadline.after(1))
    assert not costs.fits("stage", Deadline.after(-1))
    costs.learn("stage", time.monotonic_ns() - 10_000_000, amount=10)
    assert costs.usual["stage"] == pytest.approx(1e6, rel=0.2)
    assert costs.fits("stage", Deadline.after(50), amount=20)
    assert not costs.fits("stage", Deadline.after(20), amount=20)
    costs.learn("stage", time.monotonic_ns() - 11_000_000)
    assert costs.usual["stage"] == pytest.approx(2e6, rel=0.2)
