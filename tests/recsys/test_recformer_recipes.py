"""Every shipped recipe of Recformer, from data to report, on a few users for a few steps."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

REAL = Path(os.environ.get("RECSYS_DATA") or Path(__file__).parents[3] / "shared" / "datasets")
CONFIGS = Path(__file__).parents[2] / "configs"
FROM_NOTHING = ["beauty", "scientific", "steam", "toys"]
USERS = 24
SHARES = ("hit_rate@10", "ndcg@10", "auc")
WORDS, DIM, HIDDEN, BLOCKS, POSITIONS = 400, 384, 1536, 6, 512
"""Of all-MiniLM-L6-v2, but for the vocabulary."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not REAL.is_dir(),
        reason="the real data sets are neither in RECSYS_DATA nor beside the repository",
    ),
]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the recipes' relative paths lead."""
    monkeypatch.setenv("RECSYS_DATA", str(REAL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reduced(name: str, folder: Path) -> Path:
    """The recipe with few users, one epoch a stage and small batches; its model as it is.

    The rate is higher and not warmed up, so that the few steps tell the items apart: the export
    refuses vectors that are all alike.
    """
    text = (CONFIGS / f"{name}.toml").read_text()
    text = text.replace("[features]", f"[features]\nusers = {USERS}")
    text = re.sub(r"\b(max_epochs|contrast_epochs|min_item_events) = \d+", r"\1 = 1", text)
    text = re.sub(r"\bbatch_size = \d+", "batch_size = 8", text)
    text = re.sub(r"\bwarmup_steps = \d+", "warmup_steps = 1", text)
    text = re.sub(r"\blearning_rate = \S+", "learning_rate = 3e-3", text)
    if "validation_users" not in text:
        text = text.replace("[train]", "[train]\nvalidation_users = 10")
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def run(*arguments: str | Path) -> None:
    """The command as it is typed, in a process of its own."""
    verb = Path(sys.executable).parent / "recsys"
    result = subprocess.run(
        [str(verb), *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2_000:]


def check_report(root: Path) -> None:
    """The report measures as many users as were kept, and its figures are shares."""
    report = json.loads((root / "report" / "metrics.json").read_text())
    (bundle,) = [system for system in report["systems"] if system["name"] == "bundle"]
    shares = [found for name, found in bundle["estimates"].items() if name in SHARES]
    assert len(shares) == len(SHARES)
    assert 0 < report["counts"]["cases"] <= USERS
    assert all(0 <= found["value"] <= 1 for found in shares), shares


def stages_of(root: Path) -> set[str]:
    """Names of the folders with a log of training, the run's own as an empty name."""
    run = root / "run"
    logs = [path.parent.relative_to(run) for path in run.rglob("metrics.jsonl")]
    return {"" if str(log) == "." else str(log) for log in logs}


@pytest.mark.parametrize("name", FROM_NOTHING)
def test_mini_from_nothing(name: str, workspace: Path) -> None:
    run("run", reduced(f"recformer-mini-{name}", workspace), "--out", "out")
    assert stages_of(workspace / "out") == {"contrast", "stage-1", "stage-2"}
    check_report(workspace / "out")


def test_pre_training_and_its_zero_shot_use(workspace: Path) -> None:
    """The steps of docs/recformer.md."""
    for part, tokenizer in (("toys", ""), ("health", "work/toys/dataset/tokenizer.json")):
        config = Path(f"{part}.toml")
        config.write_text(
            f"""
            [data]
            source = "amazon-2014"
            part = "{part}"
            [features]
            users = {USERS}
            split = {{ name = "leave-one-out" }}
            sentence = ["title"]
            tokenizer = "{tokenizer}"
            """
        )
        run("data", config, "--out", f"work/{part}/events")
        dataset = f"work/{part}/dataset"
        run("features", config, "--events", f"work/{part}/events", "--out", dataset)
    run("run", reduced("recformer-pretrain", workspace), "--out", "work/pre")
    run("run", reduced("recformer-zero-shot-scientific", workspace), "--out", "work/zero")
    assert stages_of(Path("work/pre")) == {""}
    for root in (Path("work/pre"), Path("work/zero")):
        check_report(root)
    trained, used = (load_file(f"work/{run}/run/model.safetensors") for run in ("pre", "zero"))
    assert all(torch.equal(trained[name], used[name]) for name in trained)


def test_fine_tuning_of_published_weights(workspace: Path) -> None:
    """Weights of all-MiniLM-L6-v2's shape, drawn at random: the file is not part of the data."""
    source = workspace / "work" / "all-MiniLM-L6-v2"
    source.mkdir(parents=True)
    titles = pl.read_parquet(REAL / "amazon2018_scientific" / "items.parquet")["title"].to_list()
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=special)  # pyright: ignore
    tokenizer.train_from_iterator([title for title in titles if title], trainer)
    tokenizer.save(str(source / "tokenizer.json"))
    torch.manual_seed(0)
    save_file(weights_of_bert(tokenizer.get_vocab_size()), source / "model.safetensors")
    run("run", reduced("recformer-minilm-scientific", workspace), "--out", "out")
    assert stages_of(workspace / "out") == {"stage-1"}
    check_report(workspace / "out")


def weights_of_bert(words: int) -> dict[str, torch.Tensor]:
    """Of BERT's names and MiniLM's sizes."""

    def linear(name: str, wide: int, narrow: int) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": 0.02 * torch.randn(wide, narrow),
            f"{name}.bias": torch.zeros(wide),
        }

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(DIM), f"{name}.bias": torch.zeros(DIM)}

    weights = norm("embeddings.LayerNorm")
    for name, rows in (("word", words), ("position", POSITIONS), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = 0.02 * torch.randn(rows, DIM)
    for block in range(BLOCKS):
        at = f"encoder.layer.{block}"
        for part in ("query", "key", "value"):
            weights |= linear(f"{at}.attention.self.{part}", DIM, DIM)
        weights |= linear(f"{at}.attention.output.dense", DIM, DIM)
        weights |= linear(f"{at}.intermediate.dense", HIDDEN, DIM)
        weights |= linear(f"{at}.output.dense", DIM, HIDDEN)
        weights |= norm(f"{at}.attention.output.LayerNorm") | norm(f"{at}.output.LayerNorm")
    return weights
