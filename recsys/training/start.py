"""Initial weights: those of a finished run, or of a published model in a local folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from features.errors import InputError
from features.layout import TOKENIZER, DatasetSchema
from features.stage import MANIFEST, file_sha256, read_manifest, verify_files
from recsys.models.bert_weights import Numbering, convert
from recsys.models.recformer import Recformer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
CLS, MASK = ("[CLS]", "<s>"), ("[MASK]", "<mask>")
ROBERTA_LIKE = ("roberta", "longformer", "xlm-roberta", "camembert")
"""Models whose first token has the position after that of padding."""


def start_from(source: Path, name: str, model: nn.Module, dataset: Path) -> None:
    """Load the weights at `source` into `model`, which reads items of `dataset`.

    Raises InputError where there is nothing to load, or where it does not fit.
    """
    if not source.is_dir():
        raise InputError(
            f"train.start_from = '{source}' is not a directory: expected a run made by "
            f"`recsys train`, or a folder with *.safetensors and tokenizer.json"
        )
    if (source / MANIFEST).exists():
        _from_run(source, name, model, dataset)
    elif isinstance(model, Recformer):
        _from_published(source, model, dataset)
    else:
        raise InputError(
            f"train.start_from = '{source}' is no run made by `recsys train`, and {name} does not "
            f"start from a published model"
        )


def identity_of(source: Path) -> Mapping[str, str]:
    """Names and hashes of the weights that `start_from` reads."""
    return {path.name: file_sha256(path) for path in sorted(source.glob("*.safetensors"))}


def _from_run(source: Path, name: str, model: nn.Module, dataset: Path) -> None:
    verify_files(source, read_manifest(source, "run"))
    trained = json.loads((source / CONFIG).read_text())["model"]["name"]
    if trained != name:
        raise InputError(f"train.start_from = '{source}' trained {trained}, the config {name}")
    if isinstance(model, Recformer):
        _same_tokenizer(source, dataset)
    weights, own = load_file(source / WEIGHTS), model.state_dict()
    for key in sorted(own.keys() | weights.keys()):
        found, wanted = weights.get(key), own.get(key)
        if found is None or wanted is None or found.shape != wanted.shape:
            raise InputError(
                f"the weights of {source} do not fit: {key} is {_shape(found)} there and "
                f"{_shape(wanted)} in the model: give [model] the sizes of that run"
            )
    model.load_state_dict(weights)


def _from_published(source: Path, model: Recformer, dataset: Path) -> None:
    tokenizer = _same_tokenizer(source, dataset)
    weights: dict[str, Tensor] = {}
    for path in sorted(source.glob("*.safetensors")):
        try:
            weights |= load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} cannot be read: {error}") from error
    numbering = Numbering(
        cls=_token_id(tokenizer, CLS, source),
        mask=_token_id(tokenizer, MASK, source),
        offset=_offset(dataset),
        first_position=_first_position(source),
    )
    try:
        model.encoder.load_state_dict(convert(weights, model.encoder, numbering))
    except ValueError as error:
        raise InputError(f"the weights in {source} do not fit: {error}") from error
    model.freeze_items()


def _offset(dataset: Path) -> int:
    columns = DatasetSchema.read(dataset).item_columns
    return next(column.offset for column in columns if column.kind == "sentence")


def _first_position(source: Path) -> int:
    config: Mapping[str, Any] = {}
    if (source / CONFIG).is_file():
        config = json.loads((source / CONFIG).read_text())
    if config.get("model_type", "bert") in ROBERTA_LIKE:
        return int(config.get("pad_token_id", 1)) + 1
    return 0


def _token_id(tokenizer: Tokenizer, names: tuple[str, ...], source: Path) -> int:
    for name in names:
        if (found := tokenizer.token_to_id(name)) is not None:
            return found
    raise InputError(f"{source / TOKENIZER} has none of the tokens {', '.join(names)}")


def _same_tokenizer(source: Path, dataset: Path) -> Tokenizer:
    """The tokenizer of `source`; raises InputError unless `dataset` was built with it."""
    for path in (source / TOKENIZER, dataset / TOKENIZER):
        if not path.is_file():
            raise InputError(f"{path} is missing: the words of the weights cannot be told")
    theirs = Tokenizer.from_file(str(source / TOKENIZER))
    ours = Tokenizer.from_file(str(dataset / TOKENIZER))
    if theirs.get_vocab() != ours.get_vocab():
        raise InputError(
            f"{dataset} was built with another tokenizer than {source} has: set tokenizer = "
            f"'{source / TOKENIZER}' in [features] and build it again"
        )
    return theirs


def _shape(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
