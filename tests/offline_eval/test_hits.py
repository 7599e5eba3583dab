import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InputError
from offline_eval import hits as hits_module
from offline_eval.hits import Truth, check_lists, find_hits

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=40)


def truth_of(targets: list[tuple[int, int]]) -> Truth:
    users, items = np.array(targets, int).reshape(-1, 2).T
    return Truth.of(users, items, 5)


@given(pairs, st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_hits_equal_membership(targets: list[tuple[int, int]], seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.array([rng.permutation(9)[:k] + 1 for _ in range(5)])
    actual = find_hits(lists, truth_of(targets))
    expected = [[(user, item) in targets for item in lists[user]] for user in range(5)]
    np.testing.assert_array_equal(actual, expected)


@given(pairs)
def test_truth_holds_each_pair_once(targets: list[tuple[int, int]]) -> None:
    truth = truth_of(targets)
    pairs_found = list(zip(truth.users.tolist(), truth.items.tolist(), strict=True))
    assert pairs_found == sorted(set(targets))
    assert truth.num_relevant.tolist() == [
        sum(u == user for u, _ in set(targets)) for user in range(5)
    ]
    parts = [truth.block(0, 2), truth.block(2, 5)]
    np.testing.assert_array_equal(np.concatenate([part.items for part in parts]), truth.items)
    assert (parts[1].users + 2).tolist() == truth.users[truth.users >= 2].tolist()


def test_selecting_keeps_users_without_targets() -> None:
    truth = truth_of([(0, 1), (0, 2), (3, 7)])
    kept = truth.select(np.array([False, True, False]))
    assert kept.items.tolist() == [2]
    assert kept.num_relevant.tolist() == [1, 0, 0, 0, 0]


def test_blocks_of_targets_give_the_same_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of([(u, i) for u in range(5) for i in (1, 3, 5)])
    lists = np.array([[3, 2, 1], [4, 5, 0], [0, 0, 0], [1, 3, 5], [2, 4, 6]])
    whole = find_hits(lists, truth)
    monkeypatch.setattr(hits_module, "BLOCK", 2)
    np.testing.assert_array_equal(find_hits(lists, truth), whole)
    assert whole.sum(axis=1).tolist() == [2, 1, 0, 3, 0]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([1, 1, 2], "an item more than once"),
        ([1, 0, 2], "a gap"),
        ([1, 10, 2], "an id outside 0..9"),
        ([1, -1, 2], "an id outside 0..9"),
    ],
)
def test_a_faulty_list_is_named_and_counted(row: list[int], fault: str) -> None:
    lists = np.array([[1, 2, 3], row, row, [4, 0, 0]])
    with pytest.raises(InputError, match=rf"row 1 holds {fault}.*\(2 of 4 lists"):
        check_lists(lists, 9)


def test_short_and_empty_lists_are_fine() -> None:
    check_lists(np.array([[1, 2, 3], [4, 0, 0], [0, 0, 0]]), 9)


def test_lists_for_other_users_are_refused() -> None:
    with pytest.raises(InputError, match="3 recommendation lists for 5 users"):
        find_hits(np.ones((3, 2), int), truth_of([]))
