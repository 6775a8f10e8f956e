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
    INPUTS = WEIGHTS / TT_VECTOR_LANES - 1,  // of one output
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
    int16_t windows[WINDOWS + TT_PAIRS];
    tt_outputs outputs;
} tile;

// Where the weight of an input lies, for a lane.
static int16_t *place_of(tile *t, int32_t lane, int32_t input) {
    const int32_t vector = input / 2 * t->vectors + lane / TT_VECTOR_LANES;
    return t->weights + vector * TT_PAIRS + lane % TT_VECTOR_LANES * 2 + input % 2;
}

// A run of inputs of up to a vector of lanes, `step` bytes from one lane to the next.
static void pack_run(tile *t, const int8_t *w, int32_t step, int32_t lane, int32_t lanes, int32_t input, int32_t run) {
    int32_t done = 0;
    if (lanes == TT_VECTOR_LANES && lane % TT_VECTOR_LANES == 0 && input % 2 == 0) {
        for (; done + TT_TURNED <= run; done += TT_TURNED) {
            tt_turn(w + done, step, place_of(t, lane, input + done), t->vectors * TT_PAIRS);
        }
    }
    for (; done < run; done++) {
        for (int32_t i = 0; i < lanes; i++) { *place_of(t, lane + i, input + done) = w[i * step + done]; }
    }
}

// What a block has of a vector of lanes, `lane` its first.
static void pack_block(tile *t, const tt_weight_block *block, int32_t lane) {
    const tt_conv2d_s8_args *a = t->args;
    const int32_t positions = a->window.kernel_height * a->window.kernel_width, step = positions * block->ci_count;
    const int32_t start = block->co_start - t->outputs.channel;  // in lanes of the tile
    const int32_t end = tt_min(t->outputs.count, start + block->co_count);
    const int32_t first = tt_max(lane, start), last = tt_min(lane + TT_VECTOR_LANES, end);
    if (last <= first) { return; }
    const int8_t *w = block->weights + (first - start) * step;
    const int whole = block->ci_count == a->x_channels;  // all positions are one run
    const int32_t runs = whole ? 1 : positions, run = whole ? step : block->ci_count;
    for (int32_t k = 0; k < runs; k++, w += run) {
        pack_run(t, w, step, first, last - first, k * a->x_channels + block->ci_start, run);
    }
}

static void pack(tile *t) {
    const int32_t lanes = t->vectors * TT_VECTOR_LANES, size = t->step / 2 * t->vectors * TT_PAIRS;
    if (t->outputs.count < lanes || t->inputs % 2) { memset(t->weights, 0, sizeof(int16_t) * (size_t)size); }
    for (int32_t lane = 0; lane < lanes; lane += TT_VECTOR_LANES) {
        for (int32_t i = 0; i < t->args->block_count; i++) { pack_block(t, &t->args->blocks[i], lane); }
    }
}

static void copy_run(const int8_t *x, int32_t zero_point, int32_t count, int16_t *to) {
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) {
        for (int32_t j = i; j < i + 16; j++) { to[j] = (int16_t)(x[j] - zero_point); }
    }
    for (; i < count; i++) { to[i] = (int16_t)(x[i] - zero_point); }
}

// The window of one output.
static void gather_window(const tile *t, int32_t output, int16_t *to) {
    const tt_conv2d_s8_args *a = t->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, output / win->y_width, output % win->y_width);
    const int32_t width = win->kernel_width * a->x_channels, start = at.columns.first * a->x_channels;
    const int32_t count = tt_max(0, at.columns.last - at.columns.first) * a->x_channels;
    const int whole = count == width && at.rows.last - at.rows.first == win->kernel_height;
    if (!whole || t->inputs < t->step) { memset(to, 0, sizeof(int16_t) * (size_t)t->step); }
    for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0 + at.columns.first) * a->x_channels;
        copy_run(x, a->x_zero_point, count, to + ky * width + start);
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
    const int32_t most = tt_min(TT_VECTORS, WEIGHTS / t.step / TT_VECTOR_LANES) * TT_VECTOR_LANES;
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
