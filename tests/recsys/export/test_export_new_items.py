"""Items added to a bundle without training: found by the right people, and nothing else changes."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_model
from typer.testing import CliRunner

from features.layout import CATALOGUE
from features.stage import write_stage
from features.store import Dataset
from recsys.cli import app
from recsys.export.bundle import export
from recsys.export.config import ExportConfig
from recsys.export.ranker_config import RankerConfig
from recsys.models.m2trec import M2TRec, M2TRecConfig
from recsys.training.config import TrainConfig
from recsys.training.kinds import dataset_facts, model_config
from recsys.training.run import train
from serving.bundle import open_bundle
from serving.errors import RequestError
from serving.recommender import Recommender

DIM = 16


class Inputs(Protocol):
    """What the fixture of this directory makes."""

    dataset: Path
    run: Path


@pytest.fixture(scope="module")
def bundle(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the shop with an untrained M2TRec, neighbours, popularity and a ranker."""
    root = tmp_path_factory.mktemp("m2trec")
    data = Dataset.open(inputs.dataset)
    config = model_config("m2trec", {"dim": DIM, "max_len": 8}, dataset_facts(data))
    assert isinstance(config, M2TRecConfig)
    torch.manual_seed(0)
    model = M2TRec(config).eval()
    torch.nn.init.normal_(model.query.weight, std=0.3)
    with write_stage(root / "run", kind="run", config={}, parent=data.manifest.sha256) as directory:
        save_model(model, str(directory / "model.safetensors"))
        content = {"model": {"name": "m2trec", "config": asdict(config)}}
        (directory / "config.json").write_text(json.dumps(content))
    ranker = RankerConfig(max_trees=5)
    settings = ExportConfig(ranker="lightgbm", lightgbm=ranker, candidates=60)
    export(root / "run", inputs.dataset, settings, root / "bundle")
    return root / "bundle"


def twin(bundle: Path, row: int, item_id: str) -> pl.DataFrame:
    """A new item that is described exactly as the one in a row of the catalogue."""
    rows = pl.read_parquet(bundle / CATALOGUE)[row : row + 1]
    return rows.with_columns(item_id=pl.lit(item_id))


def scores(recommender: Recommender, history: list[str]) -> dict[str, float]:
    """Of the first source, by raw id."""
    request = recommender.reader.read(history, None)
    found = recommender.candidates(request.histories, at=request.at)
    names = recommender._catalogue.raw_ids
    return {
        str(names[item]): score
        for item, score in zip(
            found.items[0].tolist(), found.source_scores["model"][0].tolist(), strict=True
        )
        if not math.isnan(score)  # proposed by the model
    }


def test_the_manifest_tells_of_the_item_encoder(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    spec = manifest.sources[0]
    assert spec.kind == "model"
    assert spec.item_encoder in manifest.files
    assert spec.inputs == ("items", "item.vector")
    assert {parity.items for parity in manifest.item_parity} == {1, 7, 300}
    assert max(parity.max_abs_difference for parity in manifest.item_parity) < 1e-5


def test_a_twin_of_a_recommended_item_has_its_score_and_stands_beside_it(bundle: Path) -> None:
    before = Recommender.load(bundle)
    catalogue = pl.read_parquet(bundle / CATALOGUE)
    history = catalogue["item_id"].head(3).to_list()
    known = scores(before, history)
    best = max(known, key=lambda raw: known[raw])
    row = catalogue["item_id"].to_list().index(best)
    after = before.add_items(twin(bundle, row, "TWIN"))
    found = scores(after, history)
    assert found["TWIN"] == found[best] == known[best]
    assert after.num_items == before.num_items + 1
    assert "TWIN" in [item.item_id for item in after.similar_items(best, k=3).items]
    assert after.title("TWIN") == before.title(best)


def test_old_answers_change_by_nothing_but_the_new_items(bundle: Path) -> None:
    before = Recommender.load(bundle)
    ids = pl.read_parquet(bundle / CATALOGUE)["item_id"].to_list()
    new = pl.concat([twin(bundle, row, f"NEW{row}") for row in range(5)])
    after = before.add_items(new)
    for start in range(0, 60, 10):
        history = ids[start : start + 4]
        old = before.recommend(history, k=20, deny=new["item_id"].to_list())
        kept = after.recommend(history, k=20, deny=new["item_id"].to_list())
        assert [item.item_id for item in kept.items] == [item.item_id for item in old.items]
    assert before.num_items == len(ids), "the old recommender stays as it is"


def test_added_items_may_stand_in_histories_and_be_added_to_again(bundle: Path) -> None:
    first = Recommender.load(bundle).add_items(twin(bundle, 0, "A"))
    second = first.add_items(twin(bundle, 1, "B"))
    assert second.recommend(["A", "B"], k=5).unknown == 0
    assert first.recommend(["A", "B"], k=5).unknown == 1
    versions = {first.bundle_version, second.bundle_version}
    assert len(versions) == 2
    assert all("+" in version for version in versions)
    as_rows = Recommender.load(bundle).add_items(twin(bundle, 0, "A").to_dicts())
    assert as_rows.bundle_version == first.bundle_version


REFUSED = {
    "known already": (lambda rows, ids: rows.with_columns(item_id=pl.lit(ids[4])), "in the bundle"),
    "twice": (lambda rows, _: pl.concat([rows, rows]), "in several rows"),
    "no id": (lambda rows, _: rows.with_columns(item_id=pl.lit(None, pl.String)), "null in 1 of 1"),
    "no rows": (lambda rows, _: rows.clear(), "no rows"),
    "a column lacks": (lambda rows, _: rows.drop("title"), "lack ['title']"),
    "a wrong type": (lambda rows, _: rows.with_columns(title=pl.lit(3)), "title is Int32"),
    "a wrong id": (lambda rows, _: rows.with_columns(item_id=pl.lit(3)), "item_id is Int32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_do_not_fit_are_refused(case: str, bundle: Path) -> None:
    change, expected = REFUSED[case]
    recommender = Recommender.load(bundle)
    ids = pl.read_parquet(bundle / CATALOGUE)["item_id"].to_list()
    with pytest.raises(RequestError) as caught:
        recommender.add_items(change(twin(bundle, 0, "NEW"), ids))
    assert expected in str(caught.value)


def test_the_verb_writes_a_sealed_bundle_that_loads(bundle: Path, tmp_path: Path) -> None:
    new = twin(bundle, 3, "NEW").with_columns(colour_of_the_box=pl.lit("red"))
    new.write_parquet(tmp_path / "new.parquet")
    command = ["add-items", str(bundle), str(tmp_path / "new.parquet"), "--out"]
    result = CliRunner().invoke(app, [*command, str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    assert "1 items added" in result.output
    assert "colour_of_the_box" in result.output
    opened = open_bundle(tmp_path / "bundle")
    assert opened.manifest.parent == open_bundle(bundle).sha256
    assert len(opened.manifest.golden) == len(open_bundle(bundle).manifest.golden)
    written = Recommender.load(tmp_path / "bundle")
    written.check_golden()
    memory = Recommender.load(bundle).add_items(new)
    history = pl.read_parquet(bundle / CATALOGUE)["item_id"].head(5).to_list()
    assert written.recommend(history, k=30).items == memory.recommend(history, k=30).items
    assert written.bundle_version == opened.version
    assert np.isfinite(list(scores(written, history).values())).all()


def test_a_model_of_ids_refuses(inputs: Inputs, tmp_path: Path) -> None:
    export(inputs.run, inputs.dataset, ExportConfig(), tmp_path / "bundle")
    with pytest.raises(RequestError, match="knows items by id only"):
        Recommender.load(tmp_path / "bundle").add_items(twin(tmp_path / "bundle", 0, "NEW"))
    export(None, inputs.dataset, ExportConfig(), tmp_path / "plain")
    with pytest.raises(RequestError, match="shown to nobody"):
        Recommender.load(tmp_path / "plain").add_items(twin(tmp_path / "plain", 0, "NEW"))


def test_a_run_trains_on_attributes_through_the_stage(inputs: Inputs, tmp_path: Path) -> None:
    """Through the training stage: it must not ask the dataset for what the model computes."""
    config = TrainConfig(max_epochs=1, batch_size=64, accelerator="cpu", validation_users=50)
    options = {"dim": DIM, "max_len": 8, "prefixes": 2}
    result = train("m2trec", options, config, inputs.dataset, tmp_path / "run")
    assert result.step > 0
    assert 0 <= result.score <= 1
