"""MovieLens-1M, the real log: the published protocol, user by user, in file order."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.store import Dataset

SOURCE = Path(__file__).parents[3] / "shared/datasets/movielens_1m"

pytestmark = pytest.mark.skipif(
    not SOURCE.is_dir(), reason="needs ../shared/datasets/movielens_1m beside the repository"
)


@pytest.fixture
def log() -> pl.DataFrame:
    time = pl.from_epoch("timestamp", time_unit="s").cast(pl.Datetime("us"))
    ids = pl.col("user_id", "item_id").cast(pl.Int64)
    return pl.read_parquet(SOURCE / "interactions.parquet").select(
        ids, time, event=pl.lit("rating")
    )


def test_last_item_tests_and_the_one_before_validates(
    log: pl.DataFrame, build_events: Callable[..., Path], tmp_path: Path
) -> None:
    items = pl.read_parquet(SOURCE / "items.parquet").cast({"item_id": pl.Int64})
    kinds = {"title": "text", "genres": "categories", "year": "category"}
    events = build_events(log, items, kinds)
    build_dataset(events, FeatureConfig(split=LeaveOneOut()), tmp_path / "dataset")

    dataset = Dataset.open(tmp_path / "dataset", verify=True)
    schema = dataset.schema
    assert (schema.num_users, schema.num_items, schema.num_events) == (6_040, 3_416, 999_611)
    in_file_order = log.group_by("user_id", maintain_order=True).agg(pl.col("item_id"))
    ids = dataset.vocabulary("item").to_numpy()
    for split, place in (("validation", -2), ("test", -1)):
        cases = dataset.cases(split)
        targets = ids[dataset.items[cases.cuts] - 1]
        assert (cases.ends - cases.cuts == 1).all()
        assert targets.tolist() == in_file_order["item_id"].list.get(place).to_list()
        lengths = in_file_order["item_id"].list.len().to_numpy()
        assert (cases.cuts - cases.starts - place == lengths).all()
    assert dataset.vocabulary("user").to_pylist() == in_file_order["user_id"].to_list()
    assert (dataset.cuts["train_end"] - dataset.cuts["start"]).sum() == 999_611 - 2 * 6_040
    years = dict(items.select("item_id", "year").rows())
    known = dataset.vocabulary("year").to_pylist()
    found = [known[code - 2] for code in dataset.item_table["year"][1:]]
    assert found == [str(years[i]) for i in ids]
