"""Playlist seq2seq, playlist2vec (Papreja, Venkateswara & Panchanathan 2019, arXiv:1907.01098).

A sequence autoencoder reads a playlist and re-emits it; the encoder's last state z is its vector.
The same encoder can then be tuned on two parts of one playlist, or on what follows.

Departures, where the paper's text or code could be found: the end of a playlist is a decision of
its own beside the choice of a song, P(end) and (1 - P(end)) P(song), the same distribution as an
end token would give, so that any objective over songs applies; no unknown-song token (a dataset
numbers every song). Ours, where nothing is known: attention is off by default, because the decoder
then copies and z carries less (measured in docs/results/playlists.md); z has length 1.

Shape suffixes: B playlists, L positions, T steps, D width, M songs, V song ids with padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models.interface import HistoryBatch, ItemBatch, Retriever
from recsys.models.layers import Dropout
from recsys.models.losses import Objective
from recsys.models.playlist_decoder import AttentionKind, Decoder
from recsys.models.recurrent import Cell, EncoderShape, RecurrentEncoder, State

INIT = 0.1
"""Weights start uniform in +-INIT, as in OpenNMT and tensorflow/nmt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistSeq2SeqConfig:
    """Sizes of one playlist autoencoder; the paper's widths are 500, 750 and 1000."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_items: int
    max_len: int = 250
    """Longest playlist, in songs; of a longer one the last."""
    dim: int = 128
    """Of songs, of every layer and of z; even."""
    encoder: EncoderShape = "unidirectional"
    cell: Cell = "gru"
    num_layers: int = 2
    attention: AttentionKind = "none"
    """none for vectors to compare and recommend with: with it, z need not carry the content."""
    input_feeding: bool = True
    """With attention: d~ of a step is input of the next, which then run one after the other."""
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.dim % 2 or self.dim < 2:
            raise ValueError(f"dim={self.dim} must be even: the directions share it")
        if self.num_layers < 1 or (self.encoder == "gnmt" and self.num_layers < 2):
            raise ValueError(
                f"num_layers={self.num_layers} is too few: 1 at least, 2 for encoder='gnmt'"
            )


@dataclass(frozen=True, slots=True)
class TwoParts:
    """Two parts of each of B playlists, (B, L) and (B, T) song ids, padded on the right with 0.

    alike: (B, B) bool, pairs of playlists so much alike that they are no negatives of each other
    (the diagonal is True).
    """

    first: Tensor
    second: Tensor
    alike: Tensor

    @property
    def num_targets(self) -> int:
        """Songs to find."""
        return int((self.second > 0).sum())

    def to(self, device: torch.device) -> "TwoParts":
        """The same on `device`."""
        return TwoParts(self.first.to(device), self.second.to(device), self.alike.to(device))


class PlaylistSeq2Seq(Retriever):
    """z by inner product with songs' vectors, or with the z of other playlists (their cosine)."""

    history_inputs = ("items",)

    def __init__(self, config: PlaylistSeq2SeqConfig) -> None:
        super().__init__()
        self.max_len, self.dim, self.shape = config.max_len, config.dim, config.encoder
        self.song = nn.Embedding(config.num_items + 1, config.dim, padding_idx=0)
        self.output = nn.Embedding(config.num_items + 1, config.dim)
        self.begin = nn.Parameter(torch.empty(config.dim))
        self.end = nn.Linear(config.dim, 1)
        sizes = (config.cell, config.dim, config.num_layers)
        self.encoder = RecurrentEncoder(config.encoder, *sizes, config.dropout)
        self.decoder = Decoder(
            *sizes, config.attention, config.dropout, input_feeding=config.input_feeding
        )
        self.dropout = Dropout(config.dropout)
        for weight in self.parameters():
            nn.init.uniform_(weight, -INIT, INIT)
        with torch.no_grad():
            self.song.weight[0].zero_()

    def start_songs(self, vectors_VD: Tensor) -> None:
        """Both song tables start from given vectors, such as skip-gram's; zero rows keep theirs."""
        known_V1 = (vectors_VD != 0).any(1, keepdim=True)
        for table in (self.song, self.output):
            with torch.no_grad():
                table.weight.copy_(torch.where(known_V1, vectors_VD, table.weight))

    def read(self, items_BL: Tensor, *, cells: bool = False) -> tuple[Tensor, list[State]]:
        """Outputs of the encoder (B, L, D) and the end of every layer."""
        last_B = ((items_BL > 0).sum(1) - 1).clamp(min=0)
        return self.encoder(self.dropout(self.song(items_BL)), last_B, cells=cells)

    def vectors(self, items_BL: Tensor) -> Tensor:
        """The z of length 1, (B, D): the top layer's end."""
        return F.normalize(self.read(items_BL)[1][-1][0], dim=1)

    def encode_history(self, batch: HistoryBatch) -> Tensor:
        """z, (B, D)."""
        return self.vectors(batch.items)

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Rows of the output table, (N, D): they fit z once it was tuned to find songs."""
        return self.output(items.ids)

    def loss(self, batch: HistoryBatch, objective: Objective) -> Tensor:
        """Next songs: z of the songs up to each position, against the target there."""
        assert batch.targets is not None, "a training batch has targets"
        row_M, place_M = batch.targets.nonzero(as_tuple=True)
        if self.shape == "unidirectional":
            states_MD = self.read(batch.items)[0][row_M, place_M]
            z_MD = F.normalize(states_MD, dim=1)
        else:  # what is read back from the end of a part cannot be shared with a longer part
            place_L = torch.arange(batch.items.size(1), device=place_M.device)
            z_MD = self.vectors(batch.items[row_M] * (place_L <= place_M[:, None]))
        return objective(z_MD, batch.targets[row_M, place_M], self.output.weight)

    def reconstruction_loss(self, items_BL: Tensor, objective: Objective) -> Tensor:
        """Nats a token of re-emitting the playlists: every song, and the end after the last."""
        outputs_BLD, ends = self.read(items_BL, cells=True)
        real_BL = items_BL > 0
        memory = self.decoder.look(outputs_BLD, real_BL)
        begin_B1D = self.begin.expand(len(items_BL), 1, -1)
        inputs_BTD = torch.cat([begin_B1D, self.dropout(self.song(items_BL))], 1)
        states_BTD = self.decoder(inputs_BTD, self.decoder.start(ends), memory)
        length_B1 = real_BL.sum(1, keepdim=True)
        step_T = torch.arange(states_BTD.size(1), device=items_BL.device)
        told_BT = step_T <= length_B1
        end_BT = self.end(states_BTD).squeeze(-1)
        ended = F.binary_cross_entropy_with_logits(
            end_BT[told_BT], (step_T == length_B1)[told_BT].to(end_BT.dtype), reduction="sum"
        )
        songs_M = items_BL[real_BL]
        song = objective(states_BTD[:, :-1][real_BL], songs_M, self.output.weight)
        return (song * len(songs_M) + ended) / told_BT.sum()

    def parts_loss(
        self, parts: TwoParts, objective: Objective, *, temperature: float, song_weight: float
    ) -> Tensor:
        """Tell the other part of the same playlist from those of others, and find its songs, nats.

        InfoNCE both ways over cosines / temperature, + song_weight * objective(z of the first part,
        each song of the second).
        """
        first_BD, second_BD = self.vectors(parts.first), self.vectors(parts.second)
        own = torch.eye(len(first_BD), dtype=torch.bool, device=first_BD.device)
        logits_BB = first_BD @ second_BD.T / temperature
        logits_BB = logits_BB.masked_fill(parts.alike & ~own, float("-inf"))
        target_B = torch.arange(len(logits_BB), device=logits_BB.device)
        contrast = F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)
        row_M, place_M = parts.second.nonzero(as_tuple=True)
        found = objective(first_BD[row_M], parts.second[row_M, place_M], self.output.weight)
        return contrast / 2 + song_weight * found

    @torch.no_grad()
    def reconstruct(self, items_BL: Tensor) -> Sequence[Tensor]:
        """The playlists as the decoder tells them, song ids (n,) each, at every step the best."""
        outputs_BLD, ends = self.read(items_BL, cells=True)
        memory, hidden = self.decoder.look(outputs_BLD, items_BL > 0), self.decoder.start(ends)
        input_B1D = self.begin.expand(len(items_BL), 1, -1)
        before_B1D = torch.zeros_like(input_B1D)
        open_B = torch.ones(len(items_BL), dtype=torch.bool, device=items_BL.device)
        told = []
        while open_B.any() and len(told) < self.max_len:
            before_B1D, hidden = self.decoder.step(input_B1D, before_B1D, hidden, memory)
            open_B = open_B & (self.end(before_B1D)[:, 0, 0] < 0)
            song_B = 1 + (before_B1D[:, 0] @ self.output.weight[1:].T).argmax(1)
            told.append(song_B * open_B)
            input_B1D = self.song(song_B)[:, None]
        told_BT = torch.stack(told, 1)
        return [row[row > 0] for row in told_BT]
