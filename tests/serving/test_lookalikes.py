"""Look-alikes: cosines by their definition, and refusals in words."""

import numpy as np
import polars as pl
import pytest

from serving.errors import RequestError
from serving.lookalikes import LookAlikes


def audience() -> tuple[pl.Series, np.ndarray]:
    draw = np.random.default_rng(0)
    return pl.Series("user_id", [f"p{n}" for n in range(50)]), draw.normal(size=(50, 8))


def test_the_nearest_by_cosine_come_first_and_seeds_do_not() -> None:
    users, vectors = audience()
    found = LookAlikes(users, vectors).similar(["p3", "p7"], k=10)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    middle = unit[[3, 7]].mean(0)
    score = unit @ (middle / np.linalg.norm(middle))
    score[[3, 7]] = -np.inf
    assert found["user_id"].to_list() == [f"p{n}" for n in np.argsort(-score)[:10]]
    np.testing.assert_allclose(found["score"], np.sort(score)[::-1][:10], rtol=1e-5)


def test_more_than_there_are_is_everybody_else() -> None:
    users, vectors = audience()
    assert len(LookAlikes(users, vectors).similar(["p0"], k=1_000)) == 49


def test_the_scores_of_a_batch_job_are_an_audience() -> None:
    users, vectors = audience()
    frame = pl.DataFrame({"user_id": users, "embedding": vectors.tolist()})
    direct = LookAlikes(users, vectors).similar(["p1"], k=5)
    assert LookAlikes.of_scores(frame).similar(["p1"], k=5).equals(direct)
    with pytest.raises(RequestError, match="--what vectors"):
        LookAlikes.of_scores(frame.drop("embedding"))


def test_unknown_seeds_and_broken_audiences_are_refused() -> None:
    users, vectors = audience()
    with pytest.raises(RequestError, match="not in the audience"):
        LookAlikes(users, vectors).similar(["p1", "nobody"])
    with pytest.raises(RequestError, match="at least one"):
        LookAlikes(users, vectors).similar([])
    with pytest.raises(RequestError, match="one each"):
        LookAlikes(users, vectors[:3])
