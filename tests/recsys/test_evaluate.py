import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.build import build_dataset
from features.config import FeatureConfig, LeaveOneOut
from features.errors import InputError
from features.stage import read_manifest, write_stage
from features.store import Dataset
from offline_eval.report import Report, read_report
from recsys.evaluate import evaluate
from tests.recsys.popular_bundle import write_popular

NUM_USERS, NUM_ITEMS = 40, 15
BASELINES = ("popularity", "recent_popularity", "item_knn")
DAY = 86_400_000_000


def some_log(path: Path, seed: int = 0) -> pl.DataFrame:
    """Ten events a user, some items much more popular than others; repeats occur."""
    rng = np.random.default_rng(seed)
    chances = np.arange(1, NUM_ITEMS + 1) ** 1.5
    items = rng.choice(NUM_ITEMS, (NUM_USERS, 10), p=chances / chances.sum()) + 100
    log = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{user:02}" for user in range(NUM_USERS)], 10),
            "item_id": items.reshape(-1),
            "timestamp": pl.Series(np.arange(NUM_USERS * 10) * DAY // 10).cast(pl.Datetime("us")),
            "event": "click",
        }
    )
    with write_stage(path, kind="events", config={}, parent="") as directory:
        log.write_parquet(directory / "events.parquet")
    return log


class Shop:
    """A log, its dataset and a bundle, with the raw data at hand for a second opinion."""

    def __init__(self, root: Path, *, exclude_seen: bool) -> None:
        self.log = some_log(root / "events")
        self.dataset, self.bundle, self.report_dir = (root / n for n in ("dataset", "b", "report"))
        build_dataset(root / "events", FeatureConfig(split=LeaveOneOut()), self.dataset)
        self.raw_ids = Dataset.open(self.dataset).vocabulary("item").to_pylist()
        rng = np.random.default_rng(1)
        self.scores = {raw: float(rng.permutation(1000)[0]) + raw / 1000 for raw in self.raw_ids}
        by_dense_id = np.array([-np.inf, *(self.scores[raw] for raw in self.raw_ids)])
        write_popular(self.bundle, self.dataset, by_dense_id, exclude_seen=exclude_seen)
        self.exclude_seen = exclude_seen
        self.report = evaluate(
            self.bundle,
            self.dataset,
            self.report_dir,
            ks=(3, 10),
            baselines=BASELINES,
            resamples=50,
        )

    def ranks(self) -> dict[str, int | None]:
        """Place of each user's last item, by brute force; None where it may not be listed."""
        found: dict[str, int | None] = {}
        for (user,), rows in self.log.group_by("user_id", maintain_order=True):
            *seen, target = rows["item_id"].to_list()
            allowed = [i for i in self.raw_ids if not (self.exclude_seen and i in seen)]
            order = sorted(allowed, key=self.scores.__getitem__, reverse=True)
            found[str(user)] = order.index(target) + 1 if target in order else None
        return found


@pytest.fixture(scope="module", params=[True, False], ids=["unseen items", "all items"])
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"), exclude_seen=request.param)


def values_of(shop: Shop, system: str) -> pl.DataFrame:
    frame = pl.read_parquet(shop.report_dir / "per_user.parquet")
    return frame.filter(pl.col("system").cast(pl.String) == system).sort("user_id")


def test_the_bundle_scores_what_a_second_count_gives(shop: Shop) -> None:
    ranks = [rank or 10**9 for _, rank in sorted(shop.ranks().items())]
    found = values_of(shop, "bundle")
    for k in (3, 10):
        expected = [1 / np.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
        np.testing.assert_allclose(found[f"ndcg@{k}"], expected, rtol=1e-6)
        np.testing.assert_array_equal(found[f"hit_rate@{k}"], np.array(ranks) <= k)
    mean = shop.report.bundle.estimates["mrr@10"].value
    assert mean == pytest.approx(np.mean([1 / r if r <= 10 else 0 for r in ranks]))


def test_auc_of_the_bundle_is_that_of_its_whole_order(shop: Shop) -> None:
    found = values_of(shop, "bundle")
    for auc, rank, length in zip(
        found["auc"],
        dict(sorted(shop.ranks().items())).values(),
        found["history_length"],
        strict=True,
    ):
        assert length == 9
        if rank is None:
            assert np.isnan(auc)
        elif not shop.exclude_seen:
            assert auc == pytest.approx((NUM_ITEMS - rank) / (NUM_ITEMS - 1), rel=1e-5)


def test_unreachable_targets_are_counted_and_said(shop: Shop) -> None:
    unreachable = sum(rank is None for rank in shop.ranks().values())
    assert shop.report.counts["seen targets (unreachable)"] == unreachable
    assert any("seen before" in note for note in shop.report.notes) == (unreachable > 0)
    assert shop.exclude_seen == (unreachable > 0)
    undefined = shop.report.bundle.estimates["auc"].undefined
    assert undefined == unreachable


def test_baselines_answer_the_same_cases(shop: Shop) -> None:
    names = [system.name for system in shop.report.systems]
    assert names == ["bundle", *BASELINES]
    training = shop.log.group_by("user_id", maintain_order=True).head(8)
    counts = Counter(training["item_id"].to_list())
    lists = pl.read_parquet(shop.report_dir / "predictions.parquet").with_columns(
        pl.col("system").cast(pl.String)
    )
    popular = lists.filter(pl.col("system") == "popularity")
    for (user,), rows in popular.group_by("user_id", maintain_order=True):
        shown = [counts[item] for item in rows.sort("rank")["item_id"]]
        assert shown == sorted(shown, reverse=True)
        seen = shop.log.filter(pl.col("user_id") == user)["item_id"].to_list()[:-1]
        assert not shop.exclude_seen or not set(rows["item_id"]) & set(seen)
    hits = lists.filter(pl.col("system") == "bundle")["hit"].sum()
    assert hits == values_of(shop, "bundle")["hit_rate@10"].sum()


def test_examples_are_cases_as_they_are(shop: Shop) -> None:
    ranks = shop.ranks()
    assert len(shop.report.examples) == len(ranks) == 40
    for one in shop.report.examples:
        *history, target = shop.log.filter(pl.col("user_id") == one.user)["item_id"].to_list()
        assert list(one.history) == [str(item) for item in history[-10:]]
        assert list(one.targets) == [str(target)]
        rank = ranks[one.user]
        expected = [place == rank for place in range(1, len(one.listed) + 1)]
        assert list(one.hits) == expected


def test_the_report_is_whole(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    files = set(read_manifest(shop.report_dir, "report").files)
    assert files >= {"metrics.json", "report.md", "report.html", "per_user.parquet"}
    again = read_report(shop.report_dir)
    assert again.fingerprint == shop.report.fingerprint
    assert again.to_json() == shop.report.to_json()
    assert shop.report.fingerprint in (shop.report_dir / "report.html").read_text()
    seconds = [comparison.second for comparison in shop.report.comparisons]
    assert "recent_popularity" in seconds


def test_the_size_of_a_block_changes_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.measurement.BLOCK_CELLS", 7 * (NUM_ITEMS + 1))
    again = evaluate(
        shop.bundle, shop.dataset, tmp_path / "r", ks=(3, 10), baselines=BASELINES, resamples=50
    )
    found, expected = json.loads(again.to_json()), json.loads(shop.report.to_json())
    assert found["systems"] == expected["systems"]
    assert found["cuts"] == expected["cuts"]
    for name in ("per_user.parquet", "predictions.parquet"):
        files = [pl.read_parquet(path / name) for path in (tmp_path / "r", shop.report_dir)]
        assert files[0].equals(files[1])


def test_cuts_add_up_to_the_whole(shop: Shop) -> None:
    whole = shop.report.bundle.estimates["ndcg@10"]
    for groups in shop.report.cut_groups().values():
        found = [
            one.estimate
            for group in groups.values()
            for one in group
            if (one.system, one.metric) == ("bundle", "ndcg@10")
        ]
        assert sum(one.defined for one in found) == whole.defined
        total = sum(one.value * one.defined for one in found)
        assert total == pytest.approx(whole.value * whole.defined)


def test_a_table_is_printed(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(shop.bundle, shop.dataset, tmp_path / "r", baselines=("popularity",), resamples=20)
    printed = capsys.readouterr().out
    for text in ("NDCG@10", "AUC", "Coverage@10", "popularity", "fingerprint", "40"):
        assert text in printed


def ceiling_for(events: list[str]) -> dict[str, object]:
    best = {"realised_hr@10": 0.9, "realised_ndcg@10": 0.8}
    split = "leave-one-out: the last click of each user"
    return {"protocol": {"events": events, "split": split}, "all": best}


def test_a_ceiling_is_shown_for_its_own_protocol_only(tmp_path: Path) -> None:
    shop = Shop(tmp_path, exclude_seen=True)

    def measured(events: list[str], out: str) -> Report:
        return evaluate(
            shop.bundle, shop.dataset, tmp_path / out, baselines=(), ceiling=ceiling_for(events)
        )

    same = measured(["click"], "same")
    assert same.ceiling == {"hit_rate@10": 0.9, "ndcg@10": 0.8}
    share = same.bundle.estimates["hit_rate@10"].value / 0.9
    assert same.ceiling_shares()["hit_rate@10"] == pytest.approx(share)
    other = measured(["view"], "other")
    assert other.ceiling == {}
    assert any("ceiling is left out" in note for note in other.notes)


def test_a_bundle_of_other_items_is_refused(shop: Shop, tmp_path: Path) -> None:
    some_log(tmp_path / "events", seed=5)
    build_dataset(tmp_path / "events", FeatureConfig(split=LeaveOneOut()), tmp_path / "dataset")
    with pytest.raises(InputError, match="the bundle knows other items"):
        evaluate(shop.bundle, tmp_path / "dataset", tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_bundle_of_another_split_is_told_of(shop: Shop, tmp_path: Path) -> None:
    assert not any("another dataset" in note for note in shop.report.notes)
    log = shop.dataset.parent / "events"
    config = FeatureConfig(split=LeaveOneOut(), max_values=99)  # another manifest, the same items
    build_dataset(log, config, tmp_path / "dataset")
    report = evaluate(shop.bundle, tmp_path / "dataset", tmp_path / "r", baselines=())
    assert any("another dataset" in note for note in report.notes)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"ks": ()}, "at least one cut-off"),
        ({"ks": (0, 5)}, "each of 1 item or more"),
        ({"baselines": ("svd",)}, r"unknown baselines \['svd'\]"),
    ],
)
def test_bad_requests_are_refused(
    shop: Shop, tmp_path: Path, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        evaluate(shop.bundle, shop.dataset, tmp_path / "r", **options)
