"""Outcome models and simpler ones on the same persons: numbers, intervals, calibration, a page."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from offline_eval.metrics import Bools, Floats, Ints
from offline_eval.probabilities import reliability
from offline_eval.significance import Estimate, estimate_means, percentile_interval

LABELS = {
    "c_mcc": "C-MCC",
    "c_balanced_accuracy": "C-BAcc",
    "c_f1": "C-F1",
    "aul": "AUL",
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log-loss",
    "ece": "ECE",
    "accuracy": "accuracy",
    "quadratic_kappa": "kappa (quadratic)",
}
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeSystem:
    """One system on one outcome."""

    name: str
    estimates: Mapping[str, Estimate]
    true_positive_rate: float | None = None
    """Among labelled positives, at the threshold; None for outcomes of several classes."""
    false_positive_rate: float | None = None
    reliability: Sequence[tuple[float, float, int]] = ()
    """Mean predicted, share observed, persons, of each bin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeResult:
    """All systems on one outcome."""

    name: str
    kind: str
    persons: int
    prevalence: Sequence[float]
    """Share of each class among the known labels."""
    threshold: float | None
    """Predicted positive from here on; the prevalence among training cases."""
    alpha: float
    systems: Sequence[OutcomeSystem]
    comparisons: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReport:
    """What `recsys evaluate` found of a bundle that predicts outcomes."""

    title: str
    protocol: str
    outcomes: Sequence[OutcomeResult]

    def to_json(self) -> str:
        """Every number, as text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def quadratic_kappa(labels_N: Ints, predicted_N: Ints, classes: int) -> float:
    """Cohen's kappa with weights (i - j)^2; 1 is agreement, 0 chance. Undefined: nan.

    1 - sum w_ij observed_ij / sum w_ij expected_ij
    """
    observed = np.zeros((classes, classes))
    np.add.at(observed, (labels_N, predicted_N), 1)
    expected = np.outer(observed.sum(1), observed.sum(0)) / len(labels_N)
    place = np.arange(classes)
    weight = (place[:, None] - place) ** 2.0
    total = (weight * expected).sum()
    return float(1 - (weight * observed).sum() / total) if total else float("nan")


def measure_classes(
    labels_N: Ints, p_NK: Floats, *, ordinal: bool, resamples: int, seed: int
) -> dict[str, Estimate]:
    """Log-loss and accuracy, for ordinal outcomes also kappa, with bootstrap intervals."""
    likelihood_N = np.clip(p_NK[np.arange(len(labels_N)), labels_N], 1e-12, 1)
    predicted_N = p_NK.argmax(1)
    columns = np.stack([-np.log(likelihood_N), predicted_N == labels_N], axis=1)
    means = estimate_means(columns.astype(np.float64), resamples=resamples, seed=seed)
    found: dict[str, Estimate] = {"log_loss": means[0], "accuracy": means[1]}
    if ordinal:
        draw = np.random.default_rng(seed)
        classes = p_NK.shape[1]
        values = np.array(
            [
                quadratic_kappa(labels_N[rows], predicted_N[rows], classes)
                for rows in draw.integers(0, len(labels_N), (min(resamples, 300), len(labels_N)))
            ]
        )
        low, high = percentile_interval(values)
        value = quadratic_kappa(labels_N, predicted_N, classes)
        found["quadratic_kappa"] = Estimate(value, low, high, len(labels_N), 0)
    return found


def reliability_rows(labels_N: Bools, p_N: Floats) -> list[tuple[float, float, int]]:
    """Bins of equal numbers of persons: mean predicted, share observed, persons."""
    found = reliability(labels_N, p_N, bins=BINS, binning="mass")
    filled = np.flatnonzero(found.counts)
    return [
        (float(found.predicted[b]), float(found.observed[b]), int(found.counts[b])) for b in filled
    ]


def shown(estimate: Estimate) -> str:
    """Value with its interval, as `.857 [.82, .89]`."""
    return f"{estimate.value:.4f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def markdown(report: OutcomeReport) -> str:
    """The report as Markdown."""
    lines = [f"# {report.title}", "", report.protocol, ""]
    for outcome in report.outcomes:
        lines += [f"## {outcome.name} ({outcome.kind})", "", _about(outcome), ""]
        names = list(outcome.systems[0].estimates)
        binary = outcome.threshold is not None
        heads = [LABELS.get(name, name) for name in names] + (["TPR", "FPR"] if binary else [])
        lines += ["| system | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for system in outcome.systems:
            cells = [shown(system.estimates[name]) for name in names]
            if binary:
                rates = (system.true_positive_rate, system.false_positive_rate)
                cells += [f"{rate:.3f}" for rate in rates if rate is not None]
            lines.append(f"| {system.name} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- {sentence}" for sentence in outcome.comparisons), ""]
    return "\n".join(lines)


def _about(outcome: OutcomeResult) -> str:
    shares = ", ".join(f"{share:.1%}" for share in outcome.prevalence)
    if outcome.threshold is None:
        return f"{outcome.persons:,} test cases; classes {shares}."
    return (
        f"{outcome.persons:,} test cases, prevalence c = {outcome.prevalence[1]:.4f}; predicted "
        f"positive from {outcome.threshold:.4f} on (prevalence of the training cases); "
        f"alpha = {outcome.alpha:g}, beta = 1. Intervals: 95 %, stratified bootstrap."
    )


def page(report: OutcomeReport) -> str:
    """The report as one HTML file: tables, and reliability curves as SVG."""
    parts = [
        "<!doctype html><meta charset='utf-8'>",
        f"<title>{html.escape(report.title)}</title>",
        "<style>body{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
        "td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ddd}"
        "table{border-collapse:collapse}svg{margin:1em 1em 0 0}</style>",
        f"<h1>{html.escape(report.title)}</h1><p>{html.escape(report.protocol)}</p>",
    ]
    for outcome in report.outcomes:
        parts.append(f"<h2>{html.escape(outcome.name)}</h2><p>{html.escape(_about(outcome))}</p>")
        names = list(outcome.systems[0].estimates)
        parts.append("<table><tr><th></th>")
        parts += [f"<th>{html.escape(LABELS.get(name, name))}</th>" for name in names]
        for system in outcome.systems:
            cells = "".join(f"<td>{shown(system.estimates[name])}</td>" for name in names)
            parts.append(f"<tr><th>{html.escape(system.name)}</th>{cells}")
        parts.append("</table>")
        parts += [f"<p>{html.escape(sentence)}</p>" for sentence in outcome.comparisons]
        parts += [_curve(system) for system in outcome.systems if len(system.reliability) > 1]
    return "\n".join(parts) + "\n"


def _curve(system: OutcomeSystem) -> str:
    """Observed against predicted, 220 pixels square."""
    size, margin = 220, 26
    top = max(max(p, o) for p, o, _ in system.reliability) or 1.0

    def at(value: float) -> float:
        return round(value / top * (size - 2 * margin), 1)

    dots = "".join(
        f"<circle cx='{margin + at(p)}' cy='{size - margin - at(o)}' r='4' fill='#2a6'>"
        f"<title>{p:.3f} predicted, {o:.3f} observed, {n} persons</title></circle>"
        for p, o, n in system.reliability
    )
    end = size - margin
    return (
        f"<svg width='{size}' height='{size}' role='img'>"
        f"<text x='{margin}' y='14' font-size='12'>{html.escape(system.name)}: observed, up to "
        f"{top:.2f}</text><line x1='{margin}' y1='{end}' x2='{end}' y2='{margin}' stroke='#bbb'/>"
        f"<path d='M{margin} {margin}V{end}H{end}' fill='none' stroke='#888'/>{dots}</svg>"
    )
