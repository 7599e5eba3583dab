"""The ground truth of the playlist autoencoder and of bags of songs (tests 4 to 7 of its kind)."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys.models.interface import HistoryBatch, ItemBatch
from recsys.models.losses import FullSoftmax, SampledSoftmax
from recsys.models.playlist_bow import SIF_A, PlaylistBow, PlaylistBowConfig
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq, PlaylistSeq2SeqConfig, TwoParts

NUM_SONGS = 40
SHAPES = [*itertools.product(("unidirectional", "gnmt", "bidirectional"), ("gru", "lstm"))]


def model(seed: int = 0, **sizes: Any) -> PlaylistSeq2Seq:
    torch.manual_seed(seed)
    defaults = {"num_items": NUM_SONGS, "dim": 32, "dropout": 0.0, "max_len": 60}
    return PlaylistSeq2Seq(PlaylistSeq2SeqConfig(**{**defaults, **sizes})).eval()


def playlists(count: int, longest: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    items = torch.randint(1, NUM_SONGS + 1, (count, longest), generator=draw)
    lengths = torch.randint(2, longest + 1, (count, 1), generator=draw)
    lengths[0] = longest
    return items * (torch.arange(longest) < lengths)


def bag(**sizes: Any) -> PlaylistBow:
    torch.manual_seed(0)
    found = PlaylistBow(PlaylistBowConfig(num_items=NUM_SONGS, dim=16, **sizes)).eval()
    found.fit_weights(torch.arange(NUM_SONGS + 1).float())
    found.fit_direction(found.pool(playlists(50, 9)))
    return found


@pytest.mark.parametrize(
    ("sizes", "longest", "steps"),
    [
        ({"dim": 64}, 10, 130),
        ({"attention": "general", "dim": 48, "num_layers": 1, "input_feeding": False}, 12, 220),
        ({"attention": "additive", "dim": 64, "num_layers": 1, "cell": "lstm"}, 8, 160),
    ],
    ids=["none", "general", "additive"],
)
def test_32_playlists_are_told_again_without_a_fault(
    sizes: dict[str, Any], longest: int, steps: int
) -> None:
    found, items = model(**sizes), playlists(32, longest)
    optimizer = torch.optim.Adam(found.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        found.reconstruction_loss(items, FullSoftmax()).backward()
        torch.nn.utils.clip_grad_norm_(found.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    told = found.reconstruct(items)
    wanted = [row[row > 0] for row in items]
    assert all(torch.equal(a, b) for a, b in zip(told, wanted, strict=True))


@pytest.mark.parametrize(("shape", "cell"), SHAPES)
def test_padding_and_order_of_a_batch_do_not_matter(shape: str, cell: str) -> None:
    found, items = model(encoder=shape, cell=cell), playlists(9, 12)
    z_BD = found.vectors(items)
    assert torch.equal(found.vectors(F.pad(items, (0, 7))), z_BD)
    order = torch.randperm(9)
    torch.testing.assert_close(found.vectors(items[order]), z_BD[order])


@pytest.mark.parametrize(("shape", "cell"), SHAPES)
def test_a_copy_has_cosine_1_and_the_reverse_less(shape: str, cell: str) -> None:
    found, items = model(encoder=shape, cell=cell), playlists(4, 12)[:1]
    z_D, again_D, back_D = found.vectors(torch.cat([items, items, items.flip(1)]))
    torch.testing.assert_close(z_D @ again_D, torch.tensor(1.0))
    assert z_D @ back_D < 0.9999
    mean = bag(pooling="mean")
    bags_BD = mean.encode_history(HistoryBatch(torch.cat([items, items.flip(1)])))
    torch.testing.assert_close(bags_BD[0] @ bags_BD[1], torch.tensor(1.0))


@pytest.mark.parametrize(("shape", "cell"), SHAPES)
def test_names_of_songs_do_not_matter(shape: str, cell: str) -> None:
    found, renamed = (model(seed, encoder=shape, cell=cell) for seed in (0, 1))
    items = playlists(5, 9)
    renamed.load_state_dict(found.state_dict())
    other = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(NUM_SONGS)])
    with torch.no_grad():
        renamed.song.weight[other] = found.song.weight
    assert torch.equal(renamed.vectors(other[items]), found.vectors(items))


@pytest.mark.parametrize("attention", ["none", "general", "additive"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_step_by_step_equals_all_steps_at_once(attention: str, cell: str) -> None:
    found, items = model(attention=attention, cell=cell, input_feeding=False), playlists(3, 6)
    outputs_BLD, ends = found.read(items, cells=True)
    memory = found.decoder.look(outputs_BLD, items > 0)
    inputs_BTD = found.song(items)
    at_once_BTD = found.decoder(inputs_BTD, found.decoder.start(ends), memory)
    hidden, before, steps = found.decoder.start(ends), torch.zeros(3, 1, 32), []
    for step in range(6):
        one = inputs_BTD[:, step : step + 1]
        before, hidden = found.decoder.step(one, before, hidden, memory)
        steps.append(before)
    torch.testing.assert_close(torch.cat(steps, 1), at_once_BTD)


def test_input_feeding_reads_the_step_before() -> None:
    found, items = model(attention="general"), playlists(3, 6)
    outputs_BLD, ends = found.read(items, cells=True)
    memory, hidden = found.decoder.look(outputs_BLD, items > 0), found.decoder.start(ends)
    one = found.song(items[:, :1])
    states = [found.decoder.step(one, b, hidden, memory)[0] for b in (one * 0, one * 0 + 1)]
    assert not torch.allclose(*states)


def test_attention_looks_at_no_padding() -> None:
    found, items = model(attention="additive"), playlists(3, 6)
    losses = [
        found.reconstruction_loss(one, FullSoftmax()) for one in (items, F.pad(items, (0, 5)))
    ]
    torch.testing.assert_close(losses[0], losses[1])


def test_the_loss_is_nats_a_token_of_songs_and_end() -> None:
    found, items = model(), playlists(1, 5)
    states_TD = found.decoder(
        torch.cat([found.begin.expand(1, 1, -1), found.song(items)], 1),
        found.decoder.start(found.read(items, cells=True)[1]),
        None,
    )[0]
    songs = (states_TD[:5] @ found.output.weight[1:].T).log_softmax(1)
    told = -sum(songs[t, items[0, t] - 1] for t in range(5))
    end_T = found.end(states_TD)[:, 0].sigmoid()
    told = told - (1 - end_T[:5]).log().sum() - end_T[5].log()
    torch.testing.assert_close(found.reconstruction_loss(items, FullSoftmax()), told / 6)


def test_a_sample_of_every_song_gives_the_full_loss() -> None:
    found, items = model(), playlists(4, 7)
    every = SampledSoftmax(torch.arange(1, NUM_SONGS + 1), torch.zeros(NUM_SONGS))
    losses = [found.reconstruction_loss(items, one) for one in (every, FullSoftmax())]
    torch.testing.assert_close(losses[0], losses[1])


def test_alike_playlists_are_no_negatives_of_each_other() -> None:
    found = model()
    first, second = playlists(3, 5), playlists(3, 5, seed=1)
    apart = torch.eye(3, dtype=torch.bool)
    alike = apart.clone()
    alike[0, 1] = alike[1, 0] = True

    def loss(mask: Tensor) -> Tensor:
        parts = TwoParts(first, second, mask)
        return found.parts_loss(parts, FullSoftmax(), temperature=0.1, song_weight=0.0)

    z_BD, other_BD = found.vectors(first), found.vectors(second)
    logits = z_BD @ other_BD.T / 0.1
    target = torch.arange(3)
    plain = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(loss(apart), plain)
    logits = logits.masked_fill(alike & ~apart, -torch.inf)
    masked = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(loss(alike), masked)
    assert masked < plain


def test_songs_that_nothing_is_known_of_keep_their_start() -> None:
    found = model()
    before = found.song.weight.detach().clone()
    given = torch.zeros(NUM_SONGS + 1, 32)
    given[5] = 1.0
    found.start_songs(given)
    assert (found.song.weight[5] == 1).all()
    assert (found.output.weight[5] == 1).all()
    assert torch.equal(found.song.weight[6], before[6])


def test_a_bag_learns_what_follows_as_far_as_a_bag_can() -> None:
    """Its own songs are nearest to it, so that no order can be memorised; the loss still falls."""
    found = bag(pooling="mean")
    items = playlists(6, 8)
    batch = HistoryBatch(items[:, :-1], targets=items[:, 1:])
    optimizer = torch.optim.Adam(found.parameters(), lr=2e-2)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = found.loss(batch, FullSoftmax())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_sif_by_its_definition() -> None:
    found, items = bag(), playlists(50, 9)
    v = found.song.weight.detach().double().numpy()
    share = np.arange(NUM_SONGS + 1) / np.arange(NUM_SONGS + 1).sum()
    u = np.array(
        [np.mean([SIF_A / (SIF_A + share[s]) * v[s] for s in row if s], 0) for row in items.numpy()]
    )
    q = np.linalg.svd(u, full_matrices=False)[2][0]
    z = u - np.outer(u @ q, q)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ours = found.encode_history(HistoryBatch(items)).detach().numpy()
    np.testing.assert_allclose(ours, z, atol=2e-5)


def test_a_query_never_moves_the_removed_direction() -> None:
    found = bag()
    before = found.direction.clone()
    found.encode_history(HistoryBatch(playlists(5, 4, seed=3)))
    assert torch.equal(found.direction, before)
    one = found.encode_items(ItemBatch(torch.tensor([7])))
    torch.testing.assert_close(one, found.encode_history(HistoryBatch(torch.tensor([[7, 0]]))))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"dim": 7}, "must be even"),
        ({"num_layers": 0}, "too few"),
        ({"encoder": "gnmt", "num_layers": 1}, "too few"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PlaylistSeq2SeqConfig(num_items=3, **sizes)
