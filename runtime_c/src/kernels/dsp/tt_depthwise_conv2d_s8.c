// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8, four channels at a time, in one of three ways:
// - windows 3, 5 or 7 wide, stride 1 or 2: the image becomes planes of int16, pairs of neighbours are multiplied;
// - other windows, one or two columns, too little scratch: bytes of four channels are multiplied where they lie;
// - what is left, one output after the other.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/dsp_planes.h"
#include "tinytrain/dsp_windows.h"
#include "tinytrain/window.h"

enum { CHANNELS = TT_PLANES, OUTPUTS = 4, LOCAL_WORDS = 98 };

// Four channels of all outputs, and rows of the image for some of them.
typedef struct group {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
    const tt_depthwise_block *block;
    int32_t channel;                // first of the outputs
    tt_channel channels[CHANNELS];
    uint32_t *weights;              // planes: [CHANNELS, kernel_height, taps]; else [taps of a window, 2]
    uint32_t *planes;               // [rows of the image, quads, TT_QUAD_WORDS]
    int32_t quads, at_once;         // of a row; rows of outputs whose windows there is room for
    int32_t eights, bordered;       // whether outputs are found by eights; whether planes have rows of zeros around
    int32_t listed;                 // where windows begin in the first one of the rows whose runs are listed
    tt_row_plan plan;
    tt_strip strip;
} group;

// A pair of taps of four channels, doubled, a word to each lane.
TT_ALWAYS_INLINE static inline uint32_t *store_taps(uint32_t a, uint32_t b, uint32_t *to, int32_t lane) {
    const uint32_t low = tt_firsts(a, b), high = tt_seconds(a, b);
    to[0] = tt_add_even_pair(tt_even_pair(low), low);
    to[lane] = tt_add_odd_pair(tt_odd_pair(low), low);
    to[2 * lane] = tt_add_even_pair(tt_even_pair(high), high);
    to[3 * lane] = tt_add_odd_pair(tt_odd_pair(high), high);
    return to + 1;
}

// All neighbouring taps for stride 1, every other pair of them for stride 2.
static void pack_weights(const group *g) {
    const int32_t count = g->block->count, lane = g->strip.weights_lane, taps = g->strip.taps;
    const int8_t *w = g->block->weights + (g->channel - g->block->start);
    uint32_t *to = g->weights;
    for (int32_t rows = g->strip.height; rows > 0; rows--, w += count) {
        uint32_t bytes = tt_load_bytes(w);
        if (g->strip.stride_width == 1) {
            for (const uint32_t *end = to + taps; to != end;) {
                const uint32_t last = bytes;
                w += count;
                bytes = tt_load_bytes(w);
                to = store_taps(last, bytes, to, lane);
            }
        } else {
            for (const uint32_t *end = to + taps - 1; to != end; w += 2 * count) {
                to = store_taps(bytes, tt_load_bytes(w + count), to, lane);
                bytes = tt_load_bytes(w + 2 * count);
            }
            to = store_taps(bytes, 0, to, lane);
        }
    }
}

// `count` times eight or four outputs of the strip's rows, or one time fewer; on to those beside them.
TT_INNER_LOOP static void add_some(tt_strip *s, int32_t side, int32_t count, int32_t outputs) {
    if (count == 0 || outputs == 0) { return; }
    s->count = count, s->outputs = outputs;
    if (side == 8) {
        tt_add_eights(s);
    } else {
        tt_add_fours(s);
    }
    s->x += count * (side >> 2) * TT_QUAD_WORDS * s->stride_width;
    s->y += count * side * s->step;
}

// Outputs of the strip's rows. What is left of eight is eight, too, where it is more than four.
static void add_windows(tt_strip *s, int32_t width, int32_t eights) {
    if (eights) {
        add_some(s, 8, width >> 3, 8);
        width &= 7;
        if (width > 4) {
            add_some(s, 8, 1, width);
            return;
        }
    }
    add_some(s, 4, width >> 2, 4);
    add_some(s, 4, 1, width & 3);
}

// As many rows of outputs at a time as there is room for rows of the image. Eights see zeros above and below the image.
// Fours look at rows of the image only, but for windows of three rows, where this would cost more.
static void in_planes(group *g) {
    const tt_depthwise_conv2d_s8_args *a = g->args;
    const tt_window *win = &a->window;
    tt_strip *s = &g->strip;
    const uint32_t zero = (uint32_t)(a->x_zero_point & 0xFF) * 0x01010101U, minus_zero = tt_pair_of(-a->x_zero_point);
    const int32_t x_row = win->x_width * a->x_channels, stride = s->stride, height = s->height;
    int8_t *y = a->y + g->channel;
    pack_weights(g);
    s->y0 = -win->pad_top;
    for (int32_t left = win->y_height; left > 0; left -= s->rows) {
        s->rows = tt_min(g->at_once, left);
        const int32_t y0 = s->y0, next = y0 + s->rows * stride, below = next - stride + height;
        const int32_t first = tt_max(y0, 0), end = tt_min(below, win->x_height);
        uint32_t *to = g->planes;
        s->top = s->first_row = first, s->end_row = end;
        if (g->bordered) {
            s->top = y0;
            to = tt_clear_quads(to, (first - y0) * g->quads);
            tt_clear_quads(to + (end - first) * g->quads * TT_QUAD_WORDS, (below - end) * g->quads);
        }
        if (height == 3) { s->first_row = y0, s->end_row = below; }
        tt_pack_rows(&g->plan, a->x + first * x_row + g->channel, x_row, a->x_channels, end - first, zero, minus_zero,
                     to);
        s->x = g->planes, s->y = y;
        if (g->listed != y0) {  // once, where all rows are in the planes
            g->listed = y0;
            tt_list_runs(s);
        }
        add_windows(s, win->y_width, g->eights);
        y += s->rows * s->y_row;
        s->y0 = next;
    }
}

// A tap of four channels: the bytes at x, moved on to the next pixel, less the zero point, to four sums.
#define ONE_TAP                                      \
    "ldr %[b], [%[x]]\n\t"                          \
    "add %[x], %[x], %[pixel]\n\t"                  \
    "ldrd %[even], %[odd], [%[w]], #8\n\t"          \
    "sxtab16 %[o], %[minus_zero], %[b], ror #8\n\t" \
    "sxtab16 %[b], %[minus_zero], %[b]\n\t"         \
    "smlabb %[s0], %[b], %[even], %[s0]\n\t"        \
    "smlabb %[s1], %[o], %[odd], %[s1]\n\t"         \
    "smlatt %[s2], %[b], %[even], %[s2]\n\t"        \
    "smlatt %[s3], %[o], %[odd], %[s3]\n\t"
#define THREE_TAPS ONE_TAP ONE_TAP ONE_TAP
#define NEXT_ROW "add %[x], %[x], %[x_skip]\n\t"
#define ADD_TAPS(text)                                                                           \
    __asm__(text                                                                                              \
            : [x] "+r"(x), [w] "+r"(w), [b] "=&r"(b), [o] "=&r"(o), [even] "=&r"(even), [odd] "=&r"(odd),   \
              [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3)                    \
            : [pixel] "r"(pixel), [minus_zero] "r"(minus_zero), [x_skip] "r"(x_skip)                           \
            : "cc", "memory")

// Where a row of windows begins in the image; rows of them inside it.
typedef struct strip {
    const int8_t *x;
    const uint32_t *weights;
    int8_t *y;
    int32_t rows;
} strip;

TT_INNER_LOOP static void add_strip(const group *g, const strip *s) {
    const tt_depthwise_conv2d_s8_args *a = g->args;
    const int32_t pixel = a->x_channels, width = a->window.kernel_width, x_width = a->window.x_width;
    const int32_t rows = s->rows, rows_whole = rows == 3 && width == 3;
    const uint32_t minus_zero = tt_pair_of(-a->x_zero_point);
    int32_t x0 = -a->window.pad_left;
    int8_t *y = s->y;
    for (int32_t left = a->window.y_width; left > 0; left--, x0 += a->window.stride_width, y += a->y_channels) {
        const int32_t first = tt_max(0, -x0), columns = tt_min(width, x_width - x0) - first;
        const int32_t x_skip = (x_width - columns) * pixel;
        const int8_t *x = s->x + (x0 + first) * pixel;
        const uint32_t *w = s->weights + 2 * first;
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        uint32_t b, o, even, odd;
        if (rows_whole && columns == 3) {
            ADD_TAPS(THREE_TAPS NEXT_ROW THREE_TAPS NEXT_ROW THREE_TAPS);
        } else if (columns > 0) {
            for (int32_t row = rows; row > 0; row--, x += x_skip, w += 2 * (width - columns)) {
                for (int32_t column = columns; column > 0; column--) { ADD_TAPS(ONE_TAP); }
            }
        }
        y[0] = tt_fast_output(&g->channels[0], s0);
        y[1] = tt_fast_output(&g->channels[1], s1);
        y[2] = tt_fast_output(&g->channels[2], s2);
        y[3] = tt_fast_output(&g->channels[3], s3);
    }
}

static void where_they_lie(const group *g) {
    const tt_depthwise_conv2d_s8_args *a = g->args;
    const tt_window *win = &a->window;
    const int32_t taps = win->kernel_height * win->kernel_width;
    const int8_t *w = g->block->weights + (g->channel - g->block->start);
    int32_t y0 = -win->pad_top;
    strip s = {0, 0, a->y + g->channel, 0};
    for (int32_t i = 0; i < taps; i++, w += g->block->count) {
        const uint32_t bytes = tt_load_bytes(w);
        tt_store_two(g->weights + 2 * i, 0, tt_even_pair(bytes), tt_odd_pair(bytes));
    }
    for (int32_t oy = 0; oy < win->y_height; oy++, y0 += win->stride_height, s.y += win->y_width * a->y_channels) {
        const tt_range rows = tt_inside(y0, win->kernel_height, win->x_height);
        s.x = a->x + (y0 + rows.first) * win->x_width * a->x_channels + g->channel;
        s.weights = g->weights + 2 * rows.first * win->kernel_width;
        s.rows = rows.last - rows.first;
        add_strip(g, &s);
    }
}

// Channels from `channel` to `end` - 1 of a block.
TT_INNER_LOOP static void one_by_one(const group *g, int32_t channel, int32_t end) {
    const tt_depthwise_conv2d_s8_args *a = g->args;
    const tt_window *win = &a->window;
    int8_t *y = a->y;
    for (int32_t pixel = 0; pixel < win->y_height * win->y_width; pixel++, y += a->y_channels) {
        const tt_patch at = tt_patch_of(win, pixel / win->y_width, pixel % win->y_width);
        for (int32_t c = channel; c < end; c++) {
            const int8_t *x = a->x + (at.y0 * win->x_width + at.x0) * a->x_channels + c / a->channel_multiplier;
            const int8_t *w = g->block->weights + c - g->block->start;
            int32_t sum = 0;
            for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
                for (int32_t kx = at.columns.first; kx < at.columns.last; kx++) {
                    const int32_t value = x[(ky * win->x_width + kx) * a->x_channels] - a->x_zero_point;
                    sum += value * w[(ky * win->kernel_width + kx) * g->block->count];
                }
            }
            y[c] = tt_output_of(&g->output, sum, c);
        }
    }
}

// Every row of outputs sees a row of the image.
static int rows_inside(const tt_window *win) {
    return win->pad_top < win->kernel_height && (win->y_height - 1) * win->stride_height - win->pad_top < win->x_height;
}

// Scratch becomes taps of four channels, runs, rows of planes. Returns whether there is room.
static int divide(group *g, uint32_t *scratch, int32_t words) {
    const tt_depthwise_conv2d_s8_args *a = g->args;
    const tt_window *win = &a->window;
    const int32_t width = win->kernel_width, height = win->kernel_height, stride = win->stride_width;
    const int32_t outputs = (int32_t)((uint32_t)(win->y_width + OUTPUTS - 1) & ~(OUTPUTS - 1U));
    const int32_t quads = ((outputs - 1) * stride + width + 3) >> 2;
    const int32_t pixels = tt_min(win->x_width, 4 * quads - win->pad_left);
    const int32_t taps = stride == 1 ? width - 1 : (width + 1) >> 1, lane = height * taps;
    const int32_t run_words = 2 * height * (int32_t)(sizeof(tt_run) / sizeof(uint32_t));
    const int32_t rows = (words - CHANNELS * lane - run_words) / (TT_QUAD_WORDS * quads);
    const int eights = width == height && (width == 3 || (width == 5 && stride == 1 && win->y_width > 4));
    const int bordered = height == 3 || eights, whole = !bordered && rows >= win->x_height;
    g->weights = scratch;
    if (stride > 2 || (width != 3 && width != 5 && width != 7) || win->y_width < 3 || pixels < 3 || !rows_inside(win) ||
        (!whole && rows < height)) {
        return 0;
    }
    g->planes = scratch + CHANNELS * lane + run_words;
    g->quads = quads;
    g->eights = eights;
    g->bordered = bordered;
    g->listed = INT32_MAX;
    g->at_once = whole ? win->y_height : (rows - height) / win->stride_height + 1;
    g->plan = tt_row_plan_of(win->pad_left, quads, pixels);
    const tt_strip strip = {.weights = g->weights, .runs = (tt_run *)(void *)(scratch + CHANNELS * lane),
                            .channels = g->channels, .stride = win->stride_height, .height = height, .width = width,
                            .taps = taps, .weights_lane = lane, .stride_width = stride,
                            .pitch = quads * TT_QUAD_WORDS * (int32_t)sizeof(uint32_t),
                            .y_row = win->y_width * a->y_channels, .step = a->y_channels,
                            .ties = tt_ties_matter(&g->output)};
    g->strip = strip;
    return 1;
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t taps = win->kernel_height * win->kernel_width;
    uint32_t local[LOCAL_WORDS];
    const int small = a->scratch_bytes < (int32_t)sizeof local;
    const int32_t words = small ? LOCAL_WORDS : a->scratch_bytes / 4;
    group g = {.args = a, .output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                                     a->single_rounding}};
    const tt_channels all = tt_channels_of(&g.output, taps);
    const int planes = divide(&g, small ? local : a->scratch, words);
    for (int32_t i = 0; i < a->block_count; i++) {
        g.block = &a->blocks[i];
        const int32_t end = g.block->start + g.block->count;
        for (g.channel = g.block->start; g.channel < end; g.channel += CHANNELS) {
            if (end - g.channel < CHANNELS || a->channel_multiplier != 1 || (!planes && 2 * taps > words)) {
                one_by_one(&g, g.channel, tt_min(end, g.channel + CHANNELS));
                continue;
            }
            for (int32_t lane = 0; lane < CHANNELS; lane++) {
                tt_set_channel(&g.channels[lane], &all, g.channel + lane);
            }
            if (planes) {
                in_planes(&g);
            } else {
                where_they_lie(&g);
            }
            for (int32_t lane = 0; lane < CHANNELS; lane++) {
                if (g.channels[lane].right == 0) { one_by_one(&g, g.channel + lane, g.channel + lane + 1); }
            }
        }
    }
    tt_clamp_outputs(&g.output, a->y, win->y_height * win->y_width * a->y_channels);
}
