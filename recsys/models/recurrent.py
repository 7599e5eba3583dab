"""Recurrent encoders without packing: sequences padded on the right, read at the last event.

Three shapes (Papreja et al. 2019, after OpenNMT and Wu et al. 2016, arXiv:1609.08144):

    unidirectional   a stack that reads onward
    gnmt             the first layer reads both ways, half the width each; the layers above it read
                     onward and add their input to their output
    bidirectional    every layer reads both ways, half the width each, concatenated

A packed sequence does not survive the ONNX exporter. Reading onward, padding comes after the last
event and cannot change the state there; reading back, the events are first turned around by index,
so that it comes last again. The exporter would unroll torch's own operators over as many steps as
its example has, so a graph is made of `recsys::gru` and `recsys::lstm`: the same functions as one
operator each, which `recsys.export.recurrent` translates. Departure: OpenNMT adds the directions of
a deep bidirectional encoder by default; the authors say they concatenate.

Shape suffixes: B sequences, L positions, D width.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recsys.models.layers import Dropout, at

Cell = Literal["gru", "lstm"]
EncoderShape = Literal["unidirectional", "gnmt", "bidirectional"]
CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}
State = tuple[Tensor, Tensor | None]
"""Of one layer after the last event: h (B, D), and c (B, D) of an LSTM where it was asked for."""


def _run(cell: Cell, x_BLD: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """All outputs of one layer that starts from zero, (B, L, D)."""
    start_1BD = x_BLD.new_zeros(1, x_BLD.size(0), weights[1].size(1))
    options = (list(weights), True, 1, 0.0, False, False, True)
    if cell == "gru":
        return torch.gru(x_BLD, start_1BD, *options)[0]
    return torch.lstm(x_BLD, [start_1BD, start_1BD], *options)[0]


@torch.library.custom_op("recsys::gru", mutates_args=())
def gru(x_BLD: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One layer of GRU from zero, (B, L, D); the weights of `nn.GRU` in their order."""
    return _run("gru", x_BLD, (w, u, b, c))


@torch.library.custom_op("recsys::lstm", mutates_args=())
def lstm(x_BLD: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One layer of LSTM from zero, (B, L, D); the weights of `nn.LSTM` in their order."""
    return _run("lstm", x_BLD, (w, u, b, c))


@gru.register_fake
@lstm.register_fake
def _shape_of(x_BLD: Tensor, w: Tensor, u: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return x_BLD.new_empty(x_BLD.size(0), x_BLD.size(1), u.size(1))


def turned(values_BLD: Tensor, last_B: Tensor) -> Tensor:
    """The events of each sequence in reverse order; what stands in the padding is of no meaning.

    last_B: position of the last event. Turning twice gives the events back.
    """
    place_L = torch.arange(values_BLD.size(1), device=values_BLD.device)
    place_BL = (last_B[:, None] - place_L).clamp(min=0)
    return values_BLD.gather(1, place_BL[..., None].expand(-1, -1, values_BLD.size(2)))


def read(layers: nn.GRU | nn.LSTM, x_BLD: Tensor) -> Tensor:
    """Outputs (B, L, D) of the top layer, from zero; in a graph, one operator a layer."""
    if not torch.compiler.is_exporting():
        return layers(x_BLD)[0]
    layer = gru if isinstance(layers, nn.GRU) else lstm
    for weights in layers.all_weights:
        x_BLD = layer(x_BLD, *weights)
    return x_BLD


class Direction(nn.Module):
    """One layer read in one direction."""

    def __init__(self, cell: Cell, size_in: int, size_out: int, *, back: bool = False) -> None:
        super().__init__()
        self.rnn = CELLS[cell](size_in, size_out, batch_first=True)
        self.back = back

    def forward(self, x_BLD: Tensor, last_B: Tensor, *, cells: bool) -> tuple[Tensor, State]:
        """Outputs (B, L, D) in the order of the input, and the state after the last event read.

        cells: of an LSTM also c, which only a packed sequence gives: for training.
        """
        if self.back:
            x_BLD = turned(x_BLD, last_B)
        if cells and isinstance(self.rnn, nn.LSTM):
            states_BLD, end = self._packed(x_BLD, last_B)
        else:
            states_BLD = read(self.rnn, x_BLD)
            end = (at(states_BLD, last_B), None)
        return (turned(states_BLD, last_B) if self.back else states_BLD), end

    def _packed(self, x_BLD: Tensor, last_B: Tensor) -> tuple[Tensor, State]:
        lengths_B = (last_B + 1).cpu()
        packed = pack_padded_sequence(x_BLD, lengths_B, batch_first=True, enforce_sorted=False)
        states, (h_1BD, c_1BD) = self.rnn(packed)
        states_BLD, _ = pad_packed_sequence(states, batch_first=True, total_length=x_BLD.size(1))
        return states_BLD, (h_1BD[0], c_1BD[0])


class BothWays(nn.Module):
    """One layer read onward and back, half the width each."""

    def __init__(self, cell: Cell, size_in: int, size_out: int) -> None:
        super().__init__()
        self.onward = Direction(cell, size_in, size_out // 2)
        self.backward_ = Direction(cell, size_in, size_out // 2, back=True)

    def forward(self, x_BLD: Tensor, last_B: Tensor, *, cells: bool) -> tuple[Tensor, State]:
        """As `Direction`: outputs and ends of the two concatenated."""
        one_BLD, (h_BD, c_BD) = self.onward(x_BLD, last_B, cells=cells)
        other_BLD, (back_h_BD, back_c_BD) = self.backward_(x_BLD, last_B, cells=cells)
        both_c_BD = None if c_BD is None else torch.cat([c_BD, back_c_BD], 1)
        return torch.cat([one_BLD, other_BLD], 2), (torch.cat([h_BD, back_h_BD], 1), both_c_BD)


class RecurrentEncoder(nn.Module):
    """A stack of layers of one width."""

    def __init__(
        self, shape: EncoderShape, cell: Cell, dim: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        both = {"unidirectional": 0, "gnmt": 1, "bidirectional": num_layers}[shape]
        self.layers = nn.ModuleList(
            BothWays(cell, dim, dim) if layer < both else Direction(cell, dim, dim)
            for layer in range(num_layers)
        )
        self.residual = shape == "gnmt"
        self.dropout = Dropout(dropout)

    def forward(
        self, x_BLD: Tensor, last_B: Tensor, *, cells: bool = False
    ) -> tuple[Tensor, list[State]]:
        """Outputs of the top layer (B, L, D), and the end of every layer, lowest first."""
        ends = []
        for number, layer in enumerate(self.layers):
            given_BLD = self.dropout(x_BLD) if number else x_BLD
            x_BLD, end = layer(given_BLD, last_B, cells=cells)
            if self.residual and number:
                x_BLD = x_BLD + given_BLD
            ends.append(end)
        return x_BLD, ends
