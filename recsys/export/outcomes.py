"""A trained outcome model and its dataset of lives to a bundle that predicts.

1. the graph, random features inside; compared with torch at several lengths
2. calibration: fitted on the validation persons, through the graph
3. golden requests, answered; seal, verify, publish
"""

import json
import logging
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from features.errors import InputError
from features.life_layout import GENERAL, ITEMS, LIFE, SPLITS, OutcomeColumn
from features.life_store import Lives
from features.stage import read_manifest, verify_files
from recsys.export.config import ExportConfig
from recsys.export.onnx import TOLERANCE, write_graph
from recsys.models import MODELS
from recsys.models.outcome_interface import LifeBatch, OutcomeModel
from recsys.training.run import load_run
from serving.bundle import Bundle, seal, write_bundle
from serving.calibration import SMALLEST, Calibration, log_odds
from serving.errors import BundleError
from serving.graphs import open_graph
from serving.manifest import GoldenOutcome, Manifest, OutcomeSpec, Parity
from serving.outcomes import OutcomePredictor

log = logging.getLogger(__name__)
GRAPH = "outcomes.onnx"
BATCHES = (1, 2, 5)
PRIME = 61
"""Tokens: no window divides it."""
MIN_CALIBRATION = 30
"""Labels, and 5 of each class, below which probabilities are left as they are."""
RIDGE = 1e-3
"""Pulls the slope to 1 and offsets to 0, in nats of the mean over the persons."""


class Predictor(nn.Module):
    """`predict` with the named inputs as positional ones, as a graph has them."""

    def __init__(self, model: OutcomeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        """values: the model's `life_inputs` in order. Probabilities (B, P), persons (B, D)."""
        probabilities, persons = self.model.predict(LifeBatch(*values))
        return probabilities.float(), persons.float()


def export_outcomes(run: Path, lives: Path, config: ExportConfig, out: Path) -> None:
    """Write a bundle to `out`, which must not exist.

    Raises InputError for inputs that do not fit together, BundleError when the result would not
    serve the model's numbers.
    """
    data = Lives.open(lives, verify=True)
    model, name, run_hash = _load(run, data)
    with write_bundle(out) as directory:
        shutil.copyfile(lives / LIFE, directory / LIFE)
        items = ITEMS if (lives / ITEMS).exists() else ""
        if items:
            shutil.copyfile(lives / ITEMS, directory / items)
        export_graph(model, data.schema.num_tokens, directory / GRAPH)
        parity = measure_parity(model, data.schema.num_tokens, directory / GRAPH)
        spec = OutcomeSpec(
            model=name,
            graph=GRAPH,
            schema_file=LIFE,
            items=items,
            inputs=model.life_inputs,
            max_len=model.max_len,
            dim=model.dim,
            calibration=tuple(map(unchanged, data.schema.outcomes)),
        )
        names = ("numpy", "onnxruntime", "torch", "onnx", "onnxscript")
        assert data.manifest is not None
        draft = Manifest(
            dataset=data.manifest.sha256,
            run=run_hash,
            num_items=0,
            sources=(),
            outcomes=spec,
            parity=parity,
            config=json.loads(json.dumps(asdict(config))),
            versions={library: version(library) for library in sorted(names)},
        )
        calibration, report = fit_calibration(_predictor(directory, draft, spec), data)
        spec = spec.model_copy(update={"calibration": calibration})
        golden = answer_golden(_predictor(directory, draft, spec), config.golden_requests)
        spec = spec.model_copy(update={"golden": golden})
        update: dict[str, Any] = {"outcomes": spec, "report": {"calibration": report}}
        seal(directory, draft.model_copy(update=update))
        OutcomePredictor.load(directory).check_golden()


def _load(run: Path, data: Lives) -> tuple[OutcomeModel, str, str]:
    manifest = read_manifest(run, "run")
    verify_files(run, manifest)
    assert data.manifest is not None
    if manifest.parent != data.manifest.sha256:
        raise InputError(
            f"{run} was trained on another dataset ({manifest.parent[:12]}) than {data.path} "
            f"({data.manifest.sha256[:12]}): train again, or export with the dataset of the run"
        )
    model, name, _ = load_run(run)
    if not isinstance(model, OutcomeModel):
        raise InputError(f"{run} trained {name}, a {MODELS[name].kind}: expected an outcome model")
    trained = manifest.config.get("train", {}).get("life", {}).get("task", "outcomes")
    if trained != "outcomes":
        raise InputError(
            f"{run} is a pre-training: it has not seen a label; fine-tune with [train] start_from"
        )
    return model, name, manifest.sha256


def _predictor(directory: Path, draft: Manifest, spec: OutcomeSpec) -> OutcomePredictor:
    manifest = draft.model_copy(update={"outcomes": spec})
    return OutcomePredictor(Bundle(directory, manifest, ""))


def sample_documents(num_tokens: int, batch: int, longest: int) -> LifeBatch:
    """Random documents; the first has `longest` tokens, the others up to as many."""
    rng = np.random.default_rng(longest)
    lengths = np.array([longest, *rng.integers(2, longest + 1, batch - 1)])
    real = np.arange(longest) < lengths[:, None]
    tokens = rng.integers(1, num_tokens, real.shape) * real
    days = np.cumsum(rng.integers(0, 60, real.shape), axis=1) * real
    ages = (days / 365.25 + 40) * real
    segments = rng.integers(1, 4, real.shape) * real
    whole = (torch.from_numpy(x) for x in (tokens, segments))
    clocks = [torch.from_numpy(x.astype(np.float32)) for x in (days, ages)]
    tokens_BL, segments_BL = whole
    return LifeBatch(tokens_BL, clocks[0], clocks[1], segments_BL)


def _inputs(model: OutcomeModel, batch: LifeBatch) -> list[Tensor]:
    return [getattr(batch, name) for name in model.life_inputs]


def export_graph(model: OutcomeModel, num_tokens: int, path: Path) -> None:
    """Write the graph to `path`: any batch, any length, weights and random features inside."""
    example = _inputs(model, sample_documents(num_tokens, 3, 7))
    dynamic = tuple({0: "batch", 1: "length"} for _ in example)
    names = (model.life_inputs, ("probabilities", "person"))
    write_graph(Predictor(model), example, names, {"values": dynamic}, path)


def measure_parity(model: OutcomeModel, num_tokens: int, path: Path) -> tuple[Parity, ...]:
    """Compare the graph with the model at several lengths, prime and longest included.

    Raises BundleError where they differ by more than rounding.
    """
    graph, results = open_graph(path), []
    for batch in BATCHES:
        for length in sorted({2, min(PRIME, model.max_len), model.max_len}):
            documents = sample_documents(num_tokens, batch, length)
            with torch.inference_mode():
                torch_BX = torch.cat(Predictor(model)(*_inputs(model, documents)), 1).numpy()
            results.append(_compare(graph, model, documents, torch_BX))
    return tuple(results)


def _compare(
    graph: ort.InferenceSession,
    model: OutcomeModel,
    documents: LifeBatch,
    torch_BX: NDArray[np.float32],
) -> Parity:
    names = zip(model.life_inputs, _inputs(model, documents), strict=True)
    outputs = graph.run(None, {name: x.numpy() for name, x in names})
    found_BX = np.concatenate([np.asarray(x) for x in outputs], axis=1)
    scale = float(np.abs(torch_BX).max())
    difference = float(np.abs(found_BX - torch_BX).max())
    batch, length = documents.tokens.shape
    if not difference <= TOLERANCE * max(scale, 1.0):  # also when it is nan
        raise BundleError(
            f"the exported graph differs from the model by {difference:.2g} for {batch} documents "
            f"of {length} tokens (values up to {scale:.2g}): not published"
        )
    return Parity(batch=batch, length=length, max_abs_difference=difference, scale=scale)


def unchanged(outcome: OutcomeColumn) -> Calibration:
    """The calibration that leaves probabilities as they are."""
    width = len(outcome.columns)
    kind = "binary" if width == 1 else "classes"
    offsets = (0.0,) * width
    return Calibration(name=outcome.name, kind=kind, slope=1.0, offsets=offsets, persons=0)


def fit_calibration(
    predictor: OutcomePredictor, data: Lives
) -> tuple[tuple[Calibration, ...], dict[str, Any]]:
    """Slope and offsets of each outcome on the validation cases, and what they gained (nats)."""
    rows = data.rows(SPLITS[1])
    raw_BP, labels_BT = predictor.raw(data.documents(rows)), data.labels(rows)
    fitted, report, first = [], {}, 0
    for t, outcome in enumerate(data.schema.outcomes):
        start = unchanged(outcome)
        columns = slice(first, first + start.width)
        known = ~np.isnan(labels_BT[:, t])
        label_B = labels_BT[known, t].astype(np.int64)
        p_BK = raw_BP[known, columns].astype(np.float64)
        found = fit_one(start, p_BK, label_B, outcome.classes)
        losses = {n: _loss(c, p_BK, label_B) for n, c in (("before", start), ("after", found))}
        report[outcome.name] = {**losses, "persons": int(known.sum()), "slope": found.slope}
        log.info("%s: calibrated on %d persons, log-loss %.4f to %.4f",
                 outcome.name, known.sum(), losses["before"], losses["after"])  # fmt: skip
        fitted.append(found)
        first += start.width
    return tuple(fitted), report


def fit_one(
    start: Calibration, p_BK: NDArray[np.float64], label_B: NDArray[np.int64], classes: int
) -> Calibration:
    """Slope and offsets for labels (B,) of predicted columns (B, K); `start` where too few."""
    counts = np.bincount(label_B, minlength=classes)
    if len(label_B) < MIN_CALIBRATION or counts.min() < 5:
        log.warning("%s: %d labels of classes %s are too few to calibrate on",
                    start.name, len(label_B), counts.tolist())  # fmt: skip
        return start

    def candidate(x: NDArray[np.float64], persons: int = 0) -> Calibration:
        return start.model_copy(
            update={
                "slope": float(np.exp(x[0])),
                "offsets": tuple(float(o) for o in x[1:]),
                "persons": persons,
            }
        )

    def cost(x: NDArray[np.float64]) -> float:
        return _loss(candidate(x), p_BK, label_B) + RIDGE * float((x**2).sum())

    best = minimize(cost, np.zeros(1 + start.width), method="L-BFGS-B")
    return candidate(best.x, len(label_B))


def _loss(calibration: Calibration, p_BK: NDArray[np.float64], label_B: NDArray[np.int64]) -> float:
    score_BK = log_odds(calibration, p_BK)
    top_B1 = score_BK.max(1, keepdims=True)
    norm_B = top_B1[:, 0] + np.log(np.exp(score_BK - top_B1).sum(1))
    likelihood_B = score_BK[np.arange(len(label_B)), label_B] - norm_B
    return float(-np.maximum(likelihood_B, np.log(SMALLEST)).mean()) if len(label_B) else 0.0


def answer_golden(predictor: OutcomePredictor, count: int) -> tuple[GoldenOutcome, ...]:
    """`count` random documents with their answers: a bundle holds no person's real history."""
    results = []
    for number in range(count):
        length = min(len(predictor.schema.background) + 2 + 7 * number, predictor.spec.max_len)
        num_tokens = max(predictor.schema.num_tokens, len(GENERAL) + 1)
        batch = sample_documents(num_tokens, 1, max(length, 2))
        arrays = {name: getattr(batch, name).numpy() for name in predictor.spec.inputs}
        expected = predictor.answer(arrays)[0]
        results.append(
            GoldenOutcome(
                **{name: tuple(x[0].tolist()) for name, x in arrays.items()},
                expected=tuple(float(p) for p in expected),
            )
        )
    return tuple(results)
