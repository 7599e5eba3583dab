"""The person's vector as a feature of the second stage: the one that the outcome model gives."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data.build import build_events
from data.config import Synthetic
from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.errors import InputError
from features.life_build import build_lives
from features.life_config import AtDate, LifeConfig, LifeField, OutcomeConfig
from features.store import Dataset
from offline_eval.task import Task
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.outcomes import export_outcomes
from recsys.export.ranker_config import RankerConfig
from recsys.training.config import TrainConfig
from recsys.training.run import train
from serving.bundle import open_bundle
from serving.errors import BundleError
from serving.manifest import TreeRankerSpec
from serving.outcomes import OutcomePredictor
from serving.person_vectors import PersonVectors
from serving.recommender import Recommender

SIZES = {"max_len": 64, "dim": 8, "feed_forward": 16, "num_blocks": 1, "features": 8, "window": 7}
FIELDS = (
    LifeField(name="category", kind="categories", width=2),
    LifeField(name="brand"),
    LifeField(name="price", kind="numeric", bins=4),
    LifeField(name="event"),
)


def outcome_bundle(root: Path, name: str, fields: tuple[LifeField, ...]) -> Path:
    """Who stays away in May? From `root`/events."""
    config = LifeConfig(
        fields=fields,
        outcomes=(OutcomeConfig(name="churn", rule="no_event"),),
        cohort=AtDate(at=date(2025, 5, 1), window_days=14),
    )
    lives, run = root / f"lives-{name}", root / f"run-{name}"
    build_lives(root / "events", config, lives)
    train("life_events", SIZES, TrainConfig(max_epochs=1, batch_size=32), lives, run)
    export_outcomes(run, lives, ExportConfig(golden_requests=1), root / name)
    return root / name


def export_ranked(root: Path, persons: Path, name: str) -> Path:
    config = ExportConfig(
        sources=("item_knn", "popularity"),
        candidates=40,
        ranker="lightgbm",
        lightgbm=RankerConfig(max_trees=10, patience=10, persons=str(persons)),
    )
    export(None, root / "dataset", config, root / name)
    return root / name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("persons")
    source = Synthetic(num_users=300, num_items=160, clicks_per_user=20)
    build_events(source, folder / "events")
    build_dataset(folder / "events", FeatureConfig(split=LeaveOneOut()), folder / "dataset")
    outcome_bundle(folder, "outcomes", FIELDS)
    export_ranked(folder, folder / "outcomes", "bundle")
    return folder


def vectors_of(bundle: Path) -> PersonVectors:
    opened = open_bundle(bundle)
    ranker = opened.manifest.ranker
    assert isinstance(ranker, TreeRankerSpec)
    assert ranker.persons is not None
    return PersonVectors.load(opened, ranker.persons)


def test_a_history_has_the_vector_of_its_raw_events(root: Path) -> None:
    """Tokens looked up by dense id, or encoded from raw columns by the outcome model's own door."""
    data = Dataset.open(root / "dataset")
    histories = Task.of(data, "test", exclude_seen=False).histories.take(np.arange(40))
    found = vectors_of(root / "bundle").of(histories)
    raw = Recommender.load(root / "bundle").raw_item_ids
    events = []
    for row, (first, last) in enumerate(zip(histories.starts, histories.ends, strict=True)):
        rows = slice(int(first), int(last))
        codes = histories.events[rows].astype(np.int64) - 1
        events.append(
            pl.DataFrame(
                {
                    "user_id": [f"u{row:03d}"] * (rows.stop - rows.start),
                    "timestamp": pl.Series(histories.timestamps[rows]).cast(pl.Datetime("us")),
                    "item_id": raw[histories.items[rows].astype(np.int64)],
                    "event": [data.schema.event_types[code] for code in codes],
                }
            )
        )
    predictor = OutcomePredictor.load(root / "outcomes")
    answers = predictor.predict(pl.concat(events), embedding=True)
    expected = np.array(answers["embedding"].to_list(), np.float32)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the persons differ"
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_ranker_reads_it_and_new_items_do_not_disturb(root: Path) -> None:
    bundle = root / "bundle"
    spec = open_bundle(bundle).manifest.ranker
    assert isinstance(spec, TreeRankerSpec)
    assert spec.features[-8:] == tuple(f"person_{place}" for place in range(8))
    assert "person_0" not in spec.features[:-8]
    vectors = vectors_of(bundle)
    histories = Task.of(Dataset.open(root / "dataset"), "test", exclude_seen=False).histories
    grown = vectors.with_items(3)
    np.testing.assert_array_equal(vectors.of(histories), grown.of(histories))
    features = grown.append(np.zeros((len(histories), 2, 5), np.float32), histories)
    assert features.shape == (len(histories), 2, 13)
    np.testing.assert_array_equal(features[:, 0, 5:], features[:, 1, 5:])
    found = Recommender.load(bundle).recommend(["P00119", "P00099"], k=5)
    assert len(found.items) == 5


def test_without_times_the_vector_is_undefined(root: Path) -> None:
    histories = Task.of(Dataset.open(root / "dataset"), "test", exclude_seen=False).histories
    one = histories.take(np.array([0, 1]))
    stamps = np.array(one.timestamps)
    stamps[int(one.starts[0])] = 0
    found = vectors_of(root / "bundle").of(replace(one, timestamps=stamps))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_what_does_not_fit_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="recommends items"):
        export_ranked(root, root / "bundle", "refused")
    by_session = outcome_bundle(root, "by-session", (LifeField(name="session_id"),))
    with pytest.raises(BundleError, match=r"'session_id'.*which a history does not have"):
        export_ranked(root, by_session, "refused")
