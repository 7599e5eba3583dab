"""Persons like these: nearest vectors of an outcome model, as a retriever of people.

    LookAlikes(users, vectors).similar(seeds, k)

The score is the cosine between a person's vector and the mean of the seeds' vectors; exact, one
matrix product over the audience.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from serving.errors import RequestError

SHOWN = 5


class LookAlikes:
    """An audience to search. Immutable, safe to share between threads."""

    def __init__(self, users: pl.Series, vectors_ND: NDArray[np.floating]) -> None:
        """users: raw ids, each once. vectors_ND: `Predicted.persons`, in that order."""
        if len(users) != len(vectors_ND):
            raise RequestError(f"{len(users)} users and {len(vectors_ND)} vectors: one each")
        if users.is_duplicated().any():
            raise RequestError("a user stands twice in the audience")
        norm_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        self._unit_ND = (vectors_ND / np.maximum(norm_N1, 1e-12)).astype(np.float32)
        self._users = users
        self._row = {user: row for row, user in enumerate(users.to_list())}

    @classmethod
    def of_scores(cls, frame: pl.DataFrame) -> "LookAlikes":
        """From what `recsys score --what vectors` wrote: user_id and embedding."""
        if missing := sorted({"user_id", "embedding"} - set(frame.columns)):
            raise RequestError(f"the scores lack {missing}: score with --what vectors")
        return cls(frame["user_id"], np.stack(frame["embedding"].to_list()))

    def similar(self, seeds: Sequence[int | str], k: int = 100) -> pl.DataFrame:
        """The k persons most like the seeds, without them: user_id, score; best first, ties by
        place in the audience. Raises RequestError for no seed or one that is not known.
        """
        if not seeds:
            raise RequestError("name at least one person to be like")
        if unknown := [seed for seed in seeds if seed not in self._row]:
            raise RequestError(
                f"{len(unknown)} of {len(seeds)} persons are not in the audience "
                f"(first {unknown[:SHOWN]})"
            )
        rows = np.array([self._row[seed] for seed in seeds])
        middle_D = self._unit_ND[rows].mean(0)
        score_N = self._unit_ND @ (middle_D / max(float(np.linalg.norm(middle_D)), 1e-12))
        score_N[rows] = -np.inf
        best = np.argsort(-score_N, kind="stable")[: max(min(k, len(score_N) - len(set(rows))), 0)]
        return pl.DataFrame({"user_id": self._users[best], "score": score_N[best]})
