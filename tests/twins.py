# SPDX-License-Identifier: Apache-2.0
"""The inline functions of the C headers as a library, compiled with the undefined behaviour sanitizer."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

from tinytrain import runtime_c
from tinytrain.host.runtime import compiler, declarations

PROTOTYPES = """
void shim_requantize(const int32_t *x, const int32_t *m, const int32_t *s, int32_t single, int32_t *y, int32_t n);
void shim_divide(const int32_t *x, const int32_t *e, int32_t *y, int32_t n);
void shim_shift(const int64_t *x, const int32_t *right, int64_t *y, int32_t n);
void shim_mantissa(const int64_t *x, const int32_t *right, const uint32_t *index, int16_t *y, int32_t n);
void shim_mantissa32(const int32_t *x, const int32_t *right, const uint32_t *index, int16_t *y, int32_t n);
void shim_stochastic(const int64_t *x, const int32_t *right, const uint32_t *word, int64_t *y, int32_t n);
uint32_t shim_rounding_key(const int32_t *state);
void shim_add(const int32_t *a, const int32_t *b, int32_t *y, int32_t n);
void shim_saturate(const int64_t *x, int32_t *y, int32_t n);
void shim_output(const int32_t *x, const int32_t *zero, int32_t low, int32_t high, int8_t *y, int32_t n);
int32_t shim_begin(int32_t *state, int32_t bits);
void shim_end(int32_t *state, uint64_t magnitude, int32_t exponent);
uint32_t shim_word(uint32_t seed, uint32_t stream, uint32_t step, uint32_t index);
void shim_rate(const uint32_t *hyper, int32_t multiplier, int32_t shift, int32_t gy_exponent, int32_t *rate);
int64_t shim_delta(int32_t mode, int32_t total_shift, const int32_t *rate, uint32_t key, uint32_t index, int64_t total);
void shim_apply(int32_t mode, void *parameter, void *master, int32_t *accumulator, int64_t delta);
int32_t shim_learning_rate(float rate, uint32_t *hyper);
int32_t shim_schedule(int32_t kind, float rate, const uint32_t *numbers, uint32_t update, uint32_t samples,
                      uint32_t *hyper);
"""

SOURCE = """
#include "tinytrain/gradient.h"
#include "tinytrain/update.h"
#include "tinytrain/model.h"

void shim_requantize(const int32_t *x, const int32_t *m, const int32_t *s, int32_t single, int32_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_requantize(x[i], m[i], s[i], single); }
}
void shim_divide(const int32_t *x, const int32_t *e, int32_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_rounding_divide_by_power_of_two(x[i], e[i]); }
}
void shim_shift(const int64_t *x, const int32_t *right, int64_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_rounding_shift(x[i], right[i]); }
}
void shim_mantissa(const int64_t *x, const int32_t *right, const uint32_t *index, int16_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const tt_rounding rounding = {right[i], 7};
        y[i] = tt_to_mantissa(&rounding, x[i], (int32_t)index[i]);
    }
}
void shim_mantissa32(const int32_t *x, const int32_t *right, const uint32_t *index, int16_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        const tt_rounding rounding = {right[i], 7};
        y[i] = tt_to_mantissa32(&rounding, x[i], (int32_t)index[i]);
    }
}
void shim_stochastic(const int64_t *x, const int32_t *right, const uint32_t *word, int64_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_stochastic_shift(x[i], right[i], word[i]); }
}
uint32_t shim_rounding_key(const int32_t *state) { return tt_rounding_key((const tt_exponent *)state); }
void shim_add(const int32_t *a, const int32_t *b, int32_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_saturating_add(a[i], b[i]); }
}
void shim_saturate(const int64_t *x, int32_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_saturate32(x[i]); }
}
void shim_output(const int32_t *x, const int32_t *zero, int32_t low, int32_t high, int8_t *y, int32_t n) {
    for (int32_t i = 0; i < n; i++) { y[i] = tt_clamped_output(x[i], zero[i], low, high); }
}
int32_t shim_begin(int32_t *state, int32_t bits) { return tt_exponent_begin((tt_exponent *)state, bits); }
void shim_end(int32_t *state, uint64_t magnitude, int32_t exponent) {
    tt_exponent_end((tt_exponent *)state, magnitude, exponent);
}
uint32_t shim_word(uint32_t seed, uint32_t stream, uint32_t step, uint32_t index) {
    const tt_hyper hyper = {0, 0, seed, step};
    return tt_random_word(tt_random_key(&hyper, stream), index);
}
void shim_rate(const uint32_t *hyper, int32_t multiplier, int32_t shift, int32_t gy_exponent, int32_t *rate) {
    const int16_t s = (int16_t)shift;
    const tt_update u = {.hyper = (const tt_hyper *)hyper, .multiplier = &multiplier, .shift = &s,
                         .gy_exponent_offset = gy_exponent};
    const tt_rate r = tt_rate_of_channel(&u, 0);
    rate[0] = r.mantissa;
    rate[1] = r.exponent;
}
int64_t shim_delta(int32_t mode, int32_t total_shift, const int32_t *rate, uint32_t key, uint32_t index,
                   int64_t total) {
    const tt_update u = {.mode = mode, .total_shift = total_shift};
    const tt_rate r = {rate[0], rate[1], key};
    return tt_scaled_delta(&u, &r, index, total);
}
void shim_apply(int32_t mode, void *parameter, void *master, int32_t *accumulator, int64_t delta) {
    const tt_update u = {.mode = mode, .parameter = parameter, .master = master, .accumulator = accumulator};
    tt_apply_delta(&u, 0, delta);
}
int32_t shim_learning_rate(float rate, uint32_t *hyper) {
    tt_model model = {0};
    model.hyper = (tt_hyper *)hyper;
    return tt_model_set_learning_rate(&model, rate);
}
int32_t shim_schedule(int32_t kind, float rate, const uint32_t *numbers, uint32_t update, uint32_t samples,
                      uint32_t *hyper) {
    const tt_schedule schedule = {kind, rate, numbers[0], numbers[1], numbers[2], numbers[3]};
    tt_model model = {0};
    model.hyper = (tt_hyper *)hyper;
    return tt_model_set_scheduled_rate(&model, &schedule, update, samples);
}
"""

FLAGS = ["-std=c99", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=undefined"]


@dataclass(frozen=True)
class Twins:
    """C functions over numpy arrays."""

    ffi: Any
    lib: Any

    def pointer(self, array: np.ndarray) -> Any:
        return self.ffi.from_buffer(f"{array.dtype}_t[]", array, require_writable=array.flags.writeable)

    def map(self, name: str, dtype: Any, *arrays: np.ndarray, extra: tuple[int, ...] = ()) -> np.ndarray:
        """One of the element by element functions; arrays are broadcast against each other."""
        whole = [np.ascontiguousarray(array).reshape(-1) for array in np.broadcast_arrays(*arrays)]
        result = np.empty(whole[0].size, dtype)
        getattr(self.lib, name)(*map(self.pointer, whole), *extra, self.pointer(result), result.size)
        return result


@functools.cache
def twins(gradient_bits: int = 16) -> Twins:
    """Compiled once per test run and width of gradients."""
    with tempfile.TemporaryDirectory() as name:
        source, library = Path(name) / "twins.c", Path(name) / "twins.so"
        source.write_text(SOURCE)
        runtime = [str(runtime_c.SOURCES / file) for file in ("model.c", "store.c", "executor.c", "schedule.c")]
        command = [
            compiler(),
            *FLAGS,
            f"-DTT_GRADIENT_BITS={gradient_bits}",
            f"-I{runtime_c.INCLUDE}",
            str(source),
            *runtime,
            "-o",
            str(library),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)
        ffi = cffi.FFI()
        ffi.cdef(PROTOTYPES)
        return Twins(ffi, ffi.dlopen(str(library)))


@contextmanager
def no_undefined_behaviour(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """The sanitizer writes to stderr and goes on."""
    capfd.readouterr()
    yield
    report = capfd.readouterr().err
    assert "runtime error" not in report, report[:2000]


def sanitized_runtime() -> Any:
    """The whole host runtime with the sanitizer, in place of tinytrain.host.runtime."""
    return _sanitized()


@functools.cache
def _sanitized() -> Any:
    from tinytrain.host.runtime import Runtime, build

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return Runtime(ffi, ffi.dlopen(str(build(tuple(FLAGS)))))
