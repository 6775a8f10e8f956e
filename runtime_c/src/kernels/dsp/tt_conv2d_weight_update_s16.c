// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update_s16 as a product of matrices, for each kernel position: gradients of four output channels by
// two input channels, summed over pixels that are packed in pairs. Rows of an odd number of pixels end with half a pair.
//
// Where scratch holds all input channels they are packed once; where not, both factors are packed in chunks of pixels.
#include "tinytrain/dsp_update.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/weight_gradient.h"

enum {
    OUTPUTS_PAIR = 4 * TT_DOT_ROWS,    // bytes of a pair of pixels in four output channels
    INPUTS_PAIR = 4 * TT_DOT_COLUMNS,  // and in two input channels
    FITTING_PAIRS = TT_WEIGHT_GRADIENT_CHUNK / 2,
};

typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_meeting meeting;    // of the kernel position
    int32_t positions, position;
    int32_t row_pairs;     // pairs of pixels in a row
    int32_t pairs;         // in all rows, and one of zeros where that makes them even
    int whole;             // whether scratch holds them all
    uint32_t *outputs;     // packed
    tt_clipping clipping;
} work;

// Which part of a row pairs first..last - 1 of all begin with.
typedef struct run {
    int32_t row, column, pairs;
} run;

static run run_of(const work *w, int32_t first, int32_t last) {
    const int32_t row = first / w->row_pairs, start = first - row * w->row_pairs;
    const run part = {row, 2 * start, tt_min(last - first, w->row_pairs - start)};
    return part;
}

static int32_t known_pairs(const work *w) { return w->meeting.rows * w->row_pairs; }

// Four output channels from co on (counted from the block's first), pairs first..last - 1.
TT_INNER_LOOP static void pack_outputs(const work *w, int32_t co, int32_t first, int32_t last, uint32_t *out) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t channels = a->y_channels, count = tt_min(TT_DOT_ROWS, a->co_count - co);
    const int32_t end = tt_min(last, known_pairs(w));
    for (run part; first < end; first += part.pairs) {
        part = run_of(w, first, end);
        const int32_t output = w->meeting.output + part.row * a->window.y_width + part.column;
        const int16_t *gy = (const int16_t *)a->gy + output * channels + a->co_start + co;
        const int32_t whole = count < TT_DOT_ROWS ? 0 : tt_min(part.pairs, (w->meeting.columns - part.column) / 2);
        for (int32_t pair = 0; pair < whole; pair++, gy += 2 * channels) {
            const uint32_t low = tt_word_at(gy), high = tt_word_at(gy + 2);
            const uint32_t next_low = tt_word_at(gy + channels), next_high = tt_word_at(gy + channels + 2);
            tt_store_two(&out, tt_pair_of_lows(low, next_low), tt_pair_of_highs(low, next_low));
            tt_store_two(&out, tt_pair_of_lows(high, next_high), tt_pair_of_highs(high, next_high));
        }
        for (int32_t pair = whole; pair < part.pairs; pair++, gy += 2 * channels) {
            const int32_t both = w->meeting.columns - part.column > 2 * pair + 1;
            for (int32_t r = 0; r < TT_DOT_ROWS; r++) {
                const uint32_t value = r < count ? tt_half_at(gy + r) : 0;
                *out++ = tt_pair_of_lows(value, both && r < count ? tt_half_at(gy + channels + r) : 0);
            }
        }
    }
    for (; first < last; first++) {
        tt_store_two(&out, 0, 0);
        tt_store_two(&out, 0, 0);
    }
}

// Two input channels from ci on, pairs first..last - 1. What meets no gradient means nothing.
TT_INNER_LOOP static void pack_inputs(const work *w, int32_t ci, int32_t first, int32_t last, uint32_t *out) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t step = a->window.stride_width * a->x_channels, end = tt_min(last, known_pairs(w));
    const uint32_t minus_zero = (uint32_t)(-a->x_zero_point & 0xFFFF) * 0x10001U;
    for (run part; first < end; first += part.pairs) {
        part = run_of(w, first, end);
        const int32_t pixel = w->meeting.pixel + part.row * a->window.stride_height * a->window.x_width;
        const int8_t *x = a->x + pixel * a->x_channels + part.column * step + ci;
        for (int32_t pair = 0; pair < part.pairs; pair++, x += 2 * step) {
            const int32_t next = w->meeting.columns - part.column > 2 * pair + 1 ? step : 0;
            const uint32_t even = a->x_channels > 1 ? tt_half_at(x) : (uint32_t)*x;
            const uint32_t odd = a->x_channels > 1 ? tt_half_at(x + next) : (uint32_t)x[next];
            const uint32_t both = tt_pair_of_lows(even, odd);
            tt_store_two(&out, tt_even_bytes_plus(minus_zero, both), tt_odd_bytes_plus(minus_zero, both));
        }
    }
}

// Up to four output channels, of which `known` are done, by two input channels, of which known_inputs are done.
typedef struct tile {
    int32_t co, known, ci, known_inputs;
    const uint32_t *inputs;  // packed, where all are
} tile;

// The place of the tile's first weight.
static uint32_t index_of(const work *w, const tile *at) {
    return (uint32_t)((at->co * w->positions + w->position) * w->args->x_channels + at->ci);
}

TT_INNER_LOOP static void update_tile(work *w, const tile *at, const tt_channel_rate *rates, const int64_t *totals) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t rows = tt_min(TT_DOT_ROWS, a->co_count - at->co), columns = tt_min(TT_DOT_COLUMNS, a->x_channels);
    for (int32_t r = at->known; r < rows; r++) {
        const uint32_t index = index_of(w, at) + (uint32_t)(r * w->positions * a->x_channels);
        for (int32_t c = at->known_inputs; c < columns; c++) {
            tt_update_weight(&a->update, &rates[r], index + (uint32_t)c, totals[TT_DOT_COLUMNS * r + c],
                             &w->clipping);
        }
    }
}

// Where a sum fits 32 bits.
static void short_sums(work *w, const tile *at, const tt_channel_rate *rates, int quick) {
    const tt_conv2d_weight_update_args *a = w->args;
    int32_t sums[TT_DOT_SUMS];
    tt_product_of product = {.rows = w->outputs, .columns = at->inputs, .pairs = w->pairs, .sums = sums};
    tt_multiply(&product);
    if (quick && at->known_inputs == 0 && a->x_channels > 1) {
        const int32_t step = w->positions * a->x_channels, rows = tt_min(TT_DOT_ROWS, a->co_count - at->co);
        tt_quick_rows(&a->update, rates + at->known, rows - at->known, index_of(w, at) + (uint32_t)(at->known * step),
                      (uint32_t)step, sums + TT_DOT_COLUMNS * at->known);
        return;
    }
    int64_t totals[TT_DOT_SUMS];
    for (int32_t i = 0; i < TT_DOT_SUMS; i++) { totals[i] = sums[i]; }
    update_tile(w, at, rates, totals);
}

// Any sums; where not all inputs are packed both factors are, in chunks.
TT_INNER_LOOP static void long_sums(work *w, const tile *at, const tt_channel_rate *rates) {
    const int32_t chunk = w->whole ? w->pairs : w->args->scratch_bytes / (OUTPUTS_PAIR + INPUTS_PAIR) & ~1;
    int64_t totals[TT_DOT_SUMS] = {0};
    tt_product_of product = {.rows = w->outputs, .columns = at->inputs};
    for (int32_t first = 0; first < w->pairs; first += chunk) {
        product.pairs = tt_min(chunk, w->pairs - first);
        if (!w->whole) {
            uint32_t *inputs = w->outputs + TT_DOT_ROWS * product.pairs;
            pack_outputs(w, at->co, first, first + product.pairs, w->outputs);
            pack_inputs(w, at->ci, first, first + product.pairs, inputs);
            product.columns = inputs;
        }
        tt_multiply_wide(&product, FITTING_PAIRS, totals);
    }
    update_tile(w, at, rates, totals);
}

static void update_position(work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t inputs = a->x_channels, columns = TT_DOT_COLUMNS * w->pairs;
    w->whole = (OUTPUTS_PAIR + (inputs + 1) / 2 * INPUTS_PAIR) * w->pairs <= a->scratch_bytes;
    w->outputs = a->scratch;
    uint32_t *packed = w->outputs + TT_DOT_ROWS * w->pairs;
    for (int32_t ci = 0; w->whole && ci < inputs; ci += 2) {
        pack_inputs(w, tt_max(0, tt_min(ci, inputs - 2)), 0, w->pairs, packed + ci / 2 * columns);
    }
    for (int32_t done = 0; done < a->co_count; done += TT_DOT_ROWS) {
        const int32_t co = tt_max(0, tt_min(done, a->co_count - TT_DOT_ROWS));
        tt_channel_rate rates[TT_DOT_ROWS];
        const int32_t known = done - co, rows = tt_min(TT_DOT_ROWS, a->co_count - co);
        for (int32_t r = known; r < rows; r++) { tt_channel_rate_of(&a->update, co + r, &rates[r]); }
        const int quick = tt_all_quick(&a->update, rates + known, rows - known);
        if (w->whole) { pack_outputs(w, co, 0, w->pairs, w->outputs); }
        for (int32_t ci = 0; ci < inputs; ci += 2) {
            const int32_t start = tt_max(0, tt_min(ci, inputs - 2));
            const tile at = {co, known, start, ci - start, packed + ci / 2 * columns};
            if (w->whole && w->pairs <= FITTING_PAIRS) {
                short_sums(w, &at, rates, quick);
            } else {
                long_sums(w, &at, rates);
            }
        }
    }
}

// The outputs that meet a pixel at kernel position (ky, kx).
static tt_meeting rows_of(const tt_window *win, int32_t ky, int32_t kx) {
    tt_meeting meeting = tt_meeting_of(win, ky, kx);
    if (meeting.rows <= 0 || meeting.columns <= 0) { meeting.rows = 0, meeting.columns = 0; }
    const int dense = meeting.columns == win->y_width && meeting.columns == win->x_width;
    if (dense && win->stride_height == 1 && win->stride_width == 1) {  // all rows are one
        meeting.columns *= meeting.rows;
        meeting.rows = tt_min(1, meeting.rows);
    }
    return meeting;
}

void tt_conv2d_weight_update_s16(const void *args) {
    const tt_conv2d_weight_update_s16_args *a = args;
    work w = {.args = a, .clipping = tt_clip_begin(&a->update)};
    w.positions = a->window.kernel_height * a->window.kernel_width;
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, w.position++) {
            w.meeting = rows_of(&a->window, ky, kx);
            w.row_pairs = tt_max(1, (w.meeting.columns + 1) / 2);
            w.pairs = tt_max(2, (known_pairs(&w) + 1) & ~1);  // of zeros where there are none
            update_position(&w);
        }
    }
    tt_clip_end(&a->update, &w.clipping);
}
