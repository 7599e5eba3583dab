"""How the recurrent operators of `recsys.models.recurrent` read in ONNX: as GRU and LSTM.

Torch and ONNX order the gates differently: r, z, n and z, r, n in a GRU; i, f, g, o and i, o, f, g
(there called i, o, f, c) in an LSTM.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnxscript import opset18

import recsys.models.recurrent  # noqa: F401 (registers the operators)

op: Any = opset18
"""Untyped: onnxscript declares every value as one that may be None."""
GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2)}
"""Torch's number of each gate, in the order of ONNX."""


def _ordered(weights: Any, order: Sequence[int], size: int) -> Any:
    """Rows of a weight or bias (gates * size, ...), gate by gate in the order of ONNX."""
    parts = [
        op.Slice(
            weights,
            op.Constant(value_ints=[gate * size]),
            op.Constant(value_ints=[(gate + 1) * size]),
            op.Constant(value_ints=[0]),
        )
        for gate in order
    ]
    return op.Concat(*parts, axis=0)


def _one_direction(kind: str, x_BLD: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
    size, order = int(u.shape[1]), GATES[kind]
    first = op.Constant(value_ints=[0])
    w_1GD = op.Unsqueeze(_ordered(w, order, size), first)
    u_1GD = op.Unsqueeze(_ordered(u, order, size), first)
    both = op.Concat(_ordered(b, order, size), _ordered(c, order, size), axis=0)
    b_1G = op.Unsqueeze(both, first)
    x_LBD = op.Transpose(x_BLD, perm=[1, 0, 2])
    if kind == "gru":  # torch applies the reset gate after the product, as linear_before_reset does
        y_L1BD, _ = op.GRU(x_LBD, w_1GD, u_1GD, b_1G, hidden_size=size, linear_before_reset=1)
    else:
        y_L1BD, _, _ = op.LSTM(x_LBD, w_1GD, u_1GD, b_1G, hidden_size=size)
    return op.Transpose(op.Squeeze(y_L1BD, op.Constant(value_ints=[1])), perm=[1, 0, 2])


def gru_to_onnx(x_BLD: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
    """`recsys::gru` as ONNX's GRU."""
    return _one_direction("gru", x_BLD, w, u, b, c)


def lstm_to_onnx(x_BLD: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
    """`recsys::lstm` as ONNX's LSTM."""
    return _one_direction("lstm", x_BLD, w, u, b, c)


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.recsys.gru.default: gru_to_onnx,
    torch.ops.recsys.lstm.default: lstm_to_onnx,
}
"""For `torch.onnx.export(custom_translation_table=...)`."""
