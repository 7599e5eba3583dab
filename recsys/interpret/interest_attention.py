"""Where a ranker of long histories looks, beside where the information is.

For one field (a category of items) the model's attention score of every target value, behaviour
value and recency rank is read off its tables: the field and the time alone, the item left out, as
in the reference. Beside it stands their mutual information over training moments; and for held-out
moments, how well the search by those scores finds the informative events (NDCG), with recency alone
and a random order to compare with.

Shape suffixes: those of `interest_information.py`; R moments, C candidates, L events, W values of
an item's field.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError
from features.store import Dataset
from recsys.interpret.interest_information import Cooccurrence, Floats, ranking_ndcg
from recsys.models.interest import InterestRanker
from recsys.training.config import RankingConfig
from recsys.training.examples import Examples, held_out_examples
from recsys.training.moments import Chosen, NegativeSampler, training_moments
from recsys.training.run import load_run

BLOCK = 512
"""Moments counted at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSizes:
    """How much is counted and drawn."""

    positions: int = 30
    """Recency ranks, from the newest event on."""
    values: int = 20
    """Most frequent values of the field."""
    k: int = 20
    """Cut-off of the NDCG, in events."""
    min_rows: int = 700
    """Candidates of a target value, for it to be judged."""
    moments: int = 20_000
    """Training moments counted, and held-out moments judged, at most."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Attention:
    """One run's attention and the truth beside it; values by name, arrays (T, V, P)."""

    field: str
    values: tuple[str, ...]
    judged: NDArray[np.bool_]
    """Target values, (T,), with enough candidates."""
    information: Floats
    """Bits."""
    scores: Floats
    """Attention before the softmax."""
    ndcg: dict[str, float]
    """Of `model`, `recency` and `random` orders, mean over judged moments."""
    moments: int
    """That were judged."""

    @property
    def weights(self) -> Floats:
        """Softmax of the scores over behaviours and ranks, by target."""
        shape = self.scores.shape
        flat = self.scores.reshape(shape[0], -1)
        found = np.exp(flat - flat.max(1, keepdims=True))
        return (found / found.sum(1, keepdims=True)).reshape(shape)


class Values:
    """Indicators of the chosen values of an item's field; codes below 2 say nothing."""

    def __init__(self, data: Dataset, field: str, sizes: AttentionSizes) -> None:
        columns = {c.name: c for c in data.schema.item_columns}
        usable = [c.name for c in columns.values() if c.kind in ("category", "categories")]
        if field not in usable:
            raise InputError(f"--field {field!r} is no category of the items: choose from {usable}")
        table = data.item_table[field].astype(np.int64)
        codes_NW = table.reshape(len(table), -1)
        counts = np.bincount(codes_NW[data.items].reshape(-1), minlength=columns[field].size)
        counts[:2] = 0
        order = np.argsort(-counts, kind="stable")[: sizes.values]
        self.codes = order[counts[order] > 0]
        names = data.vocabulary(field).to_pylist()
        self.names = tuple(str(names[code - 2]) for code in self.codes)
        self.of_item_NV = (codes_NW[:, :, None] == self.codes).any(1)


def recent_items(data: Dataset, examples: Examples, positions: int) -> NDArray[np.int64]:
    """Items of each moment's history by recency rank, (R, P), 0 beyond its first event."""
    moments = examples.moments
    rows_RP = moments.cuts[:, None] - 1 - np.arange(positions)
    real_RP = rows_RP >= moments.starts[:, None]
    return np.where(real_RP, data.items[np.maximum(rows_RP, 0)], 0).astype(np.int64)


def count(data: Dataset, examples: Examples, values: Values, positions: int) -> Cooccurrence:
    """All candidates of the examples, each with the history before it."""
    found = []
    for first in range(0, len(examples.candidates), BLOCK):
        block = examples.take(slice(first, first + BLOCK))
        moment_N, place_N = np.nonzero(block.known[..., 0])
        behaviours_RPV = values.of_item_NV[recent_items(data, block, positions)]
        found.append(
            Cooccurrence.count(
                values.of_item_NV[block.candidates[moment_N, place_N]],
                behaviours_RPV.transpose(0, 2, 1)[moment_N],
                block.labels[moment_N, place_N, 0] > 0.5,
            )
        )
    total = found[0]
    for one in found[1:]:
        total = total + one
    return total


def field_scores(model: InterestRanker, field: str, codes: NDArray, positions: int) -> Floats:
    """Attention scores (T, V, P) of one field and the time. Raises InputError without the field."""
    tables = model.attention
    names = [column.name for column in tables.columns]
    if field not in names:
        raise InputError(f"the run does not embed {field!r}: its fields are {names}")
    place = names.index(field) + 1
    with torch.inference_mode():
        weight = tables.tables.weight(f"column_{place - 1}")[torch.from_numpy(codes)]
        query_1TA = torch.zeros(1, len(codes), tables.width)
        query_1TA[..., place * tables.dim : (place + 1) * tables.dim] = weight
        tensors = {"query": query_1TA, "target": query_1TA, "key": query_1TA / tables.width**0.5}
        relevance_TV = model.relevance(tensors)[0].double().numpy()
        bias_P = np.zeros(positions)
        if model.timed:
            ranks = torch.arange(1, positions + 1)
            bias_P = (tables.time(ranks) @ tables.now() / tables.dim**0.5).double().numpy()
    return relevance_TV[:, :, None] + bias_P


def measure_attention(
    run: Path, dataset: Path, field: str, config: RankingConfig, sizes: AttentionSizes
) -> Attention:
    """Raises InputError where the run is no ranker of long histories, or lacks the field."""
    model, name, _ = load_run(run)
    if not isinstance(model, InterestRanker):
        raise InputError(
            f"{run} trained {name}: attention is read off dare, twin, din and the like"
        )
    data = Dataset.open(dataset)
    values = Values(data, field, sizes)
    scores = field_scores(model, field, values.codes, sizes.positions)
    draw = np.random.default_rng(sizes.seed)
    moments = training_moments(data, config)
    moments = moments.take(np.sort(draw.permutation(len(moments))[: sizes.moments]))
    sampler = NegativeSampler(data, config, Chosen(data, data.cuts["train_end"]))
    learnt = Examples.sampled(data, moments, sampler.draw(moments, draw))
    counted = count(data, learnt, values, sizes.positions)
    held_out = held_out_examples(data, "test", config, sizes.seed)
    rows = np.sort(draw.permutation(len(held_out.moments))[: sizes.moments])
    found = Attention(
        field, values.names, counted.frequent(sizes.min_rows), counted.information(), scores, {}, 0
    )
    return judged(found, data, held_out.take(rows), values, sizes)


def judged(
    attention: Attention, data: Dataset, held_out: Examples, values: Values, sizes: AttentionSizes
) -> Attention:
    """With the NDCG of the held-out targets' histories. An event's gain and score are means over
    the pairs of its values and the target's; a target whose values are too rare is left out.
    """
    draw = np.random.default_rng(sizes.seed)
    items_RP = recent_items(data, held_out, sizes.positions)
    recency_P = -np.arange(sizes.positions, dtype=np.float64)
    found: dict[str, list[float]] = {"model": [], "recency": [], "random": []}
    for target, row_P in zip(held_out.candidates[:, 0], items_RP, strict=True):
        wanted_T = values.of_item_NV[target] & attention.judged
        real_P = (row_P > 0) & values.of_item_NV[row_P].any(1)
        if not wanted_T.any() or not real_P.any():
            continue
        of_event_PV = values.of_item_NV[row_P[real_P]].astype(np.float64)
        of_event_PV /= of_event_PV.sum(1, keepdims=True)
        places = np.flatnonzero(real_P)
        gains, scores = (
            np.einsum("pv,vp->p", of_event_PV, table[wanted_T].mean(0)[:, places])
            for table in (attention.information, attention.scores)
        )
        orders = {"model": scores, "recency": recency_P[places], "random": draw.random(len(places))}
        for name, order in orders.items():
            found[name].append(ranking_ndcg(gains, order, sizes.k))
    if not found["model"]:
        raise InputError(
            f"no held-out target has a value of {attention.field!r} with {sizes.min_rows} training "
            f"candidates: lower --min-rows"
        )
    means = {name: float(np.nanmean(x)) for name, x in found.items()}
    return replace(attention, ndcg=means, moments=len(found["model"]))


def write_attention(found: Attention, out: Path, target: str) -> str:
    """Write attention.json and attention.html (two heat maps of one target value) into `out`.

    target: a value of the field; empty takes the judged one with the most information. Returns it.
    """
    strength_T = np.where(found.judged, found.information.max((1, 2)), -1)
    chosen = target or found.values[int(strength_T.argmax())]
    if chosen not in found.values:
        raise InputError(f"--target {chosen!r} is not among the values {list(found.values)}")
    row = found.values.index(chosen)
    out.mkdir(parents=True)
    content = {
        "field": found.field, "values": found.values, "ndcg": found.ndcg, "moments": found.moments,
        "information_bits": found.information.tolist(), "scores": found.scores.tolist(),
    }  # fmt: skip
    (out / "attention.json").write_text(json.dumps(content))
    figure = heat_maps(found, row)
    figure.write_html(out / "attention.html", include_plotlyjs=True)
    return chosen


def heat_maps(found: Attention, row: int) -> Any:
    """Mutual information on the left, attention on the right; a plotly figure."""
    from plotly.graph_objects import Heatmap  # noqa: PLC0415 - half a second, for this alone
    from plotly.subplots import make_subplots  # noqa: PLC0415

    titles = ("mutual information, bits", "attention, share")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, shared_yaxes=True)
    ranks = list(range(1, found.scores.shape[2] + 1))
    for place, table in enumerate((found.information, found.weights)):
        bar = {"x": 0.45 + 0.55 * place, "len": 0.9}
        heat = Heatmap(
            z=table[row], x=ranks, y=list(found.values), colorscale="Viridis", colorbar=bar
        )
        figure.add_trace(heat, row=1, col=place + 1)
    ndcg = ", ".join(f"{name} {value:.3f}" for name, value in found.ndcg.items())
    figure.update_xaxes(title_text="recency rank, 1 is the newest event")
    figure.update_layout(
        title=f"What speaks for {found.field} = {found.values[row]} (NDCG of the search: {ndcg})",
        height=200 + 22 * len(found.values),
    )
    return figure
