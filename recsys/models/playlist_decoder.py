"""The half of a sequence autoencoder that re-emits the sequence, with attention or without.

    d_t = RNN([E[s_t-1]; d~_t-1], d_t-1),   d_0 = the encoder's end, layer by layer
    general     a_tj = softmax_j(d_t' W o_j)                     (Luong et al. 2015)
    additive    a_tj = softmax_j(v' tanh(W_d d_t + W_o o_j))     (Bahdanau et al. 2015)
    d~_t = tanh(W_c [sum_j a_tj o_j ; d_t])

Without attention d~_t = d_t, and d~ is not fed back: the RNN then runs over all steps at once.

Shape suffixes: B playlists, T steps of the decoder, L positions of the encoder, D width.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recsys.models.layers import Dropout
from recsys.models.recurrent import CELLS, Cell, State

AttentionKind = Literal["none", "general", "additive"]
Hidden = Tensor | tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Which of the encoder's outputs a step looks at, and what it makes of them."""

    def __init__(self, kind: AttentionKind, dim: int) -> None:
        super().__init__()
        self.kind = kind
        self.memory = nn.Linear(dim, dim, bias=False)
        self.merge = nn.Linear(2 * dim, dim, bias=False)
        if kind == "additive":
            self.query, self.weigh = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)

    def forward(
        self, d_BTD: Tensor, keys_BLD: Tensor, outputs_BLD: Tensor, real_BL: Tensor
    ) -> Tensor:
        """d~, (B, T, D). keys_BLD: `memory` of the outputs."""
        if self.kind == "general":
            scores_BTL = d_BTD @ keys_BLD.transpose(1, 2)
        else:
            mixed_BTLD = torch.tanh(self.query(d_BTD)[:, :, None] + keys_BLD[:, None])
            scores_BTL = self.weigh(mixed_BTLD).squeeze(-1)
        scores_BTL = scores_BTL.masked_fill(~real_BL[:, None], -1e9)  # finite: an empty playlist
        context_BTD = scores_BTL.softmax(-1) @ outputs_BLD
        return torch.tanh(self.merge(torch.cat([context_BTD, d_BTD], -1)))


class Memory:
    """What a decoder reads of the encoder: the outputs (B, L, D), and which positions are real."""

    def __init__(self, attention: Attention, outputs_BLD: Tensor, real_BL: Tensor) -> None:
        self.attention, self.outputs_BLD, self.real_BL = attention, outputs_BLD, real_BL
        self.keys_BLD = attention.memory(outputs_BLD)

    def attend(self, d_BTD: Tensor) -> Tensor:
        """d~, (B, T, D)."""
        return self.attention(d_BTD, self.keys_BLD, self.outputs_BLD, self.real_BL)


class Decoder(nn.Module):
    """States from which the next song is told."""

    def __init__(
        self,
        cell: Cell,
        dim: int,
        num_layers: int,
        attention: AttentionKind,
        dropout: float,
        *,
        input_feeding: bool,
    ) -> None:
        super().__init__()
        self.attention = None if attention == "none" else Attention(attention, dim)
        self.input_feeding = input_feeding and self.attention is not None
        size_in = 2 * dim if self.input_feeding else dim
        between = dropout if num_layers > 1 else 0.0
        options: dict[str, Any] = {"batch_first": True, "dropout": between}
        self.rnn = CELLS[cell](size_in, dim, num_layers, **options)
        self.dropout = Dropout(dropout)

    def start(self, ends: Sequence[State]) -> Hidden:
        """The first state: the encoder's ends, (layers, B, D)."""
        h_NBD = torch.stack([h for h, _ in ends])
        if not isinstance(self.rnn, nn.LSTM):
            return h_NBD
        cells = [c for _, c in ends if c is not None]
        assert len(cells) == len(ends), "the encoder of an LSTM decoder was asked for its cells"
        return h_NBD, torch.stack(cells)

    def look(self, outputs_BLD: Tensor, real_BL: Tensor) -> Memory | None:
        """What attention reads; None without."""
        return None if self.attention is None else Memory(self.attention, outputs_BLD, real_BL)

    def forward(self, inputs_BTD: Tensor, hidden: Hidden, memory: Memory | None) -> Tensor:
        """d~ of every step, (B, T, D), given the songs before each (teacher forcing)."""
        if memory is None:
            return self.dropout(self.rnn(inputs_BTD, hidden)[0])
        if not self.input_feeding:
            return self.dropout(memory.attend(self.rnn(inputs_BTD, hidden)[0]))
        states, before_B1D = [], torch.zeros_like(inputs_BTD[:, :1])
        for step in range(inputs_BTD.size(1)):
            before_B1D, hidden = self.step(
                inputs_BTD[:, step : step + 1], before_B1D, hidden, memory
            )
            states.append(before_B1D)
        return self.dropout(torch.cat(states, 1))

    def step(
        self, input_B1D: Tensor, before_B1D: Tensor, hidden: Hidden, memory: Memory | None
    ) -> tuple[Tensor, Hidden]:
        """d~ of one step, (B, 1, D), and the state after it. before_B1D: d~ of the step before."""
        if self.input_feeding:
            input_B1D = torch.cat([input_B1D, before_B1D], -1)
        d_B1D, hidden = self.rnn(input_B1D, hidden)
        return (d_B1D if memory is None else memory.attend(d_B1D)), hidden
