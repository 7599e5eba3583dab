# make demo   from nothing to served recommendations, on synthetic data, no network beyond the install
# make test   the whole quick test suite
# Both create .venv when it is missing; Python 3.11 and make are all they need.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRAS ?= dev,http
BIN := .venv/bin
# uv does not read pip's configured wheel folders: pass them on, so that a CPU build of torch is found.
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)

.PHONY: demo test lint wheel clean

demo: .venv/installed
	$(BIN)/recsys demo --out work/demo

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The wheel, installed alone into an empty environment, serves without torch.
wheel: .venv/installed
	rm -rf dist && $(BIN)/uv build --quiet --wheel --out-dir dist
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python dist/venv
	$(BIN)/uv pip install --quiet --python dist/venv/bin/python --constraint constraints.txt dist/*.whl
	cd dist && venv/bin/python -c "import sys, serving.recommender, serving.batch; assert 'torch' not in sys.modules; import importlib.util as u; assert u.find_spec('torch') is None"
	dist/venv/bin/recsys recommend tests/bundles/v1 P00044 P00087 -k 3

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit(f'Python 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf work dist
