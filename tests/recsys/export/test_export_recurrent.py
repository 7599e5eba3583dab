"""Recurrent layers in a graph: one operator each, however often a process exports."""

from pathlib import Path

import onnx
import pytest

from recsys.export.onnx import export_encoder, measure_parity
from recsys.export.outcomes import export_graph
from recsys.export.outcomes import measure_parity as measure_outcomes
from recsys.models.event_gru import EventGRU, EventGRUConfig
from recsys.models.gru4rec import GRU4Rec, GRU4RecConfig


def _operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("time", ["first", "second"])
def test_gru4rec_is_exported_more_than_once(tmp_path: Path, time: str) -> None:
    model = GRU4Rec(GRU4RecConfig(num_items=20, max_len=13, dim=8, num_layers=2)).eval()
    export_encoder(model, {}, 20, tmp_path / "history.onnx")
    assert _operators(tmp_path / "history.onnx").count("GRU") == 2
    assert len(measure_parity(model, {}, 20, tmp_path / "history.onnx")) > 3


@pytest.mark.parametrize("time", ["first", "second"])
def test_outcomes_are_exported_more_than_once(tmp_path: Path, time: str) -> None:
    model = EventGRU(EventGRUConfig(num_tokens=30, num_prefix=2, max_len=70, dim=8)).eval()
    export_graph(model, 30, tmp_path / "outcomes.onnx")
    assert _operators(tmp_path / "outcomes.onnx").count("GRU") == 2
    assert len(measure_outcomes(model, 30, tmp_path / "outcomes.onnx")) > 3
