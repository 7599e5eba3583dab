"""Raw Diginetica, a few sessions made by hand, from its files to the cases of a split by time."""

from collections.abc import Callable
from pathlib import Path

from data.build import build_events
from data.config import PublicData
from features.build import build_dataset
from features.config import FeatureConfig, SessionTime
from features.store import Dataset

HEAD_OF_BUYS = "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n"


def test_raw_diginetica_becomes_sessions_split_by_time(
    put: Callable[..., None],
    tmp_path: Path,
) -> None:
    rows = ["sessionId;userId;itemId;timeframe;eventdate"]
    for session in range(30):  # a day each; file order is not the order in the session
        items = [100 + (session + n) % 9 for n in range(3)]
        for place in (2, 0, 1):
            rows.append(f"{session};NA;{items[place]};{place * 1000};2016-05-{session + 1:02}")
    kinds = "".join(f"{item};{item % 3}\n" for item in range(100, 109))
    put(
        {
            "diginetica-raw/train-item-views.csv": "\n".join(rows) + "\n",
            "diginetica-raw/train-purchases.csv": HEAD_OF_BUYS,
            "diginetica-raw/product-categories.csv": "itemId;categoryId\n" + kinds,
        }
    )
    build_events(PublicData(source="diginetica"), tmp_path / "events")
    config = FeatureConfig(split=SessionTime(validation_days=5, test_days=5))
    build_dataset(tmp_path / "events", config, tmp_path / "dataset")
    data = Dataset.open(tmp_path / "dataset")
    cases, ids = data.cases("test"), [0, *data.vocabulary("item").to_pylist()]
    assert len(cases) == 5 * 2  # each session of three: the second and the third item
    assert len(data.training_histories()) == 20
    rows = zip(cases.starts.tolist(), cases.ends.tolist(), strict=True)
    asked = {tuple(ids[item] for item in data.items[start:end].tolist()) for start, end in rows}
    walks = [tuple(100 + (session + n) % 9 for n in range(3)) for session in range(25, 30)]
    assert asked == {walk[:n] for walk in walks for n in (2, 3)}
    assert {c.name: c.kind for c in data.schema.item_columns} == {
        "category": "category",
        "price_step": "category",
        "name_tokens": "categories",
    }
