import warnings

import pytest
import torch

from recsys.models.tables import (
    Backend,
    Table,
    Tables,
    hashed_rows,
    make_tables,
    memory_report,
)

TABLES = (
    Table(name="item", rows=50, dim=4, features=("target", "history")),
    Table(name="colour", rows=7, dim=4, features=("colour",)),
    Table(name="advert", rows=11, dim=4, features=("advert",), hashed=True),
)
IDS = {
    "target": torch.tensor([3, 0, 49]),
    "history": torch.tensor([[1, 2, 0], [3, 3, 49]]),
    "colour": torch.tensor([[[1, 6], [0, 2]]]),
    "advert": torch.tensor([2**61 + 5, -7, 0]),
}


def tables(backend: Backend) -> Tables:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchrec's own, while it loads
        return make_tables(TABLES, backend)


@pytest.mark.parametrize("backend", ["torch", "torchrec"])
def test_each_feature_reads_its_table(backend: Backend) -> None:
    found = tables(backend)
    out = found(IDS)
    assert {name: tuple(x.shape) for name, x in out.items()} == {
        "target": (3, 4),
        "history": (2, 3, 4),
        "colour": (1, 2, 2, 4),
        "advert": (3, 4),
    }
    torch.testing.assert_close(out["history"][1, 2], found.weight("item")[49])
    torch.testing.assert_close(out["target"][2], out["history"][1, 2])  # one table


def test_both_backends_give_the_same_numbers_and_gradients_from_the_same_weights() -> None:
    ours, theirs = tables("torch"), tables("torchrec")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    for name, expected in ours(IDS).items():
        assert torch.equal(theirs(IDS)[name], expected)
    for found in (ours, theirs):
        torch.stack([x.square().sum() for x in found(IDS).values()]).sum().backward()
    for name in ("item", "colour", "advert"):
        mine, other = (x.weight(name).grad for x in (ours, theirs))
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("backend", ["torch", "torchrec"])
def test_features_may_be_left_out(backend: Backend) -> None:
    found = tables(backend)
    some = {"history": IDS["history"]}
    assert torch.equal(found(some)["history"], found(IDS)["history"])


def test_hashes_stay_inside_the_table_spread_evenly_and_are_frozen() -> None:
    rows = hashed_rows(torch.arange(1, 100_001), 101)
    assert rows.min() == 1
    assert rows.max() == 100
    counts = torch.bincount(rows)[1:].float()
    assert ((counts - 1000) ** 2 / 1000).sum() < 149  # chi-square of 99 degrees, p = .001
    assert hashed_rows(torch.tensor([0, 1, 2, -5, 2**62]), 10).tolist() == [0, 1, 3, 9, 6]


def test_sparse_gradients_hold_touched_rows_only() -> None:
    torch.manual_seed(0)
    found = make_tables(TABLES[:1], "torch", sparse=True)
    found({"target": torch.tensor([3, 3, 7])})["target"].sum().backward()
    grad = found.weight("item").grad
    assert grad is not None
    assert sorted(set(grad.coalesce().indices()[0].tolist())) == [3, 7]


def test_the_memory_report_counts_weights_state_and_gradient() -> None:
    big = [Table(name="item", rows=20_000_000, dim=16, features=("item",))]
    weights = 4 * 20_000_000 * 16
    dense, sparse, rowwise = (
        memory_report(big, kind, lookups=1000)[0]
        for kind in ("adam", "sparse_adam", "rowwise_adagrad")
    )
    assert dense.total == 4 * weights
    assert sparse.total == 3 * weights + 4 * 1000 * 16
    assert rowwise.total == weights + 4 * 20_000_000 + 4 * 1000 * 16
    assert memory_report(big, "adam", ranks=2)[0].total == dense.total // 2
