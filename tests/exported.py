# SPDX-License-Identifier: Apache-2.0
"""Exported C models compiled for this machine: as a library to call, and as a program under the sanitizers."""

from __future__ import annotations

import re
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cffi
import numpy as np

from tinytrain.exporters.c import write_firmware
from tinytrain.host.runtime import compiler
from tinytrain.program import Program

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion"]
API = """
typedef int32_t (*tt_write_fn)(void *context, const void *bytes, uint32_t size);
typedef int32_t (*tt_read_fn)(void *context, void *bytes, uint32_t size);
int32_t tinytrain_init(void);
int8_t *tinytrain_input(void);
int32_t tinytrain_infer(void);
const int32_t *tinytrain_logits(void);
int32_t tinytrain_predict(void);
int32_t tinytrain_train_step(int32_t label);
int32_t tinytrain_train_reconstruct(void);
int32_t tinytrain_train_target(const int32_t *target);
int32_t tinytrain_apply(void);
int32_t tinytrain_loss(void);
int32_t tinytrain_trained_prediction(void);
int32_t tinytrain_set_learning_rate(float rate);
int32_t tinytrain_set_batch_rate(float rate, uint32_t samples);
typedef struct { int32_t kind; float rate; uint32_t warm_up, total, period, decay; } tt_schedule;
int32_t tinytrain_set_scheduled_rate(const tt_schedule *schedule, uint32_t update, uint32_t samples);
void tinytrain_set_seed(uint32_t seed);
uint32_t tinytrain_parameters_crc32(void);
int32_t tinytrain_save(tt_write_fn write, void *context);
int32_t tinytrain_load(tt_read_fn read, void *context);
"""
OK, BAD_ARGUMENT, BAD_STORE = 0, 1, 2

# reads commands from stdin: 'r' rate, 's' seed, 't' label, sample and targets if there are any, 'i' sample, 'a'; prints
# a line for each
MAIN = """
#include <stdio.h>
#include "tinytrain_model.h"

static int get(void *bytes, size_t size) { return fread(bytes, 1, size, stdin) == size; }

#if TINYTRAIN_CLASSES > 0
static int32_t train(int32_t label) { return tinytrain_train_step(label); }
static int32_t trained(void) { return tinytrain_trained_prediction(); }
static int32_t predict(void) { return tinytrain_predict(); }
#else
static int32_t train(int32_t label) {
    (void)label;
#if TINYTRAIN_TARGETS > 0
    int32_t target[TINYTRAIN_TARGETS];
    return get(target, sizeof target) ? tinytrain_train_target(target) : 4;
#else
    return tinytrain_train_reconstruct();
#endif
}
static int32_t trained(void) { return 0; }
static int32_t predict(void) { return 0; }
#endif

int main(void) {
    int command;
    tinytrain_init();
    while ((command = getchar()) != EOF) {
        float rate;
        uint32_t seed;
        int32_t label, status = 0;
        switch (command) {
        case 'r': if (!get(&rate, sizeof rate)) { return 2; } status = tinytrain_set_learning_rate(rate); break;
        case 's': if (!get(&seed, sizeof seed)) { return 2; } tinytrain_set_seed(seed); break;
        case 't':
            if (!get(&label, sizeof label) || !get(tinytrain_input(), TINYTRAIN_INPUT_BYTES)) { return 2; }
            status = train(label);
            break;
        case 'i':
            if (!get(tinytrain_input(), TINYTRAIN_INPUT_BYTES)) { return 2; }
            status = tinytrain_infer();
            break;
        case 'a': status = tinytrain_apply(); break;
        default: return 3;
        }
        printf("%d %d %d %d %lu\\n", (int)status, (int)tinytrain_loss(), (int)trained(),
               command == 'i' ? (int)predict() : -1, (unsigned long)tinytrain_parameters_crc32());
    }
    return 0;
}
"""


def write_sources(program: Program, folder: Path) -> list[str]:
    """The exported model; returns its C files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_firmware(program, folder, "test")
    return [str(path) for path in sorted(folder.rglob("*.c"))]


def compile_c(folder: Path, sources: list[str], output: str, *flags: str, cc: str = "") -> Path:
    """One compiler run over everything, by this machine's compiler where none is named."""
    include = [f"-I{folder}", f"-I{folder / 'tinytrain' / 'include'}"]
    command = [cc or compiler(), "-std=c99", *flags, *include, *sources, "-o", str(folder / output)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:3000]
    return folder / output


@dataclass
class Exported:
    """An exported model in this process; `store` is what its save hook wrote."""

    folder: Path
    program: Program
    ffi: Any = None
    lib: Any = None
    store: bytearray = field(default_factory=bytearray)

    def load_library(self) -> Exported:
        sources = write_sources(self.program, self.folder)
        library = compile_c(
            self.folder, sources, "model.so", "-O1", "-fPIC", "-shared", "-fsanitize=undefined", *WARNINGS
        )
        self.ffi = cffi.FFI()
        self.ffi.cdef(API)
        self.lib = self.ffi.dlopen(str(library))
        assert self.lib.tinytrain_init() == OK
        return self

    @property
    def header(self) -> str:
        return (self.folder / "tinytrain_model.h").read_text()

    def put(self, sample: np.ndarray) -> None:
        self.ffi.memmove(self.lib.tinytrain_input(), sample.tobytes(), sample.nbytes)

    def train_step(self, sample: np.ndarray, label: int) -> int:
        self.put(sample)
        return int(self.lib.tinytrain_train_step(label))

    def logits(self, sample: np.ndarray) -> list[int]:
        self.put(sample)
        assert self.lib.tinytrain_infer() == OK
        return list(self.lib.tinytrain_logits()[0 : self.program.tensors[self.program.output].size])

    def crc(self) -> int:
        return int(self.lib.tinytrain_parameters_crc32())

    def save(self, fail_after: int | None = None) -> int:
        """Into `store`; the hook refuses once so many bytes were written."""
        self.store = bytearray()

        @self.ffi.callback("tt_write_fn")
        def write(_, data, size):
            if fail_after is not None and len(self.store) + size > fail_after:
                return 77
            self.store += self.ffi.buffer(data, size)[:]
            return OK

        return int(self.lib.tinytrain_save(write, self.ffi.NULL))

    def load(self, store: bytes) -> int:
        """From a store; a read past its end fails with status 78."""
        rest = bytearray(store)

        @self.ffi.callback("tt_read_fn")
        def read(_, data, size):
            if size > len(rest):
                return 78
            self.ffi.memmove(data, bytes(rest[:size]), size)
            del rest[:size]
            return OK

        return int(self.lib.tinytrain_load(read, self.ffi.NULL))


@dataclass(frozen=True)
class Line:
    """What the program printed for a command."""

    status: int
    loss: int
    predicted_in_training: int
    predicted: int
    crc: int


def command(kind: str, *values: Any) -> bytes:
    """One command of MAIN: ("r", rate), ("s", seed), ("t", label, sample, targets), ("i", sample), ("a",)."""
    parts = [kind.encode()]
    for value, code in zip(values, {"r": "f", "s": "I", "t": "i  ", "i": " ", "a": ""}[kind], strict=kind != "t"):
        parts.append(value.tobytes() if code == " " else struct.pack(f"={code}", value))
    return b"".join(parts)


def run_sanitized(program: Program, folder: Path, commands: list[bytes]) -> list[Line]:
    """The exported model under the address and undefined behaviour sanitizers; any report fails."""
    sources = write_sources(program, folder)
    (folder / "main.c").write_text(MAIN)
    # gcc sets no traps around variables in sections of their own
    model = folder / "tinytrain_model.c"
    model.write_text(re.sub(r', section\("[^"]+"\)', "", model.read_text()))
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *WARNINGS]
    executable = compile_c(folder, [*sources, str(folder / "main.c")], "model", *flags)
    result = subprocess.run([str(executable)], input=b"".join(commands), capture_output=True, timeout=120)
    report = result.stderr.decode(errors="replace")
    assert result.returncode == 0 and not report, f"exit {result.returncode}\n{report[:3000]}"
    return [Line(*map(int, line.split())) for line in re.findall(r"^.+$", result.stdout.decode(), re.MULTILINE)]
