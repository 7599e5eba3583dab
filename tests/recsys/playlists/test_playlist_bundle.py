"""Training in stages, and playlists in a bundle: neighbours and their songs against plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from features.encode import Histories
from features.errors import InputError
from features.store import Dataset
from offline_eval.learning import read_curves
from recsys.models.interface import HistoryBatch
from recsys.models.playlist_bow import PlaylistBow
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq
from recsys.playlists.nearest import nearest_playlists
from recsys.training.playlist_config import PartsConfig, SkipGramConfig
from recsys.training.playlist_tasks import two_parts
from recsys.training.run import load_run, train
from recsys.training.skip_gram import song_vectors
from serving.block import Block
from serving.bundle import open_bundle
from serving.errors import BundleError, RequestError
from serving.history_source import HistorySource
from serving.parts import Parts
from serving.policy import Policy
from serving.recommender import Recommender
from tests.recsys.playlists.conftest import Planted, settings


def source_of(planted: Planted) -> HistorySource:
    parts = Parts.load(open_bundle(planted.bundle))
    (found,) = [one for one in parts.sources if isinstance(one, HistorySource)]
    return found


def test_a_bundle_holds_training_playlists_only(planted: Planted) -> None:
    source, data = source_of(planted), Dataset.open(planted.dataset)
    training = data.training_histories()
    assert source.spec.histories == len(training)
    for number in (1, len(training)):
        start, end = training.starts[number - 1], training.ends[number - 1]
        assert source.items_of(number).tolist() == data.items[start:end].tolist()


def test_neighbours_and_votes_by_their_definition(planted: Planted) -> None:
    source, data = source_of(planted), Dataset.open(planted.dataset)
    model, _, _ = load_run(planted.run)
    assert isinstance(model, PlaylistSeq2Seq)
    asked = data.histories(data.cases("test")).take(slice(0, 5))
    training = data.training_histories()

    def z(histories: Histories, row: int) -> np.ndarray:
        items = data.items[histories.starts[row] : histories.ends[row]].astype(np.int64)
        with torch.no_grad():
            return model.vectors(torch.from_numpy(items)[None])[0].numpy()

    known = np.array([z(training, row) for row in range(len(training))])
    centre = known.mean(0)
    known = (known - centre) / np.linalg.norm(known - centre, axis=1, keepdims=True)
    block = Block.of(asked, np.zeros(5, np.int64), data.schema.num_items)
    found = source.propose(block, Policy(exclude_seen=True), 10)
    for row in range(5):
        query = z(asked, row) - centre
        cosine = known @ query / np.linalg.norm(query)
        near = np.argsort(-cosine)[: source.spec.neighbours]
        weight = np.exp((cosine[near] - cosine[near].max()) / source.spec.temperature)
        seen = set(data.items[asked.starts[row] : asked.ends[row]].tolist())
        votes: dict[int, float] = {}
        for n, w in zip(near, weight, strict=True):
            for item in set(data.items[training.starts[n] : training.ends[n]].tolist()) - seen:
                votes[item] = votes.get(item, 0.0) + float(w)
        best = sorted(votes.values(), reverse=True)[:10]
        np.testing.assert_allclose(found.scores[row][: len(best)], best, rtol=0.02)
        assert not set(found.items[row].tolist()) & seen
        mine = [votes[item] for item in found.items[row].tolist() if item]
        np.testing.assert_allclose(mine, best, rtol=0.02)


def test_recommends_the_songs_of_the_genre(planted: Planted) -> None:
    answer = Recommender.load(planted.bundle).recommend([31, 35, 40, 44, 52], k=10)
    assert answer.items[0].source == "history_knn"
    assert len(answer.items) == 10


def test_an_empty_history_has_no_neighbours(planted: Planted) -> None:
    source = source_of(planted)
    block = Block.of(Histories.of([[], [3]]), np.zeros(2, np.int64), 120)
    found = source.propose(block, Policy(exclude_seen=True), 5)
    assert (found.items[0] == 0).all()
    assert (found.items[1] > 0).any()


def test_new_items_are_refused_in_words(planted: Planted) -> None:
    with pytest.raises(RequestError, match="train and export again"):
        source_of(planted).with_items(None)  # pyright: ignore


def test_a_source_whose_files_do_not_fit_is_refused(planted: Planted) -> None:
    bundle = open_bundle(planted.bundle)
    spec = source_of(planted).spec
    for change, told in (({"histories": 3}, "expected int64"), ({"inputs": ("tokens",)}, "takes")):
        with pytest.raises(BundleError, match=told):
            HistorySource.load(bundle, spec.model_copy(update=change), {})


def test_nearest_playlists_of_songs(planted: Planted) -> None:
    near = nearest_playlists(planted.bundle, ["31", "35", "40"], 3)
    assert len(near) == 3
    assert near[0].cosine >= near[1].cosine >= near[2].cosine
    assert all(song.startswith("<Song>") for song in near[0].songs)
    with pytest.raises(RequestError, match="none of the 1 songs"):
        nearest_playlists(planted.bundle, ["99999"], 3)


def test_stages_leave_their_curves_and_the_last_one_its_weights(planted: Planted) -> None:
    curves = read_curves(planted.run)
    assert "autoencoder: minus_nats_a_token" in curves
    assert "parts: ndcg@10" in curves
    assert json.loads((planted.run / "result.json").read_text())["score"] >= 0


def test_a_bag_of_songs_is_fitted_without_steps(planted: Planted, tmp_path: Path) -> None:
    model, _, _ = load_run(planted.bag)
    assert isinstance(model, PlaylistBow)
    assert model.direction.norm() == pytest.approx(1, abs=1e-4)
    z = model.encode_history(HistoryBatch(torch.tensor([[1, 2, 3], [4, 5, 0]])))
    assert z.norm(dim=1).tolist() == pytest.approx([1, 1])
    bad = settings(skip_gram=SkipGramConfig(epochs=0))
    with pytest.raises(InputError, match="nothing else"):
        train("playlist_bow", {"dim": 16}, bad, planted.dataset, tmp_path / "x")


def test_nothing_to_learn_is_refused(planted: Planted, tmp_path: Path) -> None:
    bad = settings(autoencoder=False, parts=PartsConfig(epochs=0))
    with pytest.raises(InputError, match="nothing would be learned"):
        train("playlist_seq2seq", {"dim": 16}, bad, planted.dataset, tmp_path / "x")


def test_the_same_seed_gives_the_same_song_vectors(planted: Planted) -> None:
    data = Dataset.open(planted.dataset)
    config = SkipGramConfig(epochs=1, min_count=2)
    training = data.training_histories()
    first, again, other = (
        song_vectors(training, data.schema.num_items, 8, config, seed) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first[0] == 0).all()


def test_two_parts_hold_every_song_once_and_in_order() -> None:
    draw = np.random.default_rng(0)
    items = np.array([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [1, 2, 3, 9, 0, 0]])
    for _ in range(20):
        parts = two_parts(items, draw, 0.5)
        for row in range(3):
            first, second = (
                part[row][part[row] > 0].tolist() for part in (parts.first, parts.second)
            )
            wanted = items[row][items[row] > 0].tolist()
            assert sorted(first + second) == sorted(wanted)
            assert first
            assert second
            assert first == sorted(first, key=wanted.index)
        assert parts.alike.tolist() == [
            [True, False, True],
            [False, True, False],
            [True, False, True],
        ]
