"""The probe suite on vectors whose knowledge is known, and its command on planted playlists."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.cli import app
from recsys.playlists.probes import (
    Change,
    accuracy_of,
    content_task,
    diversity_task,
    label_task,
    length_task,
    order_task,
    permuted,
    precision_at,
    probe,
)
from tests.recsys.playlists.conftest import Planted

DRAW = np.random.default_rng(0)
LISTS = [DRAW.integers(1, 60, DRAW.integers(4, 40)) for _ in range(400)]
TRAIN, TEST = LISTS[:300], LISTS[300:]


def length_of(songs: list) -> np.ndarray:
    return np.array([[len(one), 1.0] for one in songs], np.float32)


def nothing_of(songs: list) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(songs), 4)).astype(np.float32)


def test_a_vector_of_the_length_knows_it_and_noise_does_not() -> None:
    task = length_task(TRAIN, TEST)
    assert len(np.unique(task.train_class)) == 10
    assert task.majority < 0.25
    assert probe(task, length_of).value > 0.6
    assert probe(task, nothing_of).value < 0.25


def test_content_is_asked_of_playlists_with_one_of_the_songs() -> None:
    task = content_task(TRAIN, TEST, 8)
    for songs, wanted in ((task.train, task.train_class), (task.test, task.test_class)):
        for one, song in zip(songs, wanted, strict=True):
            assert song in one
            assert len(set(one.tolist()) & set(np.unique(task.train_class).tolist())) == 1

    def held(songs: list) -> np.ndarray:
        return np.array([np.bincount(one, minlength=60)[:60] for one in songs], np.float32)

    assert probe(task, held).value > 0.9


def test_diversity_counts_values_a_song() -> None:
    value_of = np.arange(61) // 10
    task = diversity_task([np.array([1, 2, 3]), np.array([1, 11, 21])] * 20, TEST, value_of)
    assert task.train_class[0] != task.train_class[1]


def test_labels_that_are_rare_or_missing_are_left_out() -> None:
    train_of = np.array([0] * 100 + [1] * 150 + [2] * 3 + [-1] * 47)
    task = label_task(TRAIN, train_of, TEST, np.array([0, 1, 2, -1] * 25))
    assert len(task.train) == 250
    assert set(task.test_class.tolist()) == {0, 1}
    assert task.majority == 0.5


@pytest.mark.parametrize("change", ["window", "positions", "reverse"])
@pytest.mark.parametrize("fraction", [0.2, 0.6, 1.0])
def test_a_change_moves_only_its_share_and_loses_nothing(change: Change, fraction: float) -> None:
    draw = np.random.default_rng(0)
    for one in ([1, 2], list(range(10, 40))):
        songs = np.array(one)
        found = permuted(songs, change, fraction, draw)
        moved = np.flatnonzero(found != songs)
        assert sorted(found.tolist()) == sorted(one)
        assert 0 < len(moved) <= max(round(fraction * len(one)), 2)
        if change != "positions":
            assert moved[-1] - moved[0] < max(round(fraction * len(one)), 2)


def test_order_is_nothing_to_a_bag_and_plain_to_a_first_song() -> None:
    lists = [np.sort(one) for one in LISTS]
    task = order_task(lists[:300], lists[300:], "reverse", 1.0)
    assert task.majority == 0.5

    def bag(songs: list) -> np.ndarray:
        return np.array([[one.mean(), one.max()] for one in songs], np.float32)

    def ends(songs: list) -> np.ndarray:
        return np.array([[one[0], one[-1]] for one in songs], np.float32)

    assert probe(task, bag).value == pytest.approx(0.5, abs=0.03)
    assert probe(task, ends).value > 0.95


def test_precision_of_neighbours_by_hand() -> None:
    train = np.eye(3, dtype=np.float32)
    test = np.array([[0.9, 0.1, 0], [0, 0, 1]], np.float32)
    found = precision_at((train, test), (np.array([4, 5, -1]), np.array([4, -1])), 2)
    assert found.value == 0.5  # the query without a class does not ask, nor does one answer
    assert found.playlists == 1


def test_an_interval_covers_the_mean() -> None:
    found = accuracy_of(np.arange(100) < 70)
    assert found.low < found.value == 0.7 < found.high
    assert found.high - found.low == pytest.approx(4 * np.sqrt(0.21 / 100), rel=0.2)


def test_the_command_writes_page_and_figures(planted: Planted, tmp_path: Path) -> None:
    out = tmp_path / "probes"
    arguments = ["playlist-probe", planted.run, "--dataset", planted.dataset, "--out", out]
    arguments += ["--users", planted.users, "--label", "genre", "--attribute", "artist"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    rows = {one["task"]: one for one in json.loads((out / "probes.json").read_text())["rows"]}
    assert rows["label"]["found"]["bag of songs"]["value"] > 0.9
    assert rows["order: window 100%"]["majority"] == 0.5
    assert set(rows["length"]["found"]) == {"model", "untrained", "bag of songs"}
    assert "retrieval: label P@10" in rows
    page = (out / "probes.html").read_text()
    assert "order: reverse" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_wrong_names_are_sentences(planted: Planted, tmp_path: Path) -> None:
    common = ["playlist-probe", planted.run, "--dataset", planted.dataset, "--out", tmp_path / "o"]
    for more, told in (
        (["--label", "genre"], "give that file too"),
        (["--users", planted.users, "--label", "mood"], "lacks"),
        (["--attribute", "title"], "encodes no category"),
    ):
        result = CliRunner().invoke(app, [str(a) for a in [*common, *more]])
        assert told in str(result.exception)
        assert not (tmp_path / "o").exists()
