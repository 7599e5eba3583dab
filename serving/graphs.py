"""ONNX graphs of a bundle, opened the way serving runs them."""

from pathlib import Path

import onnxruntime as ort

from serving.errors import BundleError

SKIPPED = "optimization.disable_specified_optimizers"
"""Where a session is told what to leave out."""


def open_graph(path: Path) -> ort.InferenceSession:
    """An ONNX graph on one thread: the callers are the parallelism. Raises BundleError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    # slower than an addition and a LayerNorm apart, in onnxruntime 1.32 (docs/results/recformer.md)
    options.add_session_config_entry(SKIPPED, "SkipLayerNormFusion")
    try:  # from bytes: a graph that refers to other files is refused
        return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises undocumented types
        raise BundleError(f"{path} cannot be opened: {error}") from error
