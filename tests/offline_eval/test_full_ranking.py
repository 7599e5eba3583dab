import numpy as np
import pytest

from features.errors import InputError
from offline_eval import full_ranking
from offline_eval.answers import ScoreAnswer
from offline_eval.candidates import Candidates
from offline_eval.full_ranking import rank_by_vectors
from offline_eval.hits import Truth

USERS, ITEMS = 20, 300


def test_blocks_give_what_the_whole_matrix_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(-2, 3, (USERS, 3)).astype(np.float32)  # whole numbers: exact, with ties
    items = rng.integers(-2, 3, (ITEMS + 1, 3)).astype(np.float32)
    truth = Truth.of(rng.integers(0, USERS, 60), rng.integers(1, ITEMS + 1, 60), USERS)
    pairs = rng.integers(0, USERS, 90), rng.integers(1, ITEMS + 1, 90)
    candidates = Candidates.without(*pairs, num_users=USERS, num_items=ITEMS)
    whole = ScoreAnswer.of(users @ items.T, truth, candidates, (1, 10))
    monkeypatch.setattr(full_ranking, "BLOCK_BYTES", 7 * 4 * (ITEMS + 1))  # 7 users a block
    parts = list(rank_by_vectors(users, items, truth, candidates, (1, 10)))
    assert [rows.stop - rows.start for rows, _ in parts] == [7, 7, 6]
    np.testing.assert_array_equal(np.concatenate([a.lists for _, a in parts]), whole.lists)
    values = [answer.values() for _, answer in parts]
    for name, expected in whole.values().items():
        found = np.concatenate([one[name] for one in values])
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


def test_vectors_of_other_shapes_are_refused() -> None:
    truth, everything = Truth.of(np.zeros(1, int), np.ones(1, int), 1), Candidates.everything(1, 5)
    with pytest.raises(InputError, match="2 users and 6 item rows, expected 1 and 6"):
        next(rank_by_vectors(np.ones((2, 3)), np.ones((6, 3)), truth, everything, (1,)))
