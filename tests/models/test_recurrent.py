"""Encoders without packing against torch's packed ones, with the same weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recsys.models.recurrent import (
    CELLS,
    BothWays,
    Cell,
    Direction,
    EncoderShape,
    RecurrentEncoder,
    turned,
)

LENGTHS = torch.tensor([7, 1, 4])


def inputs(width: int = 6, extra: int = 0) -> Tensor:
    torch.manual_seed(1)
    x_BLD = torch.randn(3, 7, width)
    x_BLD = x_BLD * (torch.arange(7)[None, :, None] < LENGTHS[:, None, None])
    return torch.nn.functional.pad(x_BLD, (0, 0, 0, extra))


def packed(rnn: nn.RNNBase, x_BLD: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and the last h of each direction side by side, as torch gives them."""
    given = pack_padded_sequence(x_BLD, LENGTHS, batch_first=True, enforce_sorted=False)
    states, ends = rnn(given)
    h = ends[0] if isinstance(rnn, nn.LSTM) else ends
    return pad_packed_sequence(states, batch_first=True)[0], torch.cat([*h], 1)


def copied(layer: BothWays, rnn: nn.RNNBase) -> None:
    """Give a layer the weights of a packed bidirectional one."""
    for direction, suffix in ((layer.onward, ""), (layer.backward_, "_reverse")):
        for name, weight in direction.rnn.named_parameters():
            weight.data.copy_(getattr(rnn, name + suffix))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("cells", [False, True])
def test_both_ways_equal_a_packed_bidirectional_layer(cell: Cell, cells: bool) -> None:
    torch.manual_seed(0)
    layer = BothWays(cell, 6, 8)
    rnn = CELLS[cell](6, 4, batch_first=True, bidirectional=True)
    copied(layer, rnn)
    outputs_BLD, (h_BD, c_BD) = layer(inputs(), LENGTHS - 1, cells=cells)
    wanted_BLD, wanted_BD = packed(rnn, inputs())
    real = torch.arange(7) < LENGTHS[:, None]
    torch.testing.assert_close(outputs_BLD[real], wanted_BLD[real])
    torch.testing.assert_close(h_BD, wanted_BD)
    assert (c_BD is not None) == (cells and cell == "lstm")


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_one_direction_equals_a_packed_layer(cell: Cell) -> None:
    torch.manual_seed(0)
    layer = Direction(cell, 6, 5)
    _, (h_BD, _) = layer(inputs(), LENGTHS - 1, cells=False)
    torch.testing.assert_close(h_BD, packed(layer.rnn, inputs())[1])


@pytest.mark.parametrize("shape", ["unidirectional", "gnmt", "bidirectional"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_more_padding_changes_no_bit(shape: EncoderShape, cell: Cell) -> None:
    torch.manual_seed(0)
    encoder = RecurrentEncoder(shape, cell, 6, 2, 0.0)
    for cells in (False, True):
        first = encoder(inputs(), LENGTHS - 1, cells=cells)[1]
        second = encoder(inputs(extra=9), LENGTHS - 1, cells=cells)[1]
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))


def test_what_is_turned_twice_is_as_it_was() -> None:
    real = torch.arange(7) < LENGTHS[:, None]
    again = turned(turned(inputs(), LENGTHS - 1), LENGTHS - 1)
    assert torch.equal(again[real], inputs()[real])
    assert torch.equal(turned(inputs(), LENGTHS - 1)[0], inputs()[0].flip(0))


def test_gnmt_adds_its_input_above_the_first_layer() -> None:
    torch.manual_seed(0)
    encoder = RecurrentEncoder("gnmt", "gru", 6, 2, 0.0)
    first_BLD, _ = encoder.layers[0](inputs(), LENGTHS - 1, cells=False)
    second_BLD, _ = encoder.layers[1](first_BLD, LENGTHS - 1, cells=False)
    torch.testing.assert_close(encoder(inputs(), LENGTHS - 1)[0], first_BLD + second_BLD)
