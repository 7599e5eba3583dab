"""What serving computes for a request is what the batch computes: every feature, every event.

The log is replayed in order of time. At each moment the history that a service would have (raw
ids, appended event by event) goes through `Recommender`, whose ranker's input is recorded; the
batch computes the same questions at once from the mapped dataset. Planted faults are found.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data.build import build_events
from data.config import DataConfig, MovieLens, PublicData, Synthetic
from features import asof, asof_more, covisits, question, timeline
from features.asof import Facts, feature_names, ranking_features
from features.build import build_dataset
from features.config import FeatureConfig
from features.encode import Histories
from features.store import Dataset
from features.timeline import DAY, ItemTimeline
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.ranker_config import RankerConfig
from serving.ranker import Ranker
from serving.recommender import Recommender

REAL = Path(os.environ.get("RECSYS_DATA") or Path(__file__).parents[4] / "shared" / "datasets")
SOURCES = ("item_knn", "popularity")


@dataclass
class Replay:
    """Questions as they were asked, and what serving computed for each."""

    names: tuple[str, ...]
    features: list[NDArray[np.float32]]
    items: list[NDArray]
    scores: list[dict[str, NDArray]]
    rows: list[int]
    users: list[int]
    dataset: Dataset
    delay: int

    def in_batch(self) -> list[NDArray[np.float32]]:
        """All questions at once, a block of equal numbers of candidates at a time."""
        data = self.dataset
        found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(self.rows)
        widths = np.array([items.shape[1] for items in self.items])
        known = ItemTimeline.open(data.path).delayed(self.delay)
        for width in np.unique(widths):
            same = np.flatnonzero(widths == width)
            rows = np.array([self.rows[q] for q in same])
            starts = data.cuts["start"][[self.users[q] for q in same]]
            scores = {
                name: np.concatenate([self.scores[q][name] for q in same]) for name in SOURCES
            }
            features = ranking_features(
                Histories(data.items, data.timestamps, data.events, starts, rows),
                np.asarray(data.timestamps[rows]),
                np.concatenate([self.items[q] for q in same]),
                scores,
                known,
                data.item_table,
                data.schema.item_columns,
                wanted=self.names,
                facts=Facts.of(data.schema),
            )
            for place, q in enumerate(same):
                found[q] = features[place : place + 1]
        return found

    def differing(self) -> dict[str, int]:
        """Features whose served and batch values differ anywhere, and in how many cells."""
        count = dict.fromkeys(self.names, 0)
        for served, batch in zip(self.features, self.in_batch(), strict=True):
            for f, name in enumerate(self.names):
                equal = np.isclose(served[..., f], batch[..., f], 1e-6, 1e-6, equal_nan=True)
                count[name] += int((~equal).sum())
        return {name: cells for name, cells in count.items() if cells}


def prepare(
    source: DataConfig, root: Path, *, delay: int = 0, cases: int = 500, **features: Any
) -> Path:
    build_events(source, root / "events")
    build_dataset(root / "events", FeatureConfig(**features), root / "dataset")
    ranker = RankerConfig(max_trees=3, features="all", label_delay_days=delay, max_cases=cases)
    config = ExportConfig(sources=SOURCES, candidates=40, ranker="lightgbm", lightgbm=ranker)
    export(None, root / "dataset", config, root / "bundle")
    return root


def replay(root: Path, patch: pytest.MonkeyPatch, *, events: int, users: int) -> Replay:
    """Serve the next item of some users, before each of their held-out events, in order of time."""
    data = Dataset.open(root / "dataset")
    recommender = Recommender.load(root / "bundle")
    ranker = recommender.pipeline.ranker
    assert ranker is not None
    spec = recommender.manifest.ranker
    assert spec is not None
    done = Replay(spec.features, [], [], [], [], [], data, spec.label_delay_days)
    compute: Callable = Ranker.prepare

    def record(self: Ranker, block: Any, candidates: Any) -> Any:
        found = compute(self, block, candidates)
        done.features.append(found.copy())
        done.items.append(candidates.items.copy())
        done.scores.append({n: s.copy() for n, s in candidates.source_scores.items()})
        return found

    patch.setattr(Ranker, "prepare", record)
    raw = data.vocabulary("item").to_pylist()
    chosen = np.flatnonzero(data.cuts["test_end"] > data.cuts["test_start"])[:users]
    asked = [
        (int(data.timestamps[row]), int(row), int(user))
        for user in chosen
        for row in range(data.cuts["test_start"][user], data.cuts["test_end"][user])[:events]
        if row > data.cuts["start"][user]
    ]
    history: dict[int, list[tuple]] = {}
    for at, row, user in sorted(asked):
        seen = history.setdefault(user, [])
        first = int(data.cuts["start"][user]) + len(seen)
        for r in range(first, row):  # what has happened since the user was last asked about
            kind = data.schema.event_types[data.events[r] - 1]
            seen.append((raw[data.items[r] - 1], int(data.timestamps[r]), kind))
        done.rows.append(row)
        done.users.append(user)
        recommender.recommend(seen, k=5, at=at)
    assert len(done.features) == len(done.rows)
    return done


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Synthetic(num_users=400, num_items=200, clicks_per_user=20, days=60)
    return prepare(source, tmp_path_factory.mktemp("shop"), delay=1, buckets=4, covisit_reach=2)


def test_the_shop_replayed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = replay(shop, monkeypatch, events=4, users=40)
    columns = done.dataset.schema.item_columns
    facts = Facts.of(done.dataset.schema)
    assert done.names == feature_names(columns, SOURCES, "all", facts)
    assert {"item_buy_rate", "seen_cart", "covisit_recent_share"} <= set(done.names)
    assert len(done.rows) > 80
    assert done.differing() == {}
    finite = np.isfinite(np.concatenate([f[0] for f in done.features])).any(0)
    never = {name for name, some in zip(done.names, finite, strict=True) if not some}
    kinds = done.dataset.schema.event_types
    assert never == {"days_since_seen", *(f"days_since_{kind}" for kind in kinds)}  # none proposed


def window_off_by_one(q: question.Question) -> Any:
    days = q.day - np.array([0, 8, 31])[:, None, None]
    return q.timeline.rows_before(q.candidates_BC, days)


COUNT = covisits.Covisits.count


def one_day_more(self: covisits.Covisits, first: Any, then: Any, days: Any) -> Any:
    return COUNT(self, first, then, days + 1)


def closed_on_the_wrong_side(self: ItemTimeline, at: Any) -> Any:
    return timeline.day_of(at) + 1


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], set[str]]] = {
    "a window off by one": (
        lambda patch: patch.setattr(question.Question, "rows", property(window_off_by_one)),
        {"item_events_7d", "item_events_30d", "item_trend", "item_rate"},
    ),
    "a window of co-visits off by one": (
        lambda patch: patch.setattr(covisits.Covisits, "count", one_day_more),
        {"covisits", "covisit_share", "covisit_recent_share"},
    ),
    "closed on the wrong side": (
        lambda patch: patch.setattr(ItemTimeline, "known_day", closed_on_the_wrong_side),
        {"item_events", "item_events_7d", "item_events_1d", "item_age", "item_click_30d"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_batch_is_found(
    name: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = replay(shop, monkeypatch, events=3, users=25)
    plant, expected = FAULTS[name]
    plant(monkeypatch)
    assert expected <= set(done.differing())


def test_statistics_of_the_full_log_are_found(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = replay(shop, monkeypatch, events=3, users=25)
    data = done.dataset
    folder = shop / "full-log"
    folder.mkdir()
    kinds = (data.events, len(data.schema.event_types))
    timeline.write_timelines(folder, data.items, data.timestamps, data.schema.num_items, *kinds)
    spans = (data.cuts["start"], data.cuts["test_end"])
    pairs = covisits.count_pairs(data.items, data.timestamps, *spans, data.schema.covisit_reach)
    covisits.write_covisits(folder, pairs)
    opened = ItemTimeline.open
    monkeypatch.setattr(ItemTimeline, "open", lambda path: opened(folder))
    expected = {"item_events", "item_events_7d", "item_rate", "item_click_30d", "covisits"}
    assert expected <= set(done.differing())


def test_an_old_bundle_asks_only_for_what_it_names() -> None:
    names = asof.feature_names((), ("model",))
    assert not set(names) & {feature.name for feature in asof_more.MORE}
    chosen = asof.feature_names((), ("model",), ("at_hour", "model_rank"))
    assert chosen == ("at_hour", "model_rank")


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data sets are neither set nor beside")
@pytest.mark.parametrize("name", ["movielens-1m", "globo"])
def test_real_logs_replayed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(REAL))
    source: DataConfig = PublicData(source="globo")
    if name == "movielens-1m":
        source = MovieLens(source="movielens-1m")
    root = prepare(source, tmp_path, cases=2_000, buckets=5, covisit_reach=3)
    done = replay(root, monkeypatch, events=5, users=200)
    print(name, len(done.rows), "questions,", len(done.names), "features,", DAY)
    assert len(done.rows) >= 200
    assert done.differing() == {}
    assert replace(done).names == done.names
