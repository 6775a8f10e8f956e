# SPDX-License-Identifier: Apache-2.0
"""The Python API: quick to import, callable under the names of its packages, typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytrain
from tests.small import CLASSES, SIZE, arrays, write_model
from tinytrain.data import Dataset, InputSpec
from tinytrain.errors import DataError, OutputError, SchemeError
from tinytrain.graph import Graph
from tinytrain.planner import Plan
from tinytrain.train import Scheme


def test_importing_tinytrain_loads_nothing_heavy() -> None:
    code = "import sys, tinytrain; print([m for m in ('numpy', 'onnx', 'typer', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "first", ["", "import tinytrain.planner, tinytrain.session; ", "from tinytrain.session import RunReport; "]
)
def test_functions_keep_their_names_whatever_is_imported_first(first: str) -> None:
    code = (
        f"{first}import tinytrain; assert all(callable(getattr(tinytrain, n)) for n in tinytrain.__all__[3:]); print(1)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "1\n", result.stderr


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        tinytrain.teach  # type: ignore[attr-defined]  # noqa: B018
    assert {"load", "plan", "export", "run"} <= set(dir(tinytrain))


def dataset(classes: int = CLASSES) -> Dataset:
    made = arrays(classes=classes)
    names = tuple("abcdefgh"[:classes])
    return Dataset(made["x_train"], made["y_train"], made["x_test"], made["y_test"], names, "memory")


def test_load_plan_and_export_give_typed_results(small_model: Path, tmp_path: Path) -> None:
    graph = tinytrain.load(small_model)
    assert isinstance(graph, Graph) and InputSpec.of(graph).shape == (SIZE, SIZE, 3)
    plan = tinytrain.plan(small_model, board="mps2-an500", data=dataset(), scheme=Scheme(), sram="64K", flash=1 << 20)
    assert isinstance(plan, Plan) and plan.board.sram.size == 65536 and plan.sram.total <= 65536
    folder = tinytrain.export(plan, tmp_path / "firmware")
    assert (folder / "tinytrain_model.h").is_file()
    with pytest.raises(OutputError, match="exists already"):
        tinytrain.export(plan, folder)


def test_data_with_other_classes_gets_a_new_classifier(tmp_path: Path) -> None:
    """The model's own is kept where the numbers agree, even if the samples looked at lack the last class."""
    model = write_model(tmp_path / "five.onnx", classes=5)
    other = tinytrain.plan(model, board="mps2-an385", data=dataset(3), scheme="head")
    assert other.classes == 3 and other.scheme.classes == 3
    made = arrays(classes=3)
    names = ("a", "b", "c", "d", "e")
    five = Dataset(made["x_train"], made["y_train"], made["x_test"], made["y_test"], names, "memory")
    own = tinytrain.plan(model, board="mps2-an385", data=five, scheme="head")
    assert own.classes == 5 and own.scheme.classes is None


def test_a_dataset_made_by_hand_is_checked(small_model: Path) -> None:
    data = dataset()
    small = Dataset(data.x_train[:, :8], data.y_train, data.x_test, data.y_test, data.class_names, "memory")
    with pytest.raises(DataError, match="samples are 8x16x3, the model takes 16x16x3"):
        tinytrain.plan(small_model, board="mps2-an385", data=small, scheme="head")
    wrong = Dataset(data.x_train, data.y_train + 1, data.x_test, data.y_test, data.class_names, "memory")
    with pytest.raises(DataError, match=r"label 3 .* outside the 3 classes") as error:
        tinytrain.plan(small_model, board="mps2-an385", data=wrong, scheme="head")
    assert error.value.where == "memory, y_train"


def test_a_key_needs_a_file(small_model: Path) -> None:
    with pytest.raises(SchemeError, match="without a scheme file"):
        tinytrain.plan(small_model, board="mps2-an385", scheme={"layers": {}}, scheme_key="a/b")


def test_planning_samples_are_shuffled_and_few() -> None:
    from tinytrain.api import PLANNING_SAMPLES, planning_samples

    x = np.arange(3000, dtype=np.float32).reshape(3000, 1) % 100
    y = np.sort(np.arange(3000) % 4)
    data = Dataset(x, y, x, y, ("a", "b", "c", "d"), "memory")
    chosen = planning_samples(data, InputSpec((1,), 1.0, 0), seed=0)
    assert len(chosen.x) == PLANNING_SAMPLES and chosen.classes == 4
    assert len(set(chosen.y[:12].tolist())) > 2, "the first samples calibrate, so they are of several classes"
