"""Our metrics against values that RecTools and RecBole computed (`benchmarks/parity_*.py`).

Where definitions agree the numbers do, to 1e-12; where they do not, the test states the relation.
scikit-learn and ir-measures are compared in `test_metrics.py` and `test_auc.py`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from offline_eval import metrics
from offline_eval.exposure import gini
from offline_eval.hits import Truth, check_lists, find_hits
from offline_eval.probabilities import auc_by_group, gauc, log_loss

CONTENT = json.loads((Path(__file__).parent / "rectools.json").read_text())
K, NUM_ITEMS = CONTENT["k"], CONTENT["items"]
NUM_USERS = len(CONTENT["lists"])


def fixture() -> tuple[np.ndarray, np.ndarray]:
    """Hits (U, K) and relevant items per user; RecTools' items 0.. are ours from 1."""
    lists = np.zeros((NUM_USERS, K), np.int64)
    for user, items in enumerate(CONTENT["lists"]):
        lists[user, : len(items)] = np.array(items[:K]) + 1
    check_lists(lists, NUM_ITEMS)
    users = np.repeat(np.arange(NUM_USERS), [len(items) for items in CONTENT["truth"]])
    truth = Truth.of(users, np.concatenate(CONTENT["truth"]).astype(int) + 1, NUM_USERS)
    return find_hits(lists, truth), truth.num_relevant


HITS, RELEVANT = fixture()
OURS = {
    "hit_rate": metrics.hit_rate(HITS, RELEVANT),
    "recall": metrics.recall(HITS, RELEVANT),
    "precision": metrics.precision(HITS, RELEVANT),
    "mrr": metrics.mrr(HITS, RELEVANT),
    "ndcg_achievable": metrics.ndcg(HITS, RELEVANT),
    "ndcg": metrics.ndcg_of_full_list(HITS, RELEVANT),
    # RecTools divides by R or by K, ours by the smaller of them: a full list of hits scores 1
    "map": metrics.average_precision(HITS, RELEVANT) * np.minimum(RELEVANT, K) / RELEVANT,
    "map_divided_by_k": metrics.average_precision(HITS, RELEVANT) * np.minimum(RELEVANT, K) / K,
}


@pytest.mark.parametrize("name", OURS)
def test_equal_to_rectools(name: str) -> None:
    np.testing.assert_allclose(OURS[name], CONTENT["values"][name], rtol=1e-12)


def test_r_precision_of_rectools_is_another_metric() -> None:
    """It divides hits among K by min(K, R); R-precision (ours, trec_eval) looks at R ranks."""
    theirs = HITS.sum(axis=1) / np.minimum(RELEVANT, K)
    np.testing.assert_allclose(theirs, CONTENT["values"]["r_precision"], rtol=1e-12)
    ours = metrics.r_precision(HITS, RELEVANT)
    known = RELEVANT <= K
    assert np.isnan(ours[~known]).all()
    assert (ours[known] <= theirs[known]).all()
    assert (ours[known] < theirs[known]).any()


def test_the_fixture_has_every_case() -> None:
    lengths = np.array([len(items) for items in CONTENT["lists"]])
    assert (lengths < K).any()
    assert (lengths > K).any()
    assert (RELEVANT == 1).any()
    assert (RELEVANT > K).any()
    assert (HITS.sum(axis=1) == 0).any()
    assert (HITS.sum(axis=1) > 1).any()


RECBOLE = json.loads((Path(__file__).parent / "recbole.json").read_text())


def recbole_fixture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lists = np.array(RECBOLE["lists"]) + 1
    users = np.repeat(np.arange(len(lists)), [len(items) for items in RECBOLE["truth"]])
    truth = Truth.of(users, np.concatenate(RECBOLE["truth"]).astype(int) + 1, len(lists))
    return lists, find_hits(lists, truth), truth.num_relevant


@pytest.mark.parametrize("name", RECBOLE["values"])
def test_equal_to_recbole(name: str) -> None:
    """All six agree, MAP and NDCG too: RecBole divides by min(K, R), as ours."""
    _, hits, relevant = recbole_fixture()
    ours = {
        "hit_rate": metrics.hit_rate,
        "recall": metrics.recall,
        "precision": metrics.precision,
        "mrr": metrics.mrr,
        "ndcg": metrics.ndcg,
        "map": metrics.average_precision,
    }
    np.testing.assert_allclose(ours[name](hits, relevant), RECBOLE["values"][name], rtol=1e-9)


def test_single_figures_equal_recbole() -> None:
    """GAUC with ties and users of one class, weighted by positives; AUC, log-loss, Gini."""
    labels = np.array(RECBOLE["labels"], bool)
    scores = np.array(RECBOLE["scores"])
    users = np.repeat(np.arange(len(labels)), labels.shape[1])
    found = gauc(labels.ravel(), scores.ravel(), users, weighting="positives")
    assert found == pytest.approx(RECBOLE["single"]["gauc"], rel=1e-9)
    inner = np.clip(scores, 0.01, 0.99).ravel()
    assert log_loss(labels.ravel(), inner).mean() == pytest.approx(
        RECBOLE["single"]["log_loss"], rel=1e-9
    )
    lists, _, _ = recbole_fixture()
    counts = np.bincount(lists.ravel(), minlength=RECBOLE["items"] + 1)
    assert gini(counts) == pytest.approx(RECBOLE["single"]["gini"], rel=1e-9)


def test_auc_over_all_examples_equals_recbole() -> None:
    labels = np.array(RECBOLE["labels"], bool).ravel()
    inner = np.clip(RECBOLE["scores"], 0.01, 0.99).ravel()
    [found], _ = auc_by_group(labels, inner, np.zeros(len(labels), int))
    assert found == pytest.approx(RECBOLE["single"]["auc"], rel=1e-9)
