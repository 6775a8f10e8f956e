# SPDX-License-Identifier: Apache-2.0
"""An installed wheel, away from the checkout, does what the checkout does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.boards, pytest.mark.slow]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files alone; its dependencies are those of the running environment."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", work, source], check=True)
    (wheel,) = work.glob("tinytrain-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", work / "site", wheel], check=True)
    shutil.rmtree(source)
    return work / "site"


def test_the_wheel_plans_exports_and_trains(installed: Path, tmp_path: Path) -> None:
    data = ROOT / "examples" / "data"
    for name in ("mcunet-5fps.onnx", "pets3.npz"):
        shutil.copy(data / name, tmp_path)

    def python(code: str, *args: str) -> str:
        # -S and a path of our own: the checkout's editable install is not seen
        path = f"import sys; sys.path[:0] = [{str(installed)!r}, {str(Path(numpy.__file__).parents[1])!r}]; "
        environment = {**os.environ, "TINYTRAIN_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-S", "-c", path + code, *args]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def tinytrain(*args: str) -> dict:
        return json.loads(python("from tinytrain.cli import main; main()", *args, "--json"))

    where = python("import tinytrain.boards, tinytrain.cli; print(tinytrain.boards.__file__, tinytrain.cli.__file__)")
    assert all(path.startswith(str(installed)) for path in where.split()), where
    assert len(tinytrain("boards")["boards"]) >= 9
    plan = ("plan", "mcunet-5fps.onnx", "--data", "pets3.npz", "--board", "stm32f746", "--sram", "256K")
    tinytrain(*plan, "--scheme", "head", "-o", "plan.json")
    tinytrain("export", "plan.json", "-o", "firmware")
    report = tinytrain("run", "firmware", "--data", "pets3.npz", "--steps", "3", "--eval", "2", "--no-count")
    assert report["parameters_crc32"] == report["host_parameters_crc32"]
