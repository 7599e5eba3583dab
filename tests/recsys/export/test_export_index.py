"""How much of the exact answer a search finds decides how it is done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.store import Dataset
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.index import tune_refine
from serving.bundle import open_bundle
from serving.index import REFINE, ApproximateIndex
from serving.manifest import IndexRecall
from serving.model_source import ModelSource
from serving.recommender import Recommender


def test_the_export_takes_a_search_that_finds_enough(
    inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.index.EXACT_BELOW", 50)
    export(inputs.run, inputs.dataset, ExportConfig(candidates=20), tmp_path / "bundle")
    manifest = open_bundle(tmp_path / "bundle").manifest
    measured = [one for one in manifest.index_recall if one.k == 20]
    refine = manifest.sources[0].refine  # type: ignore
    assert measured[0].index.startswith("PQ" if refine else "SQfp16")
    assert measured[0].recall >= 0.985
    source = Recommender.load(tmp_path / "bundle").pipeline.sources[0]
    assert isinstance(source, ModelSource)
    assert isinstance(source.index, ApproximateIndex)
    assert source.index._refine == refine


@pytest.mark.parametrize(
    ("recalls", "expected"), [({4: 0.99}, 4), ({4: 0.9, 8: 0.97, 12: 0.985}, 12), ({}, 0)]
)
def test_the_quickest_search_is_taken(
    inputs: Any,
    tmp_path: Path,
    recalls: dict[int, float],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where none finds enough, as of vectors that differ in length, half precision alone."""
    export(inputs.run, inputs.dataset, ExportConfig(), tmp_path / "bundle")
    source = Recommender.load(tmp_path / "bundle").pipeline.sources[0]
    assert isinstance(source, ModelSource)
    data = Dataset.open(inputs.dataset)
    histories = data.histories(data.cases("validation"))
    vectors = source.vectors_VD.astype(np.float32)
    assert tune_refine(source, vectors, histories, 20) == REFINE, (
        "an exact index has nothing to tune"
    )
    source.index = ApproximateIndex(source.vectors_VD)
    asked = []

    def measured(source: ModelSource, *rest: Any) -> tuple[IndexRecall, ...]:
        asked.append(source.index._refine)  # type: ignore
        recall = recalls.get(asked[-1], 0.5)
        return (IndexRecall(source="model", index="", k=20, queries=1, recall=recall),)

    monkeypatch.setattr("recsys.export.index.measure_recall", measured)
    assert tune_refine(source, vectors, histories, 20) == expected
    assert asked == [refine for refine in (4, 8, 12, 20, 40) if not expected or refine <= expected]
    assert isinstance(source.index, ApproximateIndex)
    assert source.index._refine == expected
    assert source.index.description.startswith("PQ" if expected else "SQfp16")
