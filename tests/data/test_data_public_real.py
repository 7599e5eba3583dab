"""Public data sets as they really are: counts of the Parquet layouts below RECSYS_DATA."""

import os
from pathlib import Path

import polars as pl
import pytest

from data.config import PublicData
from data.public import reading
from features.schema import check_events, check_items

REAL = Path(os.environ.get("RECSYS_DATA") or Path(__file__).parents[3] / "shared" / "datasets")
COUNTS = {
    "30music": (343_183, 14_262, 9_999),
    "amazon-2014 beauty": (198_215, 22_332, 12_086),
    "amazon-2014 books_1m": (517_167, 38_234, 38_519),
    "amazon-2014 clothing": (277_534, 39_230, 22_948),
    "amazon-2014 electronics_1m": (241_198, 28_566, 15_743),
    "amazon-2014 grocery": (121_892, 14_681, 8_687),
    "amazon-2014 health": (343_831, 38_329, 18_427),
    "amazon-2014 toys": (165_247, 19_124, 11_758),
    "amazon-2018 electronics_1m": (374_989, 43_462, 23_133),
    "amazon-2018 industrial_windows": (22_743, 3_285, 3_541),
    "amazon-2018 office_windows": (22_447, 3_231, 3_317),
    "amazon-2018 scientific": (59_390, 8_442, 4_385),
    "beibei": (947_198, 21_716, 7_977),
    "classic-rock": (37_673, 25, 2_231),
    "complete-journey": (100_000, 2_405, 23_950),
    "food-com": (555_618, 17_813, 41_240),
    "globo": (2_988_181, 322_897, 46_033),
    "physionet-2012": (1_733_979, 3_996, 37),
    "rees46": (17_435, 4_505, 6_493),
    "spotify-playlists": (873_906, 8_311, 59_467),
    "steam": (126_824, 10_369, 3_593),
    "taobao": (357_412, 31_882, 30_985),
    "taobao-slice": (110_300, 66_454, 84_793),
    "tmall-2014": (182_880, 884, 9_531),
    "tmall-ijcai15": (192_640, 17_435, 33_794),
    "trivago": (87_608, 6_593, 13_949),
    "yelp": (722_659, 19_800, 22_734),
    "yoochoose-buys": (292_230, 43_107, 4_659),
    "yoochoose-clicks": (145_716, 17_744, 5_630),
}


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(),
    reason="the real data sets are neither in RECSYS_DATA nor beside the repository",
)
@pytest.mark.parametrize("name", COUNTS)
def test_events_users_and_items_are_those_of_the_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(REAL))
    source, _, part = name.partition(" ")
    tables = reading.load(PublicData(source=source, part=part))  # pyright: ignore
    events = check_events(tables.events, name)
    assert events.select(pl.len(), pl.col("user_id", "item_id").n_unique()).row(0) == COUNTS[name]
    if tables.items is not None:
        items = check_items(tables.items, name, tables.item_columns)
        named = events.select(pl.col("item_id").unique()).join(items, on="item_id", how="semi")
        assert len(named) >= 0.99 * events["item_id"].n_unique()


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(),
    reason="the real data sets are neither in RECSYS_DATA nor beside the repository",
)
def test_the_sessions_of_diginetica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(REAL))
    events = check_events(reading.load(PublicData(source="diginetica")).events, "diginetica")
    test = events.filter(pl.col("user_id") >= 1_000_000)
    assert len(events) - len(test) == 906_140
    prefixes = pl.read_parquet(REAL / "diginetica/test_prefixes.parquet")
    assert len(test) - test["user_id"].n_unique() == len(prefixes)  # a target a click but the first
