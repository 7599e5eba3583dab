"""Rules about the code itself: sizes, layers, what a fresh interpreter may load, no pickle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "features", "offline_eval", "recsys", "serving")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FORBIDDEN_NAMES = {"utils.py", "common.py", "helpers.py", "base.py"}
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=relative)
def test_a_file_fits_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 300, f"{lines} lines: split it, or argue for a longer limit here"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_is_named_after_what_it_holds(path: Path) -> None:
    assert path.name not in FORBIDDEN_NAMES
    assert "misc" not in path.parts


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_can_be_unpickled(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not imported_modules(tree) & UNSAFE
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        call = ast.unparse(node.func)
        assert call not in {"torch.load", "torch.save"}, f"line {node.lineno}: use safetensors"
        if call in {"np.load", "numpy.load"}:
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("allow_pickle") == "False", f"line {node.lineno}: {call}"


LIGHT = {
    "serving.recommender": ("torch", "lightgbm", "dataframely", "recsys", "data", "offline_eval"),
    "serving.batch": ("torch", "lightgbm", "dataframely", "recsys", "ray"),
    "features.store": ("polars", "torch", "dataframely"),
    "features.asof": ("polars", "torch"),
    "features.config": ("polars", "torch"),
    "data.config": ("polars", "torch"),
    "recsys.baselines": ("torch", "polars"),
    "offline_eval.report": ("torch", "recsys", "serving"),
    "serving.service": ("torch", "fastapi", "redis", "qdrant_client", "msgspec"),
    "recsys.cli": ("fastapi", "torch", "polars", "lightgbm", "onnxruntime", "faiss"),
}


@pytest.mark.parametrize("module", LIGHT)
def test_a_fresh_interpreter_loads_only_what_the_layer_may(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        f"found = [name for name in {LIGHT[module]!r} if name in sys.modules]\n"
        f"sys.exit(f'{module} loads {{found}}' if found else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_planted_pickle_would_be_found() -> None:
    assert imported_modules(ast.parse("from pickle import loads")) & UNSAFE
