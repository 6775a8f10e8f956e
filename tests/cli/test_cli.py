# SPDX-License-Identifier: Apache-2.0
"""The command line: help, results for people and as JSON, refusals, interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.small import arrays, write_data
from tinytrain import boards
from tinytrain.cli import app

COMMANDS = ("inspect", "plan", "export", "run", "certify", "boards")
needs_compiler = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="needs the Arm compiler")


def tinytrain(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="tinytrain")


def document(*arguments: object) -> dict[str, Any]:
    """The JSON of a command that works; nothing else may be on stdout."""
    result = tinytrain(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object, code: int = 2) -> str:
    """The message of a command that does not; the same as JSON with --json."""
    plain, as_json = tinytrain(*arguments), tinytrain(*arguments, "--json")
    for result in (plain, as_json):
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
    assert plain.stdout == ""
    error = json.loads(as_json.stdout)
    assert set(error) == {"error", "where", "why", "fix"}
    message = plain.stderr[plain.stderr.index("error: ") :]  # progress may come before it
    assert message.splitlines()[0] == f"error: {error['error']}"
    return message


# --- help ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = tinytrain(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout and f"tinytrain {command}" in result.stdout.split("Example:")[1]
    assert "--json" in result.stdout


def test_help_lists_the_commands_and_no_argument_shows_it() -> None:
    result = tinytrain("--help")
    assert result.exit_code == 0 and all(command in result.stdout for command in COMMANDS)
    nothing = tinytrain()
    assert nothing.exit_code == 2 and "inspect" in nothing.output and "error" not in nothing.stderr


def test_version() -> None:
    result = tinytrain("--version")
    assert result.exit_code == 0 and result.stdout.startswith("tinytrain ")


def test_help_does_not_load_what_it_does_not_need() -> None:
    code = "import sys, tinytrain.cli; print([m for m in ('numpy', 'onnx', 'cffi', 'PIL') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- results ---


def test_boards_lists_every_board() -> None:
    found = document("boards")["boards"]
    assert [board["name"] for board in found] == boards.names()
    assert all(board["sram"]["size"] > 0 and board["core"].startswith("cortex-") for board in found)
    assert "stm32f746" in tinytrain("boards").stdout


def test_inspect_shows_operators_and_totals(small_model: Path) -> None:
    found = document("inspect", small_model)
    names = [row["name"] for row in found["operators"]]
    assert {"layer0", "layer1", "layer2", "head"} <= set(names)
    first = found["operators"][names.index("layer0")]
    assert (first["op"], first["output_shape"]) == ("conv2d", [8, 8, 8])
    assert (
        first["macs"] == 8 * 8 * 8 * 27 and first["weight_bytes"] == 8 * 27 + 4 * 8 and first["activation_bytes"] == 512
    )
    assert found["totals"]["macs"] == sum(row["macs"] for row in found["operators"])
    assert found["totals"]["arena"] >= found["totals"]["arena_lower_bound"] >= 768
    assert found["input"]["shape"] == [16, 16, 3] and found["input"]["uint8"] == "pixel - 128"
    table = tinytrain("inspect", small_model).stdout
    assert "depthwise_conv2d" in table and "13,824" in table and "\x1b[" not in table


def test_inspect_prints_the_graph_as_text(small_model: Path) -> None:
    text = tinytrain("inspect", small_model, "--text").stdout
    assert text.startswith("graph ") and "conv2d(" in text
    assert document("inspect", small_model, "--text")["text"] == text


@needs_compiler
def test_plan_writes_what_it_prints(small_model: Path, small_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    arguments = ("plan", small_model, "--data", small_data, "--board", "nrf52840", "--sram", "64K", "--flash", "128K",
                 "--classes", 3, "-o", path)  # fmt: skip
    found = document(*arguments)
    assert {"model", "board", "scheme", "sram", "flash", "macs", "instructions"} <= set(found)
    uses = ("arena", "parameters", "masters", "optimizer", "statics", "stack")
    assert set(found["sram"]) >= {"budget", "total", "arena_lower_bound", *uses}
    assert found["sram"]["budget"] == 65536 and found["flash"]["budget"] == 131072
    assert found["sram"]["total"] == sum(found["sram"][use] for use in uses) <= 65536
    assert found["flash"]["total"] == sum(found["flash"][use] for use in ("code", "constants", "store"))
    assert set(found["macs"]) == {"forward", "backward"}
    assert found["instructions"]["train_step"] > found["instructions"]["inference"] > 0
    assert found["latency"]["estimate"] is True and found["latency"]["train_step_ms"] > 0
    assert found["output"] == str(path)
    written = json.loads(path.read_text())
    assert written == {key: value for key, value in found.items() if key != "output"}
    table = tinytrain(*arguments, "--force").stdout
    assert "arena" in table and "65,536" in table and "layer2" in table and "classifier" in table
    assert "instructions, estimated" in table and "estimated and not measured" in table


@needs_compiler
def test_scheme_names_and_files_are_taken(small_model: Path, tmp_path: Path) -> None:
    base = ("plan", small_model, "--board", "mps2-an385")
    assert document(*base, "--scheme", "head")["scheme"]["layers"] == {}
    assert set(document(*base, "--scheme", "all")["scheme"]["layers"]) == {"layer0", "layer1", "layer2"}
    own = {"layers": {"layer2": {"bias": True, "input_channels": [0, 3]}}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    made = document(*base, "--scheme", tmp_path / "own.json", "--update", "stochastic", "--accumulate")["scheme"]
    assert made["layers"]["layer2"] == {"bias": True, "input_channels": [0, 3]}
    assert made["update"] == "stochastic" and made["accumulate"] is True
    published = {"n_bias_update": 2, "manual_weight_idx": [2], "weight_update_ratio": [0.5]}
    (tmp_path / "many.json").write_text(json.dumps({"schemes": {"small": {"a": published}}}))
    made = document(*base, "--scheme", tmp_path / "many.json", "--scheme-key", "small/a")["scheme"]["layers"]
    assert made["layer1"] == {"bias": True} and len(made["layer2"]["input_channels"]) == 4


@needs_compiler
def test_export_writes_a_folder_that_builds(small_plan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "firmware"
    found = document("export", small_plan, "-o", folder)
    assert (found["folder"], found["board"], found["classes"]) == (str(folder), "nrf52840", 3)
    assert found["files"] == sum(path.is_file() for path in folder.rglob("*"))
    subprocess.run(["make", "--silent", "-C", folder], check=True, env={**os.environ, "MAKEFLAGS": ""})
    assert "exists already" in refused("export", small_plan, "-o", folder)


@pytest.mark.boards
def test_run_prints_one_json_document_and_progress_on_stderr(small_firmware: Path, small_data: Path) -> None:
    result = tinytrain("run", small_firmware, "--data", small_data, "--steps", 12, "--eval", 6, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["steps"] == 12 and found["evaluated"] == 6
    assert found["parameters_crc32"] == found["host_parameters_crc32"]
    assert "train" in result.stderr and "loss" in result.stderr and "accuracy" in result.stderr
    again = tinytrain("run", small_firmware, "--data", small_data, "--steps", 12, "--eval", 6)
    assert f"{found['parameters_crc32']:08x}" in again.stdout and "every bit agrees" in again.stdout


@pytest.mark.boards
def test_run_shows_where_the_instructions_go(small_firmware: Path, small_data: Path) -> None:
    command = ("run", small_firmware, "--data", small_data, "--steps", 2, "--eval", 0, "--no-host", "--profile")
    found = json.loads(tinytrain(*command, "--json").stdout)["profile"]
    assert found["train_step"] > found["inference"] > 0
    assert sum(entry["share"] for entry in found["kernels"]) == pytest.approx(1, abs=1e-4)
    text = tinytrain(*command).stdout
    assert "tt_conv2d_s8 1x1" in text and "█" in text and "layer1" in text
    assert "estimated and not measured" in text and "per training step" in text
    assert "needs counted instructions" in refused(*command, "--no-count")


@pytest.mark.boards
def test_a_board_that_differs_from_the_host_is_an_error(small_firmware: Path, small_data: Path, tmp_path: Path) -> None:
    """One byte of the exported parameters is changed."""
    folder = tmp_path / "firmware"
    shutil.copytree(small_firmware, folder, ignore=shutil.ignore_patterns("build"))
    source = (folder / "tinytrain_model.c").read_text()
    changed = re.sub(r"(parameters_image\[\d+\] = \{\s*)(\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}", source)
    assert changed != source
    (folder / "tinytrain_model.c").write_text(changed)
    result = tinytrain("run", folder, "--data", small_data, "--steps", 8, "--eval", 9, "--no-count", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["identical"] is False
    assert "error: board and host do not agree" in result.stderr and "Traceback" not in result.stderr


# --- refusals ---


def test_wrong_options_are_refused_in_one_form(small_model: Path) -> None:
    assert "tinytrain plan --help" in refused("plan", small_model)
    assert "--board" in refused("plan", small_model)
    assert "tinytrain --help" in refused("teach")
    assert "--nonsense" in refused("boards", "--nonsense")
    assert "'sometimes'" in refused("plan", small_model, "--board", "rp2040", "--update", "sometimes")
    assert "--steps" in refused("run", "firmware", "--data", "d.npz", "--steps", "many")
    assert "--classes" in refused("plan", small_model, "--board", "rp2040", "--classes", 0)
    assert "at least 2 classes" in refused("plan", small_model, "--board", "rp2040", "--classes", 1)
    assert "there is no loss 'hinge'" in refused("plan", small_model, "--board", "rp2040", "--loss", "hinge")
    assert "is no JSON" in refused("plan", small_model, "--board", "rp2040", "--loss", "{kind}")


def test_missing_and_damaged_models_are_refused(tmp_path: Path) -> None:
    assert "there is no model file" in refused("inspect", tmp_path / "none.onnx")
    for name in ("broken.onnx", "broken.tflite"):
        (tmp_path / name).write_bytes(b"\x08\x07 nonsense")
        assert name in refused("inspect", tmp_path / name)
    assert "cannot read" in refused("inspect", tmp_path)


@pytest.mark.parametrize("size", ["12Q", "-5", "K", "1.5M", ""])
def test_sizes_that_are_none_are_refused(size: str, small_model: Path) -> None:
    message = refused("plan", small_model, "--board", "stm32f746", f"--sram={size}", "--scheme", "head")
    assert "is not a memory size" in message and "256K" in message


def test_budgets_beyond_the_board_are_refused(small_model: Path) -> None:
    assert "262,144 B of SRAM" in refused(
        "plan", small_model, "--board", "nrf52840", "--sram", "1M", "--scheme", "head"
    )


def test_a_budget_that_is_too_small_says_by_how_much(small_model: Path) -> None:
    message = refused("plan", small_model, "--board", "nrf52840", "--sram", "1K", "--scheme", "head")
    assert "bytes more SRAM" in message and "peak at" in message


def test_unknown_boards_are_refused_with_a_suggestion(small_model: Path) -> None:
    message = refused("plan", small_model, "--board", "stm32f747", "--scheme", "head")
    assert "unknown board 'stm32f747': did you mean 'stm32f746'?" in message


def test_data_that_does_not_fit_is_refused(small_model: Path, tmp_path: Path) -> None:
    base = ("plan", small_model, "--board", "nrf52840", "--data")
    assert "there is no data" in refused(*base, tmp_path / "none.npz")
    wrong = write_data(tmp_path / "wrong.npz", size=20)
    message = refused(*base, wrong)
    assert "samples are 20x20x3, the model takes 16x16x3" in message and "resize to 16x16" in message
    labels = tmp_path / "labels.npz"
    np.savez(labels, **arrays(), class_names=np.array(["a", "b"]))
    assert "label 2 of sample 32 is outside the 2 classes" in refused(*base, labels)
    good = write_data(tmp_path / "good.npz")
    assert "outside the 2 classes" in refused(*base, good, "--classes", 2)


def test_choosing_a_scheme_needs_data(small_model: Path) -> None:
    assert "needs data" in refused("plan", small_model, "--board", "mps2-an385")


def test_schemes_that_do_not_fit_are_refused(small_model: Path, tmp_path: Path) -> None:
    base = ("plan", small_model, "--board", "mps2-an385")
    assert "no scheme file" in refused(*base, "--scheme", tmp_path / "none.json")
    (tmp_path / "s.json").write_text('{"layers": {"layer9": {"bias": true}}}')
    assert "layer9" in refused(*base, "--scheme", tmp_path / "s.json")
    assert "a scheme key 'x' without" in refused(*base, "--scheme-key", "x")


def test_outputs_are_checked_before_the_work(small_model: Path, small_plan: Path, tmp_path: Path) -> None:
    base = ("plan", small_model, "--board", "no-such-board", "-o")
    (tmp_path / "plan.json").write_text("mine")
    assert "exists already" in refused(*base, tmp_path / "plan.json") and "--force" in refused(
        *base, tmp_path / "plan.json"
    )
    assert (tmp_path / "plan.json").read_text() == "mine"
    assert "there is no folder" in refused(*base, tmp_path / "none" / "plan.json")
    assert "is a folder" in refused(*base, tmp_path)
    (tmp_path / "firmware").mkdir()
    assert "exists already" in refused("export", small_plan, "-o", tmp_path / "firmware")


def test_plans_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "no plan file" in refused("export", tmp_path / "none.json", "-o", tmp_path / "f")
    for content in ("{", "[]", "{}", '{"model": 5}'):
        (tmp_path / "bad.json").write_text(content)
        assert "bad.json" in refused("export", tmp_path / "bad.json", "-o", tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_folder_without_firmware_is_refused(tmp_path: Path) -> None:
    assert "is not an exported firmware folder" in refused("run", tmp_path, "--data", tmp_path / "d.npz")


@pytest.mark.boards
@pytest.mark.parametrize("missing", ["make", "arm-none-eabi-gcc", "qemu-system-arm"])
def test_missing_tools_are_named_with_their_packages(
    missing: str, small_firmware: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *rest: None if name == missing else found(name, *rest))
    message = refused("run", small_firmware, "--data", small_data, "--steps", 1)
    assert f"{missing} is not installed" in message and "apt install" in message and missing in message


def test_a_closed_pipe_is_quiet(small_model: Path) -> None:
    command = f"{sys.executable} -m tinytrain inspect {small_model} --text | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("graph") and result.stderr == ""


def test_a_bug_is_one_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(boards, "all_boards", broken)
    assert "did not foresee: RuntimeError: surprise" in refused("boards", code=1)


@pytest.mark.boards
def test_ctrl_c_ends_the_board_and_leaves_nothing_behind(
    small_firmware: Path, small_data: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "tinytrain", "run", small_firmware, "--data", small_data, "--epochs", "3000"]
    command = [str(part) for part in [*command, "--eval", "0", "--json"]]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert process.stderr is not None
    while "train" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    emulator = children(process.pid)
    assert len(emulator) == 1
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert json.loads(output)["error"] == "interrupted"
    assert not Path(f"/proc/{emulator[0]}").exists() and list(temporary.iterdir()) == []


def children(process: int) -> list[int]:
    """The emulators a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == process and "qemu" in name:
            found.append(int(status.parent.name))
    return found


# --- certify ---


def test_certify_compares_every_trained_tensor(small_model: Path, small_data: Path) -> None:
    pytest.importorskip("torch")
    made = document("certify", small_model, "--data", small_data, "--samples", 3)
    assert made["holds"] and made["samples"] == 3 and made["threshold"] == 0.99
    assert len(made["rows"]) == 2 * 4 and {curve["name"] for curve in made["curves"]} == {"integer", "rounded", "float"}
    assert made["worst"] in {row["name"] for row in made["rows"]}
    shown = tinytrain("certify", small_model, "--scheme", "head", "--samples", 2)
    assert shown.exit_code == 0 and "holds: least cosine" in shown.stdout


def test_certify_fails_below_the_threshold(small_model: Path) -> None:
    pytest.importorskip("torch")
    result = tinytrain("certify", small_model, "--samples", 1, "--threshold", 1.0)
    assert result.exit_code == 1
    assert "DOES NOT HOLD" in result.stdout and "below 1" in result.stderr


def test_certify_without_torch_says_how_to_get_it(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'tinytrain[torch]'" in refused("certify", small_model)
