// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8 for hosts: the weights of neighbouring output channels are laid side by side on the stack once, for all
// pixels, and windows beside each other as int16, less the zero point; then it is a product of matrices. What is too
// small or too large for that goes output by output.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/vectors/output.h"
#include "tinytrain/vectors/pairs.h"
#include "tinytrain/window.h"

enum {
    WEIGHTS = 24576,  // int16 at a time
    INPUTS = WEIGHTS / TT_VECTOR_LANES - TT_TURNED,  // of one output
    ROWS_OF_WEIGHTS = WEIGHTS,  // int8: a vector of outputs
    WINDOWS = 8192,   // int16 at a time
    ROWS = 4,         // pixels at a time
    FEWEST_PIXELS = 4,  // for fewer, packing costs more than it saves
};

// A tile of output channels. An input of an output is a kernel position and an input channel; an odd last input has a
// weight and a value of 0 beside it.
typedef struct tile {
    const tt_conv2d_s8_args *args;
    int32_t inputs, step;      // of a window; int16 from one to the next
    int32_t vectors;           // of outputs
    int16_t weights[WEIGHTS];  // [pairs of inputs, vectors, TT_PAIRS]
    int16_t windows[WINDOWS + 16];
    tt_outputs outputs;
} tile;

// Rows of weights of the lanes from `lane` on, one per lane, `step` apart: where they are, or brought together.
static const int8_t *weight_rows(const tile *t, int32_t lane, int8_t *to, int32_t to_step, int32_t *step) {
    const tt_conv2d_s8_args *a = t->args;
    const int32_t positions = a->window.kernel_height * a->window.kernel_width, co = t->outputs.channel + lane;
    const int32_t lanes = tt_min(TT_VECTOR_LANES, t->outputs.count - lane);
    memset(to, 0, (size_t)(TT_VECTOR_LANES * to_step));
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        const int32_t first = tt_max(co, block->co_start), last = tt_min(co + lanes, block->co_start + block->co_count);
        const int32_t runs = block->ci_count == a->x_channels ? 1 : positions, run = positions / runs * block->ci_count;
        const int8_t *w = block->weights + (first - block->co_start) * runs * run;
        if (runs == 1 && last - first == TT_VECTOR_LANES && run == to_step) {
            *step = run;
            return w;
        }
        for (int32_t row = first; row < last; row++) {
            int8_t *row_to = to + (row - co) * to_step + block->ci_start;
            for (int32_t k = 0; k < runs; k++, w += run) { memcpy(row_to + k * a->x_channels, w, (size_t)run); }
        }
    }
    *step = to_step;
    return to;
}

static void pack(tile *t) {
    int8_t rows[ROWS_OF_WEIGHTS];
    const int32_t turned = (t->inputs + TT_TURNED - 1) / TT_TURNED * TT_TURNED, w_step = t->vectors * TT_PAIRS;
    for (int32_t v = 0; v < t->vectors; v++) {
        int32_t step;
        const int8_t *w = weight_rows(t, v * TT_VECTOR_LANES, rows, turned, &step);
        for (int32_t k = 0; k < turned; k += TT_TURNED) {
            tt_turn(w + k, step, t->weights + k / 2 * w_step + v * TT_PAIRS, w_step);
        }
    }
}

static inline void copy_sixteen(const int8_t *x, int32_t zero_point, int16_t *to) {
    for (int32_t j = 0; j < 16; j++) { to[j] = (int16_t)(x[j] - zero_point); }
}

static void copy_run(const int8_t *x, int32_t zero_point, int32_t count, int16_t *to) {
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) { copy_sixteen(x + i, zero_point, to + i); }
    for (; i < count; i++) { to[i] = (int16_t)(x[i] - zero_point); }
}

// The window of one output; may write up to 15 values beyond it.
static void gather_window(const tile *t, int32_t output, int16_t *to) {
    const tt_conv2d_s8_args *a = t->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, output / win->y_width, output % win->y_width);
    const int32_t width = win->kernel_width * a->x_channels, x_step = win->x_width * a->x_channels;
    const int32_t count = tt_max(0, at.columns.last - at.columns.first) * a->x_channels;
    const int32_t first = (at.y0 * win->x_width + at.x0) * a->x_channels;
    const int whole = count == width && at.rows.last - at.rows.first == win->kernel_height;
    if (whole && first + (win->kernel_height - 1) * x_step + count + 16 <= win->x_height * x_step) {
        const int8_t *x = a->x + first;
        for (int32_t ky = 0; ky < win->kernel_height; ky++, x += x_step) {
            for (int32_t i = 0; i < count; i += 16) { copy_sixteen(x + i, a->x_zero_point, to + ky * width + i); }
        }
        to[t->step - 1] = t->inputs < t->step ? 0 : to[t->step - 1];
        return;
    }
    memset(to, 0, sizeof(int16_t) * (size_t)t->step);
    for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
        const int32_t start = at.columns.first * a->x_channels;
        copy_run(a->x + (first + ky * x_step + start), a->x_zero_point, count, to + ky * width + start);
    }
}

static int in_place(const tt_window *win) {
    return win->kernel_height == 1 && win->kernel_width == 1 && win->stride_height == 1 && win->stride_width == 1 &&
           win->y_height == win->x_height && win->y_width == win->x_width;
}

static void gather_windows(tile *t, int32_t first, int32_t count) {
    const tt_conv2d_s8_args *a = t->args;
    if (in_place(&a->window) && t->inputs == t->step) {
        copy_run(a->x + first * t->step, a->x_zero_point, count * t->step, t->windows);
        return;
    }
    for (int32_t i = 0; i < count; i++) { gather_window(t, first + i, t->windows + i * t->step); }
}

TT_ALWAYS_INLINE static inline void store_rows(const tile *t, const int16_t *x, int8_t *y, int32_t rows,
                                               int32_t vectors) {
    tt_vector sums[ROWS * TT_VECTORS];
    TT_EACH_VECTOR(r, rows) {
        TT_EACH_VECTOR(v, vectors) { sums[r * vectors + v] = tt_vector_of(0); }
    }
    tt_multiply(x, t->step, t->weights, t->step / 2, rows, vectors, sums);
    TT_EACH_VECTOR(r, rows) { tt_store_outputs(&t->outputs, sums + r * vectors, y + r * t->args->y_channels, vectors); }
}

TT_ALWAYS_INLINE static inline void store_windows(const tile *t, int8_t *y, int32_t count, int32_t vectors) {
    const int16_t *x = t->windows;
    for (; count >= ROWS; count -= ROWS, x += ROWS * t->step, y += ROWS * t->args->y_channels) {
        store_rows(t, x, y, ROWS, vectors);
    }
    for (; count > 0; count--, x += t->step, y += t->args->y_channels) { store_rows(t, x, y, 1, vectors); }
}

TT_INNER_LOOP static void store_tile(const tile *t, int8_t *y, int32_t count) {
    switch (t->vectors) {
    case 1: store_windows(t, y, count, 1); break;
    case 2: store_windows(t, y, count, 2); break;
    case 3: store_windows(t, y, count, 3); break;
    default: store_windows(t, y, count, TT_VECTORS); break;
    }
}

static void store_packed(const tt_conv2d_s8_args *a, const tt_output *output) {
    tile t;
    t.args = a;
    t.inputs = a->window.kernel_height * a->window.kernel_width * a->x_channels;
    t.step = t.inputs + t.inputs % 2;
    const int32_t pixels = a->window.y_height * a->window.y_width, room = WINDOWS / t.step;
    const int32_t turned = (t.inputs + TT_TURNED - 1) / TT_TURNED * TT_TURNED;
    const int32_t most = tt_min(TT_VECTORS, WEIGHTS / turned / TT_VECTOR_LANES) * TT_VECTOR_LANES;
    for (int32_t start = 0; start < a->y_channels; start += t.outputs.count) {
        const int32_t left = a->y_channels - start, tiles = (left + most - 1) / most;
        const int32_t vectors = ((left + tiles - 1) / tiles + TT_VECTOR_LANES - 1) / TT_VECTOR_LANES;
        t.vectors = vectors;
        tt_prepare(&t.outputs, output, start, tt_min(left, vectors * TT_VECTOR_LANES), (int64_t)t.inputs * 255 * 128);
        pack(&t);
        for (int32_t first = 0, count; first < pixels; first += count) {
            count = tt_min(room, pixels - first);
            gather_windows(&t, first, count);
            store_tile(&t, a->y + first * a->y_channels + start, count);
        }
    }
}

// Output by output.

static int32_t sum_run(const int8_t *x, const int8_t *w, int32_t count, int32_t zero_point) {
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) { sum += (x[i] - zero_point) * w[i]; }
    return sum;
}

static int32_t sum_block(const tt_conv2d_s8_args *a, const tt_weight_block *block, const tt_patch *at, int32_t co) {
    const tt_window *win = &a->window;
    const int whole = block->ci_count == a->x_channels;
    const int32_t step = whole ? at->columns.last - at->columns.first : 1;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        for (int32_t kx = at->columns.first; kx < at->columns.last; kx += step) {
            const int32_t pixel = (at->y0 + ky) * win->x_width + at->x0 + kx;
            const int32_t row = ((co - block->co_start) * win->kernel_height + ky) * win->kernel_width + kx;
            sum += sum_run(a->x + pixel * a->x_channels + block->ci_start, block->weights + row * block->ci_count,
                           step * block->ci_count, a->x_zero_point);
        }
    }
    return sum;
}

static void store_one_by_one(const tt_conv2d_s8_args *a, const tt_output *output) {
    int8_t *y = a->y;
    for (int32_t pixel = 0; pixel < a->window.y_height * a->window.y_width; pixel++) {
        const tt_patch at = tt_patch_of(&a->window, pixel / a->window.y_width, pixel % a->window.y_width);
        for (int32_t co = 0; co < a->y_channels; co++) {
            int32_t sum = 0;
            for (int32_t i = 0; i < a->block_count; i++) {
                const tt_weight_block *block = &a->blocks[i];
                const int holds = co >= block->co_start && co < block->co_start + block->co_count;
                if (holds) { sum += sum_block(a, block, &at, co); }
            }
            *y++ = tt_output_of(output, sum, co);
        }
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const int32_t inputs = win->kernel_height * win->kernel_width * a->x_channels;
    if (win->y_height * win->y_width >= FEWEST_PIXELS && inputs <= INPUTS && inputs < WINDOWS) {
        store_packed(a, &output);
    } else {
        store_one_by_one(a, &output);
    }
}
