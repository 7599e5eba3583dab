"""What the verbs compare, report, off-policy and measure do, between the terminal and the files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from features.errors import InputError
from features.stage import read_manifest, refuse_existing, verify_files
from offline_eval.compare import compare
from offline_eval.comparison_views import (
    comparison_markdown,
    comparison_page,
    print_comparison,
)
from offline_eval.examples import measure_outcome, measure_ranker
from offline_eval.examples_page import examples_page, print_examples
from offline_eval.learning import read_curves
from offline_eval.markdown import markdown
from offline_eval.off_policy import evaluate_policy
from offline_eval.page import page
from offline_eval.policy_log import logged, read_frame
from offline_eval.policy_page import print_policy
from offline_eval.probabilities import Weighting, reliability
from offline_eval.report import Report, read_report, without_nan
from offline_eval.table import print_report

Form = Literal["terminal", "html", "markdown", "json"]


def compare_reports(
    reports: Sequence[str],
    out: Path | None,
    *,
    metric: str | None,
    baselines: bool,
    allow_differences: bool,
    resamples: int,
    seed: int,
) -> None:
    """Print a comparison of `NAME=DIR` reports and write it into `out`. Raises InputError."""
    if out is not None:
        refuse_existing(out)
    found = compare(
        [named_report(text) for text in reports],
        metric=metric,
        baselines=baselines,
        allow_differences=allow_differences,
        resamples=resamples,
        seed=seed,
    )
    print_comparison(found)
    if out is not None:
        out.mkdir(parents=True)
        (out / "comparison.json").write_text(found.to_json())
        (out / "comparison.md").write_text(comparison_markdown(found))
        (out / "comparison.html").write_text(comparison_page(found))
        print(f"comparison  {out / 'comparison.html'}")


def named_report(text: str) -> tuple[str, Path]:
    """Name and directory of `NAME=DIR`; a bare directory is named by its path's last two parts.

    >>> named_report("sasrec=work/a/report")
    ('sasrec', PosixPath('work/a/report'))
    >>> named_report("work/ml-1m/report")
    ('ml-1m/report', PosixPath('work/ml-1m/report'))
    """
    name, given, path = text.partition("=")
    if given and not Path(text).exists():
        if not name:
            raise InputError(f"{text!r} has no name before the =: write NAME=DIR")
        return name, Path(path)
    return "/".join(Path(text).parts[-2:]).removeprefix("/"), Path(text)


def show_report(directory: Path, form: Form, out: Path | None, run: Path | None) -> None:
    """Print or write a report in another form. Raises InputError for a bad one."""
    verify_files(directory, read_manifest(directory, "report"))
    report = read_report(directory)
    if run is not None:
        report = report.with_learning(read_curves(run))
    if form == "terminal" and out is None:
        print_report(report)
        return
    text = _drawn(report, form)
    if out is None:
        print(text, end="")
        return
    refuse_existing(out)
    out.write_text(text)
    print(f"report  {out}")


def _drawn(report: Report, form: Form) -> str:
    if form == "json":
        return report.to_json()
    return page(report) if form == "html" else markdown(report)


def judge_policy(
    log: Path, policy: Path, out: Path | None, *, clip: float | None, resamples: int, seed: int
) -> None:
    """Print what a policy would have earned. Raises InputError for bad tables."""
    if out is not None:
        refuse_existing(out)
    joined = logged(read_frame(log), read_frame(policy), where=str(log), policy_where=str(policy))
    found = evaluate_policy(joined, clip=clip, resamples=resamples, seed=seed)
    print_policy(found)
    if out is not None:
        out.write_text(json.dumps(without_nan(asdict(found)), indent=1) + "\n")
        print(f"estimates  {out}")


def measure_examples(
    path: Path,
    out: Path | None,
    *,
    group: str | None,
    weighting: Weighting,
    alpha: float | None,
    bins: int,
    seed: int,
) -> None:
    """Print the metrics of labelled examples and draw their calibration. Raises InputError."""
    if out is not None:
        refuse_existing(out)
    if alpha is not None and group is not None:
        raise InputError("give --group (a ranker) or --alpha (an outcome), not both")
    labels, probabilities, groups = read_examples(path, group)
    if alpha is None:
        found = measure_ranker(
            labels, probabilities, groups, weighting=weighting, bins=bins, seed=seed
        )
    else:
        found = measure_outcome(labels, probabilities, alpha=alpha, bins=bins, seed=seed)
    print_examples(found, labels)
    if out is not None:
        binning = "width" if alpha is None else "mass"
        curve = reliability(labels, probabilities, bins=bins, binning=binning)
        out.write_text(examples_page(path.stem, found, curve, labels))
        print(f"page  {out}")


def read_examples(
    path: Path, group: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Labels (N,) bool, probabilities (N,), and the group's number (N,) where a column is named."""
    frame = read_frame(path)
    wanted = ["label", "probability", *([group] if group else [])]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise InputError(f"{path} has no column {missing[0]} (it has: {', '.join(frame.columns)})")
    if nulls := sum(frame.select(pl.col(wanted).null_count()).row(0)):
        raise InputError(f"{path}: {nulls} values of {wanted} are missing: drop those rows")
    labels = frame["label"].cast(pl.Float64)
    if bad := int((~labels.is_in([0.0, 1.0])).sum()):
        raise InputError(f"{path}: {bad} of {len(frame)} labels are neither 0 nor 1")
    groups = frame[group].rank("dense").to_numpy() if group else None
    probabilities = frame["probability"].cast(pl.Float64).to_numpy()
    return labels.to_numpy() == 1, probabilities, groups
