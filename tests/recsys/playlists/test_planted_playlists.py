"""Ground truth on planted playlists: genre, length without content, order. Minutes; by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from features.encode import Histories
from recsys.models.interface import HistoryBatch, Retriever
from recsys.models.losses import FullSoftmax
from recsys.models.playlist_bow import PlaylistBow, PlaylistBowConfig
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq, PlaylistSeq2SeqConfig
from recsys.playlists.probes import (
    ProbeTask,
    label_task,
    length_task,
    order_task,
    precision_at,
    probe,
)
from recsys.training.batches import epoch_order
from recsys.training.playlist_config import SkipGramConfig
from recsys.training.playlist_tasks import items_of, song_counts
from recsys.training.skip_gram import song_vectors

pytestmark = pytest.mark.slow

Lists = list[NDArray[np.int64]]
BATCH = 64


def trained(
    lists: Lists, num_songs: int, steps: int, rate: float = 2e-3, **sizes: object
) -> PlaylistSeq2Seq:
    """An autoencoder of width 64 after so many steps of Adam, from skip-gram."""
    torch.manual_seed(0)
    config = PlaylistSeq2SeqConfig(num_items=num_songs, dim=64, dropout=0.0, **sizes)  # pyright: ignore
    model, histories = PlaylistSeq2Seq(config), Histories.of(lists)
    skip_gram = SkipGramConfig(subsample=0)
    model.start_songs(torch.from_numpy(song_vectors(histories, num_songs, 64, skip_gram, 0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    done, epoch = 0, 0
    while done < steps:
        for rows in epoch_order(histories.lengths, BATCH, 0, epoch):
            optimizer.zero_grad()
            model.reconstruction_loss(items_of(histories.take(rows)), FullSoftmax()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                break
        epoch += 1
    return model.eval()


def bag(lists: Lists, num_songs: int) -> PlaylistBow:
    histories = Histories.of(lists)
    model = PlaylistBow(PlaylistBowConfig(num_items=num_songs, dim=64)).eval()
    skip_gram = SkipGramConfig(subsample=0, epochs=10)
    model.start_songs(torch.from_numpy(song_vectors(histories, num_songs, 64, skip_gram, 0)))
    model.fit_weights(torch.from_numpy(song_counts(histories, num_songs)).float())
    with torch.no_grad():
        model.fit_direction(model.pool(items_of(histories)))
    return model


def encoder(model: Retriever) -> Callable[[Lists], NDArray[np.float32]]:
    def encode(lists: Lists) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model.encode_history(HistoryBatch(items_of(Histories.of(lists)))).numpy()

    return encode


def told(name: str, task: ProbeTask, model: Retriever) -> float:
    found = probe(task, encoder(model)).value
    print(f"{name}: {task.name} {found:.3f} (majority {task.majority:.3f})")
    return found


def test_planted_genre() -> None:
    """Eight blocks of 25 songs, a tenth of the songs from anywhere."""
    draw = np.random.default_rng(0)
    genre = np.arange(2_500) % 8
    lists = []
    for one in genre:
        length = draw.integers(6, 31)
        own = 1 + one * 25 + draw.integers(0, 25, length)
        lists.append(np.where(draw.random(length) < 0.9, own, draw.integers(1, 201, length)))
    train, test, classes = lists[:2_000], lists[2_000:], (genre[:2_000], genre[2_000:])
    task = label_task(train, classes[0], test, classes[1])
    assert told("bag", task, bag(train, 200)) >= 0.99
    model = trained(train, 200, 1_000)
    assert told("no attention", task, model) >= 0.98
    encode = encoder(model)
    found = precision_at((encode(train), encode(test)), classes, 10)
    print(f"no attention: P@10 {found.value:.3f}")
    assert found.value >= 0.95


def test_planted_length_without_content() -> None:
    """One genre, lengths of 6 to 30 in five classes: a bag has nothing to go by."""
    draw = np.random.default_rng(0)
    lists = [draw.integers(1, 51, draw.integers(6, 31)) for _ in range(2_500)]
    whole = length_task(lists[:2_000], lists[2_000:])
    five = ProbeTask(
        "five lengths",
        whole.train,
        whole.train_class // 2,
        whole.test,
        whole.test_class // 2,
        False,
    )
    assert told("bag", five, bag(lists[:2_000], 50)) <= 0.30
    model = trained(
        lists[:2_000], 50, 1_000, attention="general", input_feeding=False, num_layers=1
    )
    assert told("attention", five, model) >= 0.65


def test_planted_order() -> None:
    """A cycle of 30 songs, the next song follows 19 times of 20."""
    draw = np.random.default_rng(0)
    lists = []
    for _ in range(4_000):
        length = draw.integers(8, 17)
        jumps = np.where(draw.random(length) < 0.95, 1, draw.integers(2, 30, length))
        lists.append(1 + (draw.integers(0, 30) + np.cumsum(jumps)) % 30)
    train, test = lists[:3_000], lists[3_000:]
    model, other = trained(train, 30, 2_000, rate=4e-3), bag(train, 30)
    found = []
    for fraction in (0.2, 0.6, 1.0):
        task = order_task(train, test, "positions", fraction)
        assert told("bag", task, other) == pytest.approx(0.5, abs=0.03)
        found.append(told("recurrent", task, model))
    assert found[0] < found[1] < found[2]
    assert found[2] >= 0.85
    backwards = order_task(train, test, "reverse", 1.0)
    assert told("bag", backwards, other) == pytest.approx(0.5, abs=0.03)
    assert told("recurrent", backwards, model) >= 0.95
