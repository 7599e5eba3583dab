"""Measures a bundle that predicts outcomes the way it serves, beside simpler models.

Every system answers the same test cases (persons that training never saw) from events before each
landmark; the bundle through `serving.outcomes`, as a service or a batch job would.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import InputError
from features.life_layout import CASES, SPLITS, OutcomeColumn
from features.life_store import Lives
from features.stage import write_stage
from offline_eval.examples import Ordered, measure_outcome
from offline_eval.fingerprint import fingerprint
from offline_eval.outcome_report import (
    LABELS,
    OutcomeReport,
    OutcomeResult,
    OutcomeSystem,
    markdown,
    measure_classes,
    page,
    reliability_rows,
    shown,
)
from offline_eval.significance import percentile_interval
from recsys.outcome_baselines import OUTCOME_BASELINES, CaseTable, Parts, tabulate
from serving.outcomes import OutcomePredictor

log = logging.getLogger(__name__)
BUNDLE = "bundle"
PREDICTIONS = "predictions.parquet"
Floats = NDArray[np.float64]


def evaluate_outcomes(
    bundle: Path,
    lives: Path,
    out: Path,
    *,
    split: str = "test",
    baselines: Sequence[str] = tuple(OUTCOME_BASELINES),
    resamples: int = 1_000,
    seed: int = 0,
) -> OutcomeReport:
    """Write a `report/`, print its table and return it. Raises InputError, and serving's errors."""
    if unknown := sorted(set(baselines) - set(OUTCOME_BASELINES)):
        raise InputError(f"unknown baselines {unknown}: choose among {list(OUTCOME_BASELINES)}")
    data = Lives.open(lives)
    predictor = OutcomePredictor.load(bundle, threads=os.cpu_count() or 1)
    if predictor.schema.vocabulary_hash != data.schema.vocabulary_hash:
        raise InputError(f"the bundle knows other tokens than {lives}: export it from there")
    rows = data.rows(split)
    found = predictor.run(data.documents(rows)).probabilities.astype(np.float64)
    table = tabulate(data) if baselines else None
    config = {"split": split, "baselines": list(baselines), "resamples": resamples, "seed": seed}
    config |= {"bundle": predictor.bundle_version}
    assert data.manifest is not None
    protocol = {"cases": data.manifest.files[CASES], "split": split, "resamples": resamples}
    columns: dict[str, Floats] = {}
    results = []
    with write_stage(out, kind="report", config=config, parent=data.manifest.sha256) as directory:
        first = 0
        for t, outcome in enumerate(data.schema.outcomes):
            width = len(outcome.columns)
            systems = {BUNDLE: found[:, first : first + width]}
            if table is not None:
                systems |= _fit_baselines(data, t, outcome, table, baselines, seed, rows)
            columns |= _columns(systems, outcome)
            results.append(_measure(data, t, outcome, systems, rows, resamples, seed))
            first += width
        report = OutcomeReport(
            title=f"Bundle {predictor.bundle_version}, {split} persons of {lives.resolve().name}",
            protocol=f"Split by person, {len(rows):,} {split} cases; protocol "
            f"{fingerprint(protocol)[:12]}: compare only with equal ones.",
            outcomes=results,
        )
        _write_predictions(directory, data, rows, columns)
        (directory / "metrics.json").write_text(report.to_json())
        (directory / "report.md").write_text(markdown(report))
        (directory / "report.html").write_text(page(report))
    print_outcomes(report)
    return report


def _fit_baselines(
    data: Lives,
    t: int,
    outcome: OutcomeColumn,
    table: CaseTable,
    names: Sequence[str],
    seed: int,
    rows: NDArray[np.int64],
) -> dict[str, Floats]:
    label = data.cases["labels"][:, t]
    known = ~np.isnan(label)
    code = np.where(known, label, -1).astype(np.int64)
    train, validation = (r[known[r]] for r in (data.rows("train"), data.rows(SPLITS[1])))
    parts = Parts(train, validation, code, outcome.classes, seed)
    found = {}
    for name in names:
        log.info("%s: fitting %s on %d cases", outcome.name, name, len(train))
        found[name] = OUTCOME_BASELINES[name](table, parts)[rows]
    return found


def _measure(
    data: Lives,
    t: int,
    outcome: OutcomeColumn,
    systems: Mapping[str, Floats],
    rows: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> OutcomeResult:
    label = data.labels(rows)[:, t]
    known = ~np.isnan(label)
    code = label[known].astype(np.int64)
    if not len(code):
        raise InputError(f"{data.path}: no test case has a known label of {outcome.name}")
    shares = np.bincount(code, minlength=outcome.classes) / len(code)
    binary = len(outcome.columns) == 1
    training = data.labels(data.rows("train"))[:, t]
    threshold = float(np.nanmean(training)) if binary else None
    measured = []
    for name, p_BK in systems.items():
        p_BK = np.clip(p_BK[known], 0, 1)
        if threshold is None:
            ordinal = outcome.kind == "ordinal"
            estimates = measure_classes(code, p_BK, ordinal=ordinal, resamples=resamples, seed=seed)
            measured.append(OutcomeSystem(name=name, estimates=estimates))
            continue
        p_B, positive = p_BK[:, 0], code == 1
        estimates = measure_outcome(
            positive,
            p_B,
            alpha=outcome.unlabelled_share,
            threshold=threshold,
            resamples=resamples,
            seed=seed,
        )
        measured.append(
            OutcomeSystem(
                name=name,
                estimates=estimates,
                true_positive_rate=float((p_B[positive] >= threshold).mean()),
                false_positive_rate=float((p_B[~positive] >= threshold).mean()),
                reliability=reliability_rows(positive, p_B),
            )
        )
    compared = _compare(systems, known, code, resamples, seed) if binary else []
    return OutcomeResult(
        name=outcome.name,
        kind=outcome.kind,
        persons=len(code),
        prevalence=[float(share) for share in shares],
        threshold=threshold,
        alpha=outcome.unlabelled_share,
        systems=measured,
        comparisons=compared,
    )


def _compare(
    systems: Mapping[str, Floats],
    known: NDArray[np.bool_],
    code: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> list[str]:
    """Difference in AUC of the bundle from every other system, same resamples for both."""
    draw, positive = np.random.default_rng(seed), code == 1
    weights_SN = np.zeros((resamples, len(code)))
    for own in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        weights_SN[:, own] = draw.multinomial(len(own), np.full(len(own), 1 / len(own)), resamples)
    ones = np.ones((1, len(code)))
    drawn, values = {}, {}
    for name, p_BK in systems.items():
        ordered = Ordered.of(positive, p_BK[known, 0])
        drawn[name], values[name] = ordered.auc(weights_SN), float(ordered.auc(ones)[0])
    sentences = []
    for name in systems:
        if name == BUNDLE:
            continue
        low, high = percentile_interval(drawn[BUNDLE] - drawn[name])
        verdict = "beats" if low > 0 else "is WORSE than" if high < 0 else "does NOT beat"
        sentences.append(
            f"{BUNDLE} {verdict} {name} on AUC: {values[BUNDLE] - values[name]:+.4f} (95 % "
            f"interval {low:+.4f} to {high:+.4f}, {len(code):,} cases paired)."
        )
    return sentences


def _columns(systems: Mapping[str, Floats], outcome: OutcomeColumn) -> dict[str, Floats]:
    return {
        f"{name}:{column}": p_BK[:, k]
        for name, p_BK in systems.items()
        for k, column in enumerate(outcome.columns)
    }


def _write_predictions(
    directory: Path, data: Lives, rows: NDArray[np.int64], columns: Mapping[str, Floats]
) -> None:
    users = pl.Series("user_id", data.raw_users())[data.cases["user"][rows]]
    at = pl.Series("at", data.cases["at"][rows]).cast(pl.Datetime("us"))
    labels = {
        f"label:{outcome.name}": data.labels(rows)[:, t]
        for t, outcome in enumerate(data.schema.outcomes)
    }
    pl.DataFrame([users, at]).with_columns(
        *(pl.Series(name, values) for name, values in {**labels, **columns}.items())
    ).write_parquet(directory / PREDICTIONS)


def print_outcomes(report: OutcomeReport) -> None:
    """The main figures on a terminal."""
    print(f"{report.title}\n{report.protocol}")
    for outcome in report.outcomes:
        shares = ", ".join(f"{share:.4f}" for share in outcome.prevalence)
        print(f"\n{outcome.name} ({outcome.kind}): {outcome.persons:,} cases, classes {shares}")
        wanted = ("auc", "aul", "c_mcc", "log_loss", "ece", "accuracy", "quadratic_kappa")
        names = [name for name in wanted if name in outcome.systems[0].estimates]
        print(f"{'system':12}" + "".join(f"{LABELS[name]:>24}" for name in names) + "    TPR   FPR")
        for system in outcome.systems:
            cells = "".join(f"{shown(system.estimates[name]):>24}" for name in names)
            rates = (system.true_positive_rate, system.false_positive_rate)
            cells += "".join("      " if rate is None else f"  {rate:.3f}" for rate in rates)
            print(f"{system.name:12}{cells}")
        for sentence in outcome.comparisons:
            print(sentence)
