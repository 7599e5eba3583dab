"""LightGBM trees to ONNX: the same decisions for every float32 input, nan included."""

import re

import lightgbm as lgb
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

INPUT = "features"
"""The graph's input, (R, F) float32; its one output holds R scores."""
TREES_PER_NODE = 50
"""Trees summed in float32 before the sums are added in float64: keeps ONNX close to LightGBM."""


def to_onnx(booster: lgb.Booster) -> bytes:
    """The trees as a graph: (R, F) float32, nan allowed -> R scores. No trace of this machine."""
    booster = lgb.Booster(model_str=with_float32_thresholds(booster.model_to_string()))
    kind = FloatTensorType([None, booster.num_feature()])
    # the converter fails when it is to split a forest that fits into one node
    split = TREES_PER_NODE if booster.num_trees() > TREES_PER_NODE else None
    model = convert_lightgbm(booster, "ranker", [(INPUT, kind)], zipmap=False, split=split)
    assert isinstance(model, ModelProto)
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    return model.SerializeToString(deterministic=True)


def with_float32_thresholds(model: str) -> str:
    """A LightGBM model text that decides alike, with thresholds that float32 can hold.

    LightGBM puts a threshold halfway between two values; as float32 it may become the upper one,
    which then falls to the wrong side. Rounding down keeps every float32 value on its side.
    """

    def round_down(line: re.Match[str]) -> str:
        exact = np.array(line[1].split(), np.float64)
        near = exact.astype(np.float32)
        down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
        return "threshold=" + " ".join(repr(float(value)) for value in down)

    model = re.sub(r"^tree_sizes=.*\n", "", model, flags=re.MULTILINE)  # bytes: they change
    return re.sub(r"^threshold=(.*)$", round_down, model, flags=re.MULTILINE)


def graph_scores(
    session: ort.InferenceSession, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The (R,) scores of a graph made here."""
    output = session.run(None, {INPUT: features})[0]
    assert isinstance(output, np.ndarray)
    return output.reshape(-1)
