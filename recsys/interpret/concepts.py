"""Does a concept push predictions up? TCAV (Kim et al., ICML 2018) with a random control.

A concept is the set of persons whose history holds a token. A linear classifier tells their states
after a block from those of random persons; its direction is the concept's. For other persons, the
derivative of the outcome's log-odds along that direction says whether more of the concept means
more of the outcome. The score is the share of persons where it does.

Whether that is more than chance is decided by the alignment, the mean cosine between gradient and
direction: bags of persons give a distribution of it, and concepts made of random persons one of
chance. The share itself cannot decide: where all gradients point alike, as they do in a nearly
linear model, it is close to 0 or 1 for any direction, random ones included.

Departures from life2vec: that decision; bags of 50 instead of 1,000 fits by default; the state of a
document is the mean over its positions, so that a direction means the same at every length.

Shape suffixes: N persons, D width.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from features.errors import InputError
from recsys.interpret.opened import OpenedRun

BATCH = 64
MIN_PERSONS = 10
"""With a concept, and without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcavSizes:
    """How much is drawn."""

    layer: int = -1
    """Block after which states are taken; -1: the last."""
    concept: int = 300
    """Persons with the concept, and as many random ones."""
    persons: int = 300
    """Persons whose predictions are asked."""
    bags: int = 50
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptScore:
    """One concept's push on one outcome."""

    concept: str
    outcome: str
    persons: int
    """With the concept, among those looked at."""
    accuracy: float
    """Of the classifiers on persons outside their bag: near .5 the concept has no direction."""
    score: float
    """Median over bags of the share of persons that it pushes up."""
    alignment: float
    """Median over bags of the mean cosine between gradient and direction."""
    low: float
    high: float
    """Middle 95 % of the bags' alignments."""
    random_low: float
    random_high: float
    """The same of concepts made of random persons."""

    @property
    def verdict(self) -> str:
        """`up`, `down`, or `as chance` where the ranges overlap."""
        if self.low > self.random_high:
            return "up"
        return "down" if self.high < self.random_low else "as chance"


def states_of(
    opened: OpenedRun, rows: NDArray[np.int64], layer: int, column: int | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean states (N, D) after a block; with a column also the log-odds' gradient along a shift of
    all positions, (N, D).
    """
    states, gradients = [], []
    blocks = list(opened.model.blocks)
    for first in range(0, len(rows), BATCH):
        batch = opened.batch(rows[first : first + BATCH])
        real_BL = batch.real
        with torch.no_grad():
            x_BLD = opened.model.embedding(batch)
            for block in blocks[: layer + 1]:
                x_BLD = block(x_BLD, real_BL)
        mean_BD = (x_BLD * real_BL[..., None]).sum(1) / real_BL.sum(1, keepdim=True)
        states.append(mean_BD.numpy())
        if column is None:
            continue
        shift_BD = torch.zeros_like(mean_BD, requires_grad=True)
        moved_BLD = x_BLD + shift_BD[:, None] * real_BL[..., None]
        for block in blocks[layer + 1 :]:
            moved_BLD = block(moved_BLD, real_BL)
        person_BD = opened.model.pooling(moved_BLD, real_BL)
        (gradient_BD,) = torch.autograd.grad(opened.log_odds(person_BD, column).sum(), shift_BD)
        gradients.append(gradient_BD.numpy())
    none = np.zeros((0, opened.model.dim), np.float32)
    return np.concatenate(states), np.concatenate(gradients) if gradients else none


def score_concepts(
    opened: OpenedRun, concepts: list[str], outcome: str, sizes: TcavSizes
) -> list[ConceptScore]:
    """The push of each concept on an outcome. Raises InputError for one too rare or too common."""
    column, draw = opened.column(outcome), np.random.default_rng(sizes.seed)
    num_blocks = len(opened.model.blocks)
    if not -1 <= sizes.layer < num_blocks:
        raise InputError(f"layer={sizes.layer} is not in 0..{num_blocks - 1} (-1: the last)")
    layer = sizes.layer if sizes.layer >= 0 else num_blocks - 1
    held = opened.data.rows("validation")
    asked = draw.permutation(opened.data.rows("test"))[: sizes.persons]
    _, gradient_ND = states_of(opened, asked, layer, column)
    state_ND, _ = states_of(opened, held, layer, None)
    holds = {name: _holders(opened, held, opened.token(name)) for name in concepts}
    _, random, _ = _bags(state_ND, None, gradient_ND, sizes, draw)
    random_low, random_high = np.quantile(random, [0.025, 0.975])
    found = []
    for name, has_N in holds.items():
        if min(has_N.sum(), (~has_N).sum()) < MIN_PERSONS:
            raise InputError(
                f"{name}: {has_N.sum()} of {len(held)} validation persons have it; at least "
                f"{MIN_PERSONS} with and without are needed"
            )
        scores, aligned, accuracy = _bags(state_ND, has_N, gradient_ND, sizes, draw)
        low, middle, high = np.quantile(aligned, [0.025, 0.5, 0.975])
        found.append(
            ConceptScore(
                concept=name,
                outcome=opened.column_name(column),
                persons=int(has_N.sum()),
                accuracy=accuracy,
                score=float(np.median(scores)),
                alignment=float(middle),
                low=float(low),
                high=float(high),
                random_low=float(random_low),
                random_high=float(random_high),
            )
        )
    return found


def _holders(opened: OpenedRun, rows: NDArray[np.int64], token: int) -> NDArray[np.bool_]:
    """Which cases have the token before their landmark, background included."""
    batch_rows = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    return np.concatenate(
        [(opened.batch(part).tokens == token).any(1).numpy() for part in batch_rows]
    )


def _bags(
    state_ND: NDArray[np.float32],
    has_N: NDArray[np.bool_] | None,
    gradient_ND: NDArray[np.float32],
    sizes: TcavSizes,
    draw: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Score and alignment of each bag, and the mean accuracy outside it.

    has_N None: concepts of random persons.
    """
    scale_D = state_ND.std(0) + 1e-9
    x_ND = state_ND / scale_D
    along_ND = gradient_ND * scale_D
    along_ND = along_ND / np.linalg.norm(along_ND, axis=1, keepdims=True).clip(1e-12)
    scores, aligned, right = [], [], []
    for _ in range(sizes.bags):
        has = draw.permutation(len(x_ND)) < len(x_ND) // 2 if has_N is None else has_N
        size = min(sizes.concept, int(0.8 * has.sum()), int(0.8 * (~has).sum()))
        bag = np.concatenate(
            [draw.permutation(np.flatnonzero(own))[: max(size, 2)] for own in (has, ~has)]
        )
        model = LogisticRegression(C=0.1, max_iter=200).fit(x_ND[bag], has[bag])
        outside = np.setdiff1d(np.arange(len(x_ND)), bag)
        said = model.predict(x_ND[outside])
        halves = [
            (said[has[outside] == own] == own).mean()
            for own in (True, False)
            if (has[outside] == own).any()
        ]
        right.append(np.mean(halves) if halves else np.nan)
        cosine_N = along_ND @ (model.coef_[0] / max(float(np.linalg.norm(model.coef_[0])), 1e-12))
        scores.append((cosine_N > 0).mean())
        aligned.append(cosine_N.mean())
    return np.array(scores), np.array(aligned), float(np.nanmean(right))


def write_concepts(
    run: Path, lives: Path, concepts: list[str], outcome: str, sizes: TcavSizes, out: Path
) -> list[ConceptScore]:
    """Score concepts and write them as JSON to `out`. Raises InputError."""
    found = score_concepts(OpenedRun.open(run, lives), concepts, outcome, sizes)
    rows = [asdict(one) | {"verdict": one.verdict} for one in found]
    out.write_text(json.dumps({"sizes": asdict(sizes), "concepts": rows}, indent=1) + "\n")
    return found
