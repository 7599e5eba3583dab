"""The kinds of model: what each trains from, and what its configuration takes from the data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from pydantic import TypeAdapter, ValidationError
from torch import nn

from features.errors import InputError
from features.life_store import Lives
from features.store import Dataset
from recsys.models import MODELS
from recsys.models.interface import Column
from recsys.models.tasks import TaskSpec
from recsys.training.config import TrainConfig
from recsys.training.outcomes import OutcomeTask, lives_facts
from recsys.training.playlist_stages import bow_stages, seq2seq_stages
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask
from recsys.training.task import Stage, Task
from recsys.training.text_stages import recformer_stages


@dataclass(frozen=True, slots=True)
class Kind:
    """How models of one kind are trained."""

    open: Callable[[Path], Any]
    """Opens the directory it trains from; the result has a `manifest`."""
    facts: Callable[[Any], Mapping[str, Any]]
    """Of the opened data: values for the model's configuration, by the names of its fields."""
    task: Callable[[Fabric, nn.Module, TrainConfig, Any], Task]
    """What to learn, for one rank."""


def dataset_facts(data: Dataset) -> dict[str, Any]:
    """What a model may need to know of a `dataset/` to choose its sizes."""
    schema = data.schema
    return {
        "num_items": schema.num_items,
        "num_behaviours": len(schema.event_types),
        "event_types": schema.event_types,
        "columns": tuple(
            Column(name=c.name, kind=c.kind, size=c.size, width=c.width)
            for c in schema.item_columns
        ),
    }


def training_facts(config: TrainConfig) -> dict[str, Any]:
    """What a model may need to know of its training: the tasks, where there are several."""
    tasks = config.ranking.tasks
    specs = tuple(TaskSpec(name=t.name, events=t.events, among=t.among) for t in tasks)
    return {"tasks": specs or (TaskSpec(name="target"),)}


StagesOf = Callable[[Fabric, nn.Module, TrainConfig, Any], Sequence[Stage]]
OWN_STAGES: dict[str, StagesOf] = {
    "recformer": recformer_stages,
    "playlist_seq2seq": seq2seq_stages,
    "playlist_bow": bow_stages,
}
"""Models that are trained in another way than others of their kind."""

KINDS: dict[str, Kind] = {
    "retriever": Kind(Dataset.open, dataset_facts, RetrievalTask.of),
    "ranker": Kind(Dataset.open, dataset_facts, RankingTask.of),
    "outcome": Kind(Lives.open, lives_facts, OutcomeTask.of),
}


def kind_of(name: str) -> Kind:
    """The kind of model `name`. Raises InputError for a name that is not in MODELS."""
    if name not in MODELS:
        raise InputError(f"model.name = {name!r} is unknown: choose one of {', '.join(MODELS)}")
    return KINDS[MODELS[name].kind]


def stages_of(
    name: str, fabric: Fabric, model: nn.Module, config: TrainConfig, data: Any
) -> Sequence[Stage]:
    """The stages in which model `name` is trained. Raises InputError where the data do not fit."""
    if name in OWN_STAGES:
        return OWN_STAGES[name](fabric, model, config, data)
    return (Stage("", kind_of(name).task(fabric, model, config, data), config),)


def model_config(name: str, options: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
    """The configuration of model `name`: the user's options, and what the data says.

    Raises InputError for a wrong key or value.
    """
    config = MODELS[name].config
    taken = {field.name for field in fields(config)} & facts.keys()
    if given := sorted(taken & options.keys()):
        raise InputError(
            f"model.{given[0]} is read from the dataset or from [train.ranking]: delete the key"
        )
    known = {key: facts[key] for key in taken}
    try:
        return TypeAdapter(config).validate_python({**options, **known})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(["model", *(str(part) for part in problem["loc"])])
        raise InputError(f"{key}: {problem['msg']} (found {problem['input']!r})") from error
