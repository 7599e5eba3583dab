"""No code comes out of a bundle, and no graph reaches files outside it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from serving.errors import BundleError
from serving.graphs import open_graph

WATCHED = """
import pickle, sys

def refuse(*arguments, **named):
    raise SystemExit("something was unpickled")

pickle.load = pickle.loads = pickle.Unpickler = refuse
sys.addaudithook(lambda event, _: refuse() if event == "pickle.find_class" else None)
from pathlib import Path
from serving.recommender import Recommender

recommender = Recommender.load(Path(sys.argv[1]))
recommender.check_golden()
recommender.explain([recommender.parse_item_id("10")], k=3)
print(len(recommender.recommend([recommender.parse_item_id("10")], k=3).items))
"""


def test_nothing_is_unpickled_while_serving(toy: Any) -> None:
    command = [sys.executable, "-c", WATCHED, str(toy.path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "3", result.stderr


def test_the_watch_would_notice() -> None:
    code = WATCHED.partition("from pathlib")[0] + "import pickle; pickle.loads(b'')"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "something was unpickled" in result.stderr


@pytest.mark.parametrize("location", ["table.bin", "../table.bin", "absolute", "link.bin"])
def test_a_graph_with_data_in_other_files_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "bundle").mkdir()
    content = np.ones((4, 4), np.float32).tobytes()
    for path in (tmp_path / "table.bin", tmp_path / "bundle" / "table.bin"):
        path.write_bytes(content)
    (tmp_path / "bundle" / "link.bin").symlink_to(tmp_path / "table.bin")
    where = str(tmp_path / "table.bin") if location == "absolute" else location
    tensor = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "table"], ["y"])],
        "outside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "bundle" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert onnx.load(path, load_external_data=False).graph.initializer[0].name == "table"
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened"):
        open_graph(path)
