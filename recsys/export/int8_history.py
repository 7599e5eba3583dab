"""A history encoder with int8 weights: a quarter of the bytes and less time, behind a gate.

Dynamic quantisation (weights int8 a channel, activations a batch) of products and tables by
onnxruntime. Items are still compared at half precision. The gate: of the exact top k of the float32
graph, on held-out histories, at least `ENOUGH` must stay; otherwise nothing is published.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from features.encode import Histories, encode_histories
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.manifest import ModelSpec, Quantized
from serving.topk import top_k

K, ENOUGH = 100, 0.97
"""Top items compared, and the mean share of them that must stay."""
HISTORIES = 500
"""Asked, at most."""


def quantize_history_encoder(
    path: Path,
    spec: ModelSpec,
    item_table: Mapping[str, NDArray],
    vectors_VD: NDArray[np.float32],
    histories: Histories,
) -> Quantized:
    """Replace the graph by one with int8 weights, and tell what that changes. Raises BundleError
    where it changes too much, and then leaves the graph as it was.
    """
    rows = np.flatnonzero(histories.ends > histories.starts)
    rows = rows[np.linspace(0, len(rows) - 1, min(HISTORIES, len(rows))).astype(np.int64)]
    asked = histories.take(rows)
    with TemporaryDirectory() as scratch:
        small = Path(scratch) / "int8.onnx"
        write_int8(path, small)
        before_BD = _encode(path, spec, item_table, asked)
        after_BD = _encode(small, spec, item_table, asked)
        content = small.read_bytes()
    k = min(K, len(vectors_VD) - 1)
    pairs = zip(_best(vectors_VD, before_BD, k), _best(vectors_VD, after_BD, k), strict=True)
    overlap = float(np.mean([np.isin(a, b).mean() for a, b in pairs])) if len(asked) else 0.0
    if not overlap >= ENOUGH:
        raise BundleError(
            f"with int8 weights only {overlap:.3f} of the top {k} stay for {len(asked)} held-out "
            f'histories, at least {ENOUGH} are asked: export with encoder_precision = "float32"'
        )
    path.write_bytes(content)
    return Quantized(
        histories=len(asked),
        k=k,
        overlap=overlap,
        max_abs_difference=float(np.abs(after_BD - before_BD).max()),
        scale=float(np.abs(before_BD).max()),
    )


def write_int8(path: Path, out: Path) -> None:
    """The graph of `path` with int8 weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - seconds
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    inferred = out.with_name("inferred.onnx")
    quant_pre_process(str(path), str(inferred), skip_symbolic_shape=True)
    quantize_dynamic(
        str(inferred),
        str(out),
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    graph = onnx.load(out)
    del graph.metadata_props[:]
    out.write_bytes(graph.SerializeToString(deterministic=True))


def _encode(
    path: Path, spec: ModelSpec, item_table: Mapping[str, NDArray], histories: Histories
) -> NDArray[np.float32]:
    """One history at a time, as serving asks."""
    graph = open_graph(path)
    found = []
    for row in range(len(histories)):
        one = histories.take(slice(row, row + 1))
        encoded = encode_histories(one, spec.inputs, spec.max_len, item_table)
        found.append(np.asarray(graph.run(None, encoded)[0], np.float32))
    return np.concatenate(found) if found else np.zeros((0, spec.dim), np.float32)


def _best(
    vectors_VD: NDArray[np.float32], queries_BD: NDArray[np.float32], k: int
) -> list[NDArray[np.int64]]:
    found = []
    for query_D in queries_BD:
        scores_V = vectors_VD @ query_D
        scores_V[0] = -np.inf
        found.append(top_k(scores_V[None], k)[0][0])
    return found
