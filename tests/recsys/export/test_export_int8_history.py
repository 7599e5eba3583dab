"""Encoders with int8 weights: smaller, nearly the same answers, or not published."""

from pathlib import Path
from typing import Any

import pytest

from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from serving.bundle import open_bundle
from serving.errors import BundleError
from serving.recommender import Recommender


def test_int8_weights_pass_a_gate_or_are_refused(
    inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExportConfig(encoder_precision="int8")
    monkeypatch.setattr(
        "recsys.export.int8_history.ENOUGH", 0.7
    )  # random weights tell little apart
    export(inputs.run, inputs.dataset, config, tmp_path / "small")
    manifest, graph = open_bundle(tmp_path / "small").manifest, "model.encoder.onnx"
    assert manifest.quantized is not None
    assert 0.7 <= manifest.quantized.overlap < 1
    assert 0 < manifest.quantized.max_abs_difference < 0.1 * manifest.quantized.scale
    assert getattr(manifest.sources[0], "precision", None) == "int8"
    export(inputs.run, inputs.dataset, ExportConfig(), tmp_path / "whole")
    whole = tmp_path / "whole"
    assert (tmp_path / "small" / graph).stat().st_size < (whole / graph).stat().st_size
    Recommender.load(tmp_path / "small").check_golden()
    assert open_bundle(whole).manifest.quantized is None
    monkeypatch.setattr("recsys.export.int8_history.ENOUGH", 1.01)
    with pytest.raises(BundleError, match=r'of the top 100 stay .* encoder_precision = "float32"'):
        export(inputs.run, inputs.dataset, config, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
