"""The command serves from its start to SIGTERM, and refuses a bad configuration in a sentence."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import polars as pl
import pytest

from recsys.cli import main

BUNDLE = Path(__file__).parents[1] / "bundles" / "v1"
COMMAND = [sys.executable, "-c", "from recsys.cli import main; main()"]


def test_from_start_to_sigterm(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text("[serve]\nport = 0\ndrain_seconds = 0.1\n")
    log, state = tmp_path / "log", tmp_path / "state.db"
    arguments = ["serve", BUNDLE, "--config", config, "--log", log, "--state", state]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while '"started"' not in line:
            line = process.stderr.readline()
            assert line, "it ended before it started"
        address = json.loads(line)["public"]
        request = urllib.request.Request(
            f"{address}/v1/recommend",
            json.dumps({"user_id": "ada", "history": ["P00044"]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            items = json.load(answer)["items"]
        assert len(items) == 10
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.returncode == 0
        rest = process.stderr.read()
    events = [json.loads(line).get("event") for line in rest.splitlines() if line.startswith("{")]
    assert events[-2:] == ["draining", "stopped"]
    assert "Traceback" not in rest
    joined = subprocess.run(
        [
            *COMMAND,
            "exposures",
            str(log),
            "--out",
            str(tmp_path / "x.parquet"),
            "--reward",
            "click=1",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10 items shown in 1 answers, 0 with a reward" in joined.stdout
    assert pl.read_parquet(tmp_path / "x.parquet")["item_id"].to_list() == [
        item["item_id"] for item in items
    ]


REFUSED = {
    "a misspelt key": ("[serve]\nprot = 1\n", [], "serve.prot: unknown key"),
    "a wrong type": ('[serve]\nport = "x"\n', [], "serve.port"),
    "an impossible port": ("[serve]\nport = 99999\n", [], "is no port"),
    "another section": ("[serv]\n", [], "serv: unknown section"),
    "the network without a token": ("", ["--host", "0.0.0.0"], "RECSYS_TOKEN"),
    "a state that cannot be": ("", ["--state", "/proc/nothing/state.db"], "unable to open"),
    "a url that is none": ("", ["--state", "http://localhost"], "not a Redis url"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_configuration_is_a_sentence_and_status_2(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, options, expected = REFUSED[case]
    config = tmp_path / "serve.toml"
    config.write_text(content)
    arguments = ["serve", str(BUNDLE), "--config", str(config), *options]
    monkeypatch.setattr(sys, "argv", ["recsys", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    found = capsys.readouterr().err
    assert expected in found.replace("\n", " ")
    assert "Traceback" not in found
