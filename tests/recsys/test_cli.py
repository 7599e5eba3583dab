"""The command line as people script it: verbs and options are frozen, mistakes are sentences."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from recsys.cli import app

OPTIONS = {
    "data": {"config", "--out", "--base", "--on-error", "--ray"},
    "features": {"config", "--events", "--out", "--base", "--ray"},
    "describe": {"dataset", "--out"},
    "gradients": {"config", "--dataset", "--out", "--steps"},
    "attention": {
        "config",
        "--run",
        "--dataset",
        "--field",
        "--out",
        "--target",
        "--positions",
        "--values",
        "--min-rows",
        "--moments",
    },
    "drift": {"before", "now", "--out"},
    "audit": {"data", "--columns", "--cuts", "--out"},
    "asof": {"dataset", "--out", "--split", "--features", "--label-delay-days", "--max-rows"},
    "train": {"config", "--dataset", "--out", "--ranker"},
    "collisions": {"dataset", "--column", "-k", "--k", "--split"},
    "add-items": {"bundle", "items", "--out"},
    "export": {"config", "--dataset", "--out", "--run", "--ranker-run", "--reuse"},
    "evaluate": {
        "bundle",
        "--dataset",
        "--out",
        "--config",
        "--split",
        "--users",
        "--by",
        "--run",
        "--keep-seen",
    },
    "recommend": {"bundle", "items", "--user", "--dataset", "-k", "--k"},
    "gate": {
        "report",
        "--current",
        "--metric",
        "--margin",
        "--popularity",
    },
    "items": {"bundle", "--out", "--what", "-k", "--k", "--part-size", "--processes"},
    "tasks": {"run"},
    "transfer": {"config", "--dataset", "--out"},
    "task-maps": {"run", "--dataset", "--out"},
    "repolicy": {"bundle", "--out", "--formula", "--policy"},
    "timeline": {"run", "--dataset", "--user", "--out", "--outcome"},
    "concepts": {"run", "--dataset", "--concept", "--out", "--outcome", "--layer", "--bags"},
    "event-map": {"run", "--dataset", "--out"},
    "playlist-probe": {
        "run",
        "--dataset",
        "--out",
        "--users",
        "--label",
        "--attribute",
        "--content-songs",
        "--most",
        "--seed",
    },
    "playlist-map": {
        "run",
        "--dataset",
        "--out",
        "--users",
        "--label",
        "--name",
        "--most",
        "--seed",
    },
    "playlist-nearest": {"bundle", "songs", "-k", "--k"},
    "robustness": {"runs", "--dataset", "--out", "--permutations"},
    "plan": {
        "--users",
        "--items",
        "--history",
        "-k",
        "--k",
        "--candidates",
        "--max-len",
        "--dim",
        "--blocks",
        "--epochs",
        "--negatives",
        "--cores",
        "--hours",
        "--costs",
    },
    "calibrate": {"--out", "--folder", "--scale"},
    "score": {
        "bundle",
        "source",
        "--out",
        "--persons",
        "--at",
        "--what",
        "-k",
        "--k",
        "--explain",
        "--history",
        "--part-size",
        "--processes",
        "--ray",
        "--previous",
        "--max-quarantined",
        "--require",
    },
    "publish": {"bundle", "--registry", "--sign", "--canary", "--keep"},
    "rollback": {"--registry", "--to"},
    "releases": {"--registry"},
    "upload-index": {"bundle", "--qdrant"},
    "serve": {
        "bundle",
        "--config",
        "--host",
        "--port",
        "--processes",
        "--state",
        "--log",
        "--compare",
    },
    "exposures": {"log", "--out", "--reward", "--hours"},
    "run": {"config", "--out"},
    "demo": {"--out"},
    "compare": {
        "reports",
        "--metric",
        "--baselines",
        "--out",
        "--allow-differences",
        "--resamples",
        "--seed",
    },
    "report": {"directory", "--as", "--out", "--run"},
    "off-policy": {"log", "policy", "--clip", "--out", "--resamples", "--seed"},
    "measure": {"examples", "--group", "--weighting", "--alpha", "--bins", "--out", "--seed"},
}


def recsys(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from recsys.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_verbs_and_options_are_those_that_scripts_rely_on() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    found = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("verb", OPTIONS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


BAD_CONFIGS = {
    "no such file": (None, "cannot be read"),
    "not TOML": ("[data", "is not valid TOML"),
    "no data section": ("[features]\n", "data"),
    "an unknown source": ('[data]\nsource = "netflix"\n', "netflix"),
    "a misspelt key": (
        '[data]\nsource = "synthetic"\nnum_userz = 5\n',
        "num_userz: unknown key: check its spelling",
    ),
    "a misspelt key deep down": (
        '[data]\nsource = "synthetic"\n[train]\nlearning_rat = 1\n',
        "train.learning_rat: unknown key",
    ),
    "a misspelt section": ('[data]\nsource = "synthetic"\n[modle]\n', "modle: unknown key"),
    "a wrong type": ('[data]\nsource = "synthetic"\nseed = "x"\n', "seed"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config_is_one_sentence_and_status_2(case: str, tmp_path: Path) -> None:
    content, expected = BAD_CONFIGS[case]
    config = tmp_path / "config.toml"
    if content is not None:
        config.write_text(content)
    result = recsys("data", config, "--out", tmp_path / "events")
    assert result.returncode == 2, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"config.toml"}, "something was left"


def test_a_bundle_that_is_none_is_status_2(tmp_path: Path) -> None:
    result = recsys("recommend", tmp_path / "absent", "1")
    assert result.returncode == 2
    assert "expected a bundle" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    for arguments in (
        ["recommend", tmp_path, "--user", "ada"],
        ["recommend", tmp_path, "1", "--user", "ada", "--dataset", tmp_path],
        ["score", tmp_path, tmp_path, "--out", tmp_path / "o", "--ray", "local", "--processes", 2],
        ["score", tmp_path, tmp_path, "--out", tmp_path / "o", "--require", "beauty >= 1"],
    ):
        result = recsys(*arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
