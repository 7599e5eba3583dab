"""What playlist models learn: to re-emit a playlist, to know its other part, or nothing at all.

Shape suffixes: B playlists, L positions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from features.encode import Histories, encode_histories
from features.errors import InputError
from features.store import Dataset
from recsys.models.interface import HistoryBatch
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq, TwoParts
from recsys.training.batches import epoch_order, rows_between
from recsys.training.config import TrainConfig
from recsys.training.distributed import mean_over_ranks
from recsys.training.negatives import ObjectiveOfStep, objective_of_step
from recsys.training.playlist_config import PartsConfig
from recsys.training.validation import Validation

HELD_OUT_STEP = -1 % 2**32
"""The step whose negatives score held-out playlists, every time the same."""
STREAM = 6
"""Keeps the draws of parts apart from others of the same seed."""
HELD_OUT = 2_000
"""Held-out playlists that are re-emitted in a validation, at most."""

Ints = NDArray[np.int64]


def playlists_of(histories: Histories, max_len: int, least: int) -> Histories:
    """The last `max_len` songs of every history of at least `least`."""
    long = np.flatnonzero(histories.lengths >= least)
    starts = np.maximum(histories.starts[long], histories.ends[long] - max_len)
    return Histories(
        histories.items, histories.timestamps, histories.events, starts, histories.ends[long]
    )


def held_out_playlists(data: Dataset, seed: int, max_len: int) -> Histories:
    """Whole playlists of validation cases, targets included; training saw a part of them at most.

    Songs that training never saw are taken out: nothing can be learned about them, and they seem
    the less likely the more is learned about the others, so that with many of them the first epoch
    would look best. Raises InputError when nothing is left.
    """
    cases = data.cases("validation")
    if not len(cases):
        raise InputError(f"{data.path} has no validation cases: choose a split that keeps some")
    rows = np.random.default_rng(seed).permutation(len(cases))[:HELD_OUT]
    known = data.schema.num_warm_items
    songs = [
        songs[songs <= known]
        for songs in (
            data.items[first:last]
            for first, last in zip(cases.starts[rows], cases.ends[rows], strict=True)
        )
    ]
    whole = playlists_of(Histories.of(songs), max_len, 1)
    if not len(whole):
        raise InputError(f"{data.path}: training saw no song of any validation playlist")
    return whole


def song_counts(histories: Histories, num_items: int) -> Ints:
    """Plays of the songs 0..N, (N + 1,)."""
    _, rows = rows_between(histories.starts, histories.ends)
    return np.bincount(histories.items[rows], minlength=num_items + 1)


@dataclass(frozen=True, slots=True)
class Stream:
    """The endless stream of training playlists of one rank, addressed by step: like lengths."""

    playlists: Histories
    config: TrainConfig
    rank: int
    world_size: int

    @classmethod
    def of(
        cls, fabric: Fabric, config: TrainConfig, data: Dataset, shape: tuple[int, int]
    ) -> "Stream":
        """shape: most and least songs of a playlist. Raises InputError where there is none."""
        playlists = playlists_of(data.training_histories(), *shape)
        if not len(playlists):
            raise InputError(f"{data.path} has no training playlist of {shape[1]} songs or more")
        return cls(playlists, config, fabric.global_rank, fabric.world_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each playlist once, over all ranks."""
        return -(-len(self.playlists) // (self.config.batch_size * self.world_size))

    def from_step(self, step: int) -> Iterator[tuple[int, Histories]]:
        """Step numbers from `step` on, with the playlists of each."""
        size = self.config.batch_size * self.world_size
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            order = epoch_order(self.playlists.lengths, size, self.config.seed, epoch)
            for rows in order[first:]:
                mine = np.resize(rows, max(len(rows), self.world_size))
                yield step, self.playlists.take(mine[self.rank :: self.world_size])
                step += 1


def items_of(playlists: Histories) -> Tensor:
    """(B, L) int64 ids, padded on the right with 0."""
    longest = max(int(playlists.lengths.max(initial=0)), 1)
    return torch.from_numpy(encode_histories(playlists, ("items",), longest)["items"])


@dataclass(frozen=True, slots=True)
class AutoencoderTask:
    """Re-emit every playlist; a `recsys.training.task.Task`.

    Its score is minus the nats a token of held-out playlists, which says how well they are
    re-emitted, and not how good their vectors are.
    """

    stream: Stream
    held_out: Histories
    objective: ObjectiveOfStep
    fabric: Fabric
    score: str = "minus_nats_a_token"

    @classmethod
    def of(
        cls, fabric: Fabric, model: PlaylistSeq2Seq, config: TrainConfig, data: Dataset
    ) -> "AutoencoderTask":
        """The task of this rank. Raises InputError where there is nothing to learn from."""
        stream = Stream.of(fabric, config, data, (model.max_len, 1))
        counts = song_counts(stream.playlists, data.schema.num_items)[1:]
        held_out = held_out_playlists(data, config.seed, model.max_len)
        mine = np.arange(fabric.global_rank, len(held_out), fabric.world_size)
        objective = objective_of_step(config, counts, fabric.device)
        return cls(stream, held_out.take(mine), objective, fabric)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each playlist once, over all ranks."""
        return self.stream.steps_per_epoch

    def batches(self, step: int) -> Iterator[HistoryBatch]:
        """Playlists; the songs to tell are the songs read."""
        for _, playlists in self.stream.from_step(step):
            items = items_of(playlists)
            yield HistoryBatch(items, targets=items)

    def loss(self, model: Any, batch: HistoryBatch, step: int) -> Tensor:
        """Nats a token."""
        if hasattr(model, "mark_forward_method"):
            model.mark_forward_method("reconstruction_loss")
        return model.reconstruction_loss(batch.items, self.objective(step))

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Minus the nats a token of held-out playlists."""
        assert isinstance(model, PlaylistSeq2Seq)
        model.eval()
        order = np.argsort(self.held_out.lengths, kind="stable")
        size, nats, weights = self.stream.config.batch_size, [], []
        with torch.inference_mode(), self.fabric.autocast():
            for first in range(0, len(order), size):
                items = items_of(self.held_out.take(order[first : first + size]))
                objective = self.objective(HELD_OUT_STEP)
                loss = model.reconstruction_loss(items.to(self.fabric.device), objective)
                nats.append(loss.item())
                weights.append(int((items > 0).sum()) + len(items))
        model.train()
        mean = np.average(nats, weights=weights)
        return {self.score: -mean_over_ranks(self.fabric, np.array([mean]))}


@dataclass(frozen=True, slots=True)
class PartsTask:
    """Know the other part of a playlist; a `recsys.training.task.Task`.

    A part is every song with a chance of a half, in order, so that both parts are of one playlist
    and neither is its beginning. Each has at least one song. Score: NDCG@10 of continuation.
    """

    stream: Stream
    settings: PartsConfig
    objective: ObjectiveOfStep
    validation: Validation
    fabric: Fabric
    score: str = "ndcg@10"

    @classmethod
    def of(
        cls, fabric: Fabric, model: PlaylistSeq2Seq, config: TrainConfig, data: Dataset
    ) -> "PartsTask":
        """The task of this rank. Raises InputError where there is nothing to learn from."""
        stream = Stream.of(fabric, config, data, (model.max_len, 2))
        counts = song_counts(stream.playlists, data.schema.num_items)[1:]
        ranks = (fabric.global_rank, fabric.world_size)
        return cls(
            stream,
            config.playlist.parts,
            objective_of_step(config, counts, fabric.device),
            Validation.of(data, config.validation_users, config.seed, ranks),
            fabric,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps that show each playlist once, over all ranks."""
        return self.stream.steps_per_epoch

    def batches(self, step: int) -> Iterator[TwoParts]:
        """Two parts of each playlist; which songs are in which is a function of the step."""
        for number, playlists in self.stream.from_step(step):
            draw = np.random.default_rng(
                [self.stream.config.seed, STREAM, number, self.stream.rank]
            )
            yield two_parts(items_of(playlists).numpy(), draw, self.settings.alike)

    def loss(self, model: Any, batch: TwoParts, step: int) -> Tensor:
        """Contrast and songs, in nats."""
        if hasattr(model, "mark_forward_method"):
            model.mark_forward_method("parts_loss")
        return model.parts_loss(
            batch,
            self.objective(step),
            temperature=self.settings.temperature,
            song_weight=self.settings.song_weight,
        )

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """HR@10 and NDCG@10 of continuation."""
        assert isinstance(model, PlaylistSeq2Seq)
        return self.validation.scores(self.fabric, model)


def two_parts(items_BL: Ints, draw: np.random.Generator, alike: float) -> TwoParts:
    """Deal the songs of each playlist (2 or more) out over two parts."""
    length_B = (items_BL > 0).sum(1)
    chance_BL = draw.random(items_BL.shape)
    chance_BL[items_BL == 0] = np.nan
    first_BL = chance_BL < 0.5
    rows = np.arange(len(items_BL))
    first_BL[rows, np.nanargmin(chance_BL, 1)] = True
    first_BL[rows, np.nanargmax(chance_BL, 1)] = False
    parts = [_compact(items_BL, chosen & (items_BL > 0)) for chosen in (first_BL, ~first_BL)]
    sets = [set(row[:n].tolist()) for row, n in zip(items_BL, length_B.tolist(), strict=True)]
    shared_BB = np.array([[len(a & b) / min(len(a), len(b)) for b in sets] for a in sets])
    return TwoParts(
        parts[0],
        parts[1],
        torch.from_numpy(shared_BB > alike) | torch.eye(len(sets), dtype=torch.bool),
    )


def _compact(items_BL: Ints, chosen_BL: NDArray[np.bool_]) -> Tensor:
    """The chosen songs of each row, moved to the left, in order."""
    count_B = chosen_BL.sum(1)
    result = np.zeros((len(items_BL), int(count_B.max())), np.int64)
    result[np.arange(result.shape[1]) < count_B[:, None]] = items_BL[chosen_BL]
    return torch.from_numpy(result)
