"""Outcome bundles: predictions, calibration, requests, batch scoring, the report."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from features.life_store import Lives
from offline_eval.outcome_report import quadratic_kappa
from recsys.cli import app
from recsys.evaluate_outcomes import evaluate_outcomes
from recsys.export.outcomes import Predictor
from recsys.interpret.opened import OpenedRun
from recsys.training.run import load_run
from serving.batch import score_people
from serving.calibration import calibrate
from serving.errors import BundleError, RequestError
from serving.jobs.executors import local
from serving.jobs.plan import PeopleQuestion
from serving.outcomes import OutcomePredictor
from serving.recommender import Recommender

LANDMARK = datetime(2020, 1, 1)


@pytest.fixture(scope="session")
def predictor(vertical: Any) -> OutcomePredictor:
    return OutcomePredictor.load(vertical.bundle)


def test_the_rule_is_found_and_probabilities_are_calibrated(vertical: Any) -> None:
    out = vertical.folder / "report"
    report = evaluate_outcomes(vertical.bundle, vertical.lives, out, resamples=100)
    sick, stage = report.outcomes
    ours = {system.name: system for system in sick.systems}["bundle"]
    assert ours.estimates["auc"].value > 0.97
    assert ours.estimates["ece"].value < 0.1
    assert sick.prevalence[1] == pytest.approx(0.3, abs=0.1)
    assert "prevalence c" in (out / "report.md").read_text()
    assert "<svg" in (out / "report.html").read_text()
    kappa = {system.name: system.estimates["quadratic_kappa"] for system in stage.systems}
    assert kappa["bundle"].value > 0.6
    assert len(pl.read_parquet(out / "predictions.parquet")) == sick.persons


def test_raw_events_are_predicted_as_torch_predicts_the_dataset(
    vertical: Any, predictor: OutcomePredictor
) -> None:
    events, persons, _ = vertical.tables()
    found = predictor.predict(events, persons, embedding=True).sort("user_id")
    data, (model, _, _) = Lives.open(vertical.lives), load_run(vertical.run)
    rows = np.arange(len(data.cases["user"]))
    opened = OpenedRun.open(vertical.run, vertical.lives)
    with torch.inference_mode():
        batch = opened.batch(rows)
        raw, vectors = (x.numpy() for x in Predictor(model)(*(
            getattr(batch, name) for name in model.life_inputs)))  # fmt: skip
    expected, first = [], 0
    for calibration in predictor.spec.calibration:
        columns = raw[:, first : first + calibration.width].astype(np.float64)
        expected.append(calibrate(calibration, columns))
        first += calibration.width
    np.testing.assert_allclose(
        found.select(predictor.columns).to_numpy(), np.concatenate(expected, 1), atol=1e-4
    )
    np.testing.assert_allclose(np.stack(found["embedding"].to_list()), vectors, atol=1e-4)
    assert found.columns == ["user_id", "sick", "stage=0", "stage=1", "stage=2", "embedding"]


def test_the_graph_holds_its_random_features(vertical: Any, predictor: OutcomePredictor) -> None:
    """Projections are saved: the run has them, and another draw would answer otherwise."""
    saved = load_file(vertical.run / "model.safetensors")
    assert any(name.endswith("projection") for name in saved)
    opened = OpenedRun.open(vertical.run, vertical.lives)
    batch = opened.batch(np.arange(20))
    before = opened.model.predict(batch)[1]
    opened.model.redraw(torch.Generator().manual_seed(5))
    assert not torch.allclose(opened.model.predict(batch)[1], before, atol=1e-6)


def test_a_moment_hides_what_comes_after_it(predictor: OutcomePredictor, vertical: Any) -> None:
    events, persons, _ = vertical.tables()
    at = datetime(2019, 1, 1)
    cut = predictor.predict(events, persons, at=at)
    by_hand = predictor.predict(events.filter(pl.col("timestamp") < at), persons)
    assert cut.sort("user_id").equals(by_hand.sort("user_id"))
    nobody = predictor.predict(events.head(0), persons.head(3))
    assert len(nobody) == 3
    assert nobody["sick"].is_finite().all()


def test_new_values_and_persons_are_answered(predictor: OutcomePredictor, vertical: Any) -> None:
    strange = pl.DataFrame(
        {"user_id": [9_999], "timestamp": [LANDMARK], "code": ["never seen"], "dose": [None]}
    )
    assert predictor.predict(strange)["sick"].is_between(0, 1).all()


def test_threads_and_batches_do_not_change_an_answer(vertical: Any) -> None:
    events, persons, _ = vertical.tables()
    one = OutcomePredictor.load(vertical.bundle).predict(events, persons)
    two = OutcomePredictor.load(vertical.bundle, threads=2).predict(events, persons)
    assert one.equals(two)
    alone = OutcomePredictor.load(vertical.bundle).predict(
        events.filter(pl.col("user_id") == 7), persons.filter(pl.col("user_id") == 7)
    )
    expected = one.filter(pl.col("user_id") == 7)
    np.testing.assert_allclose(alone.to_numpy(), expected.to_numpy(), atol=1e-5)


BAD_REQUESTS = {
    "no user": (lambda e: e.drop("user_id"), "no column user_id"),
    "no time": (lambda e: e.drop("timestamp"), "no column timestamp"),
    "a field is missing": (lambda e: e.drop("code"), "lack \\['code'\\]"),
    "ids of another kind": (lambda e: e.with_columns(pl.col("user_id").cast(str)), "knows persons"),
    "time as a number": (
        lambda e: e.with_columns(timestamp=pl.lit(5)),
        "expected a time or a date",
    ),
    "a text as a number": (lambda e: e.with_columns(dose=pl.lit("much")), "expected numeric"),
    "a lost time": (
        lambda e: e.with_columns(timestamp=pl.lit(None, pl.Datetime("us"))),
        "have no timestamp",
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_one_sentence(
    case: str, predictor: OutcomePredictor, vertical: Any
) -> None:
    spoil, sentence = BAD_REQUESTS[case]
    events, persons, _ = vertical.tables(5)
    with pytest.raises(RequestError, match=sentence):
        predictor.predict(spoil(events), persons)


def test_bundles_of_another_kind_are_refused(vertical: Any) -> None:
    with pytest.raises(BundleError, match="recommends nothing"):
        Recommender.load(vertical.bundle)
    with pytest.raises(BundleError, match="no outcome model"):
        OutcomePredictor.load(Path(__file__).parents[2] / "bundles" / "v1")


def test_golden_answers_are_checked(predictor: OutcomePredictor, vertical: Any) -> None:
    predictor.check_golden()
    golden = predictor.spec.golden[0]
    wrong = golden.model_copy(update={"expected": tuple(p + 0.01 for p in golden.expected)})
    broken = OutcomePredictor.load(predictor.path)
    broken.spec = broken.spec.model_copy(update={"golden": (wrong,)})
    with pytest.raises(BundleError, match="golden request 0"):
        broken.check_golden()


def test_everybody_is_scored_in_parts(vertical: Any, predictor: OutcomePredictor) -> None:
    events, persons, _ = vertical.tables()
    events.write_parquet(vertical.folder / "raw.parquet")
    persons.write_parquet(vertical.folder / "persons.parquet")
    question = PeopleQuestion(persons=str(vertical.folder / "persons.parquet"))
    raw, out = vertical.folder / "raw.parquet", vertical.folder / "all"
    sizes = {"part_size": 150, "executor": local(1)}
    score_people(vertical.bundle, raw, out, question=question, **sizes)
    found = pl.read_parquet(vertical.folder / "all" / "part-*.parquet")
    expected = predictor.predict(events, persons)
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), atol=1e-5)
    assert len(list((vertical.folder / "all").glob("part-*.parquet"))) == 3
    result = CliRunner().invoke(
        app,
        [
            "score",
            str(vertical.bundle),
            str(vertical.lives),
            "--out",
            str(vertical.folder / "cases"),
        ],
    )
    assert result.exit_code == 0, result.output
    cases = pl.read_parquet(vertical.folder / "cases" / "part-*.parquet")
    assert cases.columns[:2] == ["user_id", "at"]
    np.testing.assert_allclose(
        cases.sort("user_id")["sick"], expected.sort("user_id")["sick"], atol=1e-5
    )


def test_kappa_by_hand() -> None:
    labels, said = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    observed = (2 - 0) ** 2
    expected = sum(
        (i - j) ** 2 * (labels == i).sum() * (said == j).sum() / 4
        for i in range(3)
        for j in range(3)
    )
    assert quadratic_kappa(labels, said, 3) == pytest.approx(1 - observed / expected)
