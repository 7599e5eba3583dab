"""Rank the whole catalogue by inner products, in memory that does not grow with users x items.

Shape suffixes: U users, V = num_items + 1 item columns (row 0 is padding), D width of a vector.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from offline_eval.answers import ScoreAnswer
from offline_eval.candidates import Candidates
from offline_eval.hits import Truth

BLOCK_BYTES = 256 << 20
"""Scores held at once. More users a block would not make the products faster."""


def rank_by_vectors(
    users_UD: NDArray[np.floating],
    items_VD: NDArray[np.floating],
    truth: Truth,
    candidates: Candidates,
    ks: Sequence[int],
    *,
    seed: int = 0,
) -> Iterator[tuple[slice, ScoreAnswer]]:
    """Users' rows and their answer, block by block: every metric, AUC and the lists, all exact.

    score = user . item, in float32; all candidates compete, ties count at their expectation.
    Peak memory beside the inputs: one block of scores and as much again in small parts. Raises
    InputError for vectors of other shapes, or scores that are nan.
    """
    if users_UD.shape[0] != len(truth) or items_VD.shape[0] != candidates.num_items + 1:
        raise InputError(
            f"vectors of {users_UD.shape[0]} users and {items_VD.shape[0]} item rows, expected "
            f"{len(truth)} and {candidates.num_items + 1} (row 0 is padding)"
        )
    items_DV = np.ascontiguousarray(items_VD, np.float32).T
    step = max(BLOCK_BYTES // (4 * items_DV.shape[1]), 1)
    scores_BV = np.empty((min(step, len(truth)), items_DV.shape[1]), np.float32)
    for start in range(0, len(truth), step):
        rows = slice(start, min(start + step, len(truth)))
        block_BV = scores_BV[: rows.stop - start]
        np.matmul(users_UD[rows].astype(np.float32, copy=False), items_DV, out=block_BV)
        part = candidates.block(rows.start, rows.stop)
        yield rows, ScoreAnswer.of(block_BV, truth.block(start, rows.stop), part, ks, seed=seed)
