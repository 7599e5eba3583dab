"""Songs a second of the playlist autoencoder beside torch's packed GRU, and nearest playlists.

    python benchmarks/playlist_speed.py train      both take turns; medians over rounds
    python benchmarks/playlist_speed.py nearest    1 M playlists of 128 numbers, one core

Times are of the processor, on one thread: the machine may be busy with other work.

The reference is what one would write with `nn.GRU` alone: packed sequences in encoder and decoder
(both ways where the encoder is), the same sizes, tables, sampled softmax, optimizer and batches.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from recsys.models.losses import SampledSoftmax
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq, PlaylistSeq2SeqConfig
from recsys.training.batches import epoch_order

NUM_SONGS, DIM, BATCH, NEGATIVES = 20_000, 128, 64, 1_000
ROUNDS, STEPS = 4, 4


class PackedAutoencoder(nn.Module):
    """The same autoencoder on packed sequences."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.song, self.output = (nn.Embedding(NUM_SONGS + 1, DIM) for _ in range(2))
        size = DIM // 2 if both else DIM
        self.encoder = nn.GRU(DIM, size, 2, bidirectional=both, batch_first=True)
        self.decoder = nn.GRU(DIM, DIM, 2, batch_first=True)
        self.begin, self.end = nn.Parameter(torch.zeros(DIM)), nn.Linear(DIM, 1)
        self.both = both

    def reconstruction_loss(self, items_BL: Tensor, objective: SampledSoftmax) -> Tensor:
        length_B = (items_BL > 0).sum(1)
        songs_BLD = self.song(items_BL)
        packed = pack_padded_sequence(songs_BLD, length_B, batch_first=True, enforce_sorted=False)
        _, ends = self.encoder(packed)
        if self.both:
            ends = ends.view(2, 2, -1, DIM // 2).transpose(1, 2).reshape(2, -1, DIM)
        begin = self.begin.expand(len(items_BL), 1, -1)
        inputs = torch.cat([begin, songs_BLD], 1)
        packed = pack_padded_sequence(inputs, length_B + 1, batch_first=True, enforce_sorted=False)
        states, _ = self.decoder(packed, ends)
        targets = torch.cat([items_BL, items_BL.new_zeros(len(items_BL), 1)], 1)
        told: PackedSequence = pack_padded_sequence(
            targets, length_B + 1, batch_first=True, enforce_sorted=False
        )
        ended = F.binary_cross_entropy_with_logits(
            self.end(states.data).squeeze(1), (told.data == 0).float(), reduction="sum"
        )
        rows = told.data > 0
        song = objective(states.data[rows], told.data[rows], self.output.weight)
        return (song * rows.sum() + ended) / len(rows)


def batches(draw: np.random.Generator) -> list[Tensor]:
    """Playlists of 10 to 250 songs (log-normal, median 60), like lengths together."""
    lengths = np.clip(np.exp(draw.normal(np.log(60), 0.7, 4_000)), 10, 250).astype(np.int64)
    found = []
    for rows in epoch_order(lengths, BATCH, 0, 0)[:STEPS]:
        items = draw.integers(1, NUM_SONGS + 1, (len(rows), lengths[rows].max()))
        items *= np.arange(items.shape[1]) < lengths[rows][:, None]
        found.append(torch.from_numpy(items))
    return found


def songs_a_second(model: nn.Module, given: list[Tensor]) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    objective = SampledSoftmax(torch.arange(1, NEGATIVES + 1), torch.zeros(NEGATIVES))
    started = time.process_time()
    for items in given:
        optimizer.zero_grad()
        model.reconstruction_loss(items, objective).backward()
        optimizer.step()
    return sum(int((items > 0).sum()) for items in given) / (time.process_time() - started)


def train() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    given = batches(np.random.default_rng(0))
    padded = sum(items.numel() for items in given) / sum(int((i > 0).sum()) for i in given)
    print(f"{torch.get_num_threads()} threads, {padded:.2f} positions a song")
    for shape in ("unidirectional", "bidirectional"):
        config = PlaylistSeq2SeqConfig(num_items=NUM_SONGS, dim=DIM, encoder=shape, dropout=0.0)
        ours = PlaylistSeq2Seq(config)
        reference = PackedAutoencoder(both=shape == "bidirectional")
        speeds: dict[str, list[float]] = {"ours": [], "packed": []}
        for _ in range(ROUNDS):
            speeds["ours"].append(songs_a_second(ours, given))
            speeds["packed"].append(songs_a_second(reference, given))
        ratios = [a / b for a, b in zip(speeds["ours"], speeds["packed"], strict=True)]
        print(
            f"{shape}: ours {statistics.median(speeds['ours']):,.0f} songs/s, packed nn.GRU "
            f"{statistics.median(speeds['packed']):,.0f}, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds)"
        )


def nearest() -> None:
    from features.encode import Histories
    from serving.block import Block
    from serving.index import build_index
    from serving.policy import Policy

    count, dim, k = 1_000_000, 128, 10
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(2_000, dim)).astype(np.float32)
    vectors = np.zeros((count + 1, dim), np.float16)
    for start in range(1, count + 1, 100_000):
        part = centres[draw.integers(0, 2_000, 100_000)]
        part = part + draw.normal(size=part.shape).astype(np.float32)
        vectors[start : start + 100_000] = part / np.linalg.norm(part, axis=1, keepdims=True)
    queries = vectors[draw.integers(1, count, 200)].astype(np.float32)
    queries += 0.05 * draw.normal(size=queries.shape).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    started = time.process_time()
    index = build_index(vectors)
    print(f"index {index.description} of {count:,} in {time.process_time() - started:.1f} s")
    block = Block.of(Histories.of([[]]), np.zeros(1, np.int64), count)
    policy = Policy(exclude_seen=False)

    def ask(query: np.ndarray) -> np.ndarray:
        return index.search(query[None], block, policy, k).items[0]

    times, hits = timed(ask, queries), 0
    for query in queries[:40]:
        scores = np.concatenate(
            [vectors[s : s + 100_000].astype(np.float32) @ query for s in range(0, count, 100_000)]
        )
        exact = np.argpartition(-scores, k)[:k]
        hits += len(set(exact.tolist()) & set(ask(query).tolist()))
    print(
        f"nearest {k} of {count:,}: median {np.median(times):.2f} ms of processor time, p99 "
        f"{np.quantile(times, 0.99):.2f} ms over {len(times)} queries, recall {hits / 40 / k:.3f}"
    )


def timed(ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> list[float]:
    times = []
    for query in queries:
        started = time.process_time()
        ask(query)
        times.append(1e3 * (time.process_time() - started))
    return times


if __name__ == "__main__":
    {"train": train, "nearest": nearest}[sys.argv[1]]()
