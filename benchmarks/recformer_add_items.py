"""New items in a served Recformer: seconds until they are recommended, to whom, what else changes.

    python benchmarks/recformer_add_items.py BUNDLE DATASET [--items 10] [--users 1000]

BUNDLE is exported from a trained run, DATASET is its dataset, with a column `title`. The new items
are successors of items on sale: `--items` of those that the test users' lists show most often, with
the last two words of the title replaced by "2nd edition". Timed, wall clock: the verb `recsys
add-items` from start to exit, on a file, Python's own start among it; loading what it wrote; and
`Recommender.add_items` in a process that serves already. Then each of `--users` random test users
is asked for ten items before and after. A pair of user and new item is *right* where the
predecessor was in the user's list before. Exits with status 1 where an old recommendation changed:
lists with the new items denied must be those from before.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from features.store import Dataset
from serving.policy_spec import RawId
from serving.recommender import Recommender

K = 10
LEAST_WORDS = 6
"""Of a predecessor's title."""


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_histories(data: Dataset, users: int) -> list[list[RawId]]:
    """Raw item ids before the test target of random users."""
    cases, raw = data.cases("test"), data.vocabulary("item").to_pylist()
    chosen = np.random.default_rng(0).permutation(len(cases))[:users]
    return [
        [raw[item - 1] for item in data.items[cases.starts[row] : cases.cuts[row]]]
        for row in chosen
    ]


def lists(
    recommender: Recommender, histories: Sequence[list[RawId]], deny: Sequence[RawId] = ()
) -> list[list[RawId]]:
    return [
        [item.item_id for item in recommender.recommend(history, k=K, deny=deny).items]
        for history in histories
    ]


def successors(
    catalogue: pl.DataFrame, shown: Sequence[list[RawId]], wanted: int
) -> tuple[list[RawId], pl.DataFrame]:
    """Ids of the predecessors, and rows of the new items in the same order."""
    long = catalogue.filter(pl.col("title").str.split(" ").list.len() >= LEAST_WORDS)
    known = set(long["item_id"])
    often = Counter(item for row in shown for item in row if item in known)
    old = [item for item, _ in often.most_common(wanted)]
    rows = pl.DataFrame({"item_id": old}).join(
        catalogue, on="item_id", how="left", maintain_order="left"
    )
    words = pl.col("title").str.split(" ")
    title = words.list.head(words.list.len() - 2).list.join(" ") + " 2nd edition"
    ids = pl.Series([f"successor-{number}" for number in range(len(old))])
    if catalogue["item_id"].dtype.is_integer():
        ids = pl.Series(range(len(old))) + int(catalogue["item_id"].cast(pl.Int64).max()) + 1  # pyright: ignore[reportArgumentType]
    return old, rows.with_columns(title, item_id=ids.cast(catalogue["item_id"].dtype))


def right_and_other_pairs(
    before: Sequence[list[RawId]],
    after: Sequence[list[RawId]],
    old: Sequence[RawId],
    new: Sequence[RawId],
) -> tuple[int, int, int, int]:
    """Right pairs in whose list the new item is, right pairs; other pairs with it, other pairs."""
    pairs = [
        (o in b, n in a)
        for b, a in zip(before, after, strict=True)
        for o, n in zip(old, new, strict=True)
    ]
    found = sum(hit for is_right, hit in pairs if is_right)
    others = sum(hit for is_right, hit in pairs if not is_right)
    total = sum(is_right for is_right, _ in pairs)
    return found, total, others, len(pairs) - total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--users", type=int, default=1_000)
    options = parser.parse_args()
    histories = test_histories(Dataset.open(options.dataset), options.users)
    recommender = Recommender.load(options.bundle)
    before = lists(recommender, histories)
    catalogue = pl.read_parquet(options.bundle / "catalogue.parquet")
    old, new = successors(catalogue, before, options.items)
    verb = Path(sys.executable).parent / "recsys"
    with tempfile.TemporaryDirectory() as folder:
        file, larger = Path(folder) / "new.parquet", Path(folder) / "larger"
        new.write_parquet(file)
        command = [str(verb), "add-items", str(options.bundle), str(file), "--out", str(larger)]
        spent = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        print(f"recsys add-items of {len(new)} to {len(catalogue)}: {spent:.2f} s")
        print(f"loading what it wrote: {seconds(lambda: Recommender.load(larger)):.2f} s")
        served = Recommender.load(larger)
        live: list[Recommender] = []
        spent = seconds(lambda: live.append(recommender.add_items(new)))
        print(f"Recommender.add_items in a serving process: {spent:.3f} s")
        after, ids = lists(served, histories), new["item_id"].to_list()
        same = lists(live[0], histories) == after
        found, total, others, rest = right_and_other_pairs(before, after, old, ids)
        kept = sum(b == a for b, a in zip(before, lists(served, histories, ids), strict=True))
    print(f"verb and method recommend the same: {same}")
    print(f"in the list of {found} of {total} right pairs ({found / total:.1%})")
    print(f"in the list of {others} of {rest} other pairs ({others / rest:.2%})")
    print(f"lists unchanged but for new items: {kept} of {len(histories)}")
    if kept < len(histories) or not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
