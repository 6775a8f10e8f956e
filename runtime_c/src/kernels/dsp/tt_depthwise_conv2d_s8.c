// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8: four channels at a time. Their part of the image, less the zero point, is laid out as int16, a
// plane for each channel, so that two neighbours lie in a word and one instruction multiplies both. Windows 3, 5 or 7
// wide, strides 1 or 2; all others, and those with too little scratch, take one output after the other.
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/window.h"

enum { CHANNELS = 4, OUTPUTS = 4, LOCAL_WORDS = 96 };

// A part of the image, and of all outputs, in planes.
typedef struct tile {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
    uint32_t *weights;       // [CHANNELS, kernel_height, weight_words]
    uint32_t *planes;        // [CHANNELS, rows, pitch]
    int32_t weight_words;    // pairs of taps of a row
    int32_t pitch, plane;    // words of a row and of a plane
    int32_t first_row;       // of the image, in the planes
    int32_t oy, rows;        // outputs
    int32_t ox, columns;
    int32_t channel, lanes;  // outputs of channels from `channel` on
    tt_channel channels[CHANNELS];
} tile;

// The bytes of `lanes` neighbouring channels.
static uint32_t load_lanes(const int8_t *from, int32_t lanes) {
    if (lanes == CHANNELS) { return tt_load_bytes(from); }
    uint32_t bytes = 0;
    for (int32_t i = 0; i < lanes; i++) { bytes |= (uint32_t)(uint8_t)from[i] << 8 * i; }
    return bytes;
}

// Two neighbours of four channels, to the planes of each.
TT_ALWAYS_INLINE static inline void store_pairs(uint32_t a, uint32_t b, uint32_t minus_zero, uint32_t *to,
                                                int32_t plane) {
    const uint32_t even_a = tt_add_even_pair(minus_zero, a), even_b = tt_add_even_pair(minus_zero, b);
    const uint32_t odd_a = tt_add_odd_pair(minus_zero, a), odd_b = tt_add_odd_pair(minus_zero, b);
    to[0] = tt_firsts(even_a, even_b);
    to[plane] = tt_firsts(odd_a, odd_b);
    to[2 * plane] = tt_seconds(even_a, even_b);
    to[3 * plane] = tt_seconds(odd_a, odd_b);
}

// Pairs of pixels, `channels` bytes from one pixel to the next.
TT_INNER_LOOP static void pack_pairs(const int8_t *from, int32_t channels, int32_t pairs, uint32_t minus_zero,
                                     uint32_t *to, int32_t plane) {
    for (; pairs > 0; pairs--, from += 2 * channels, to++) {
        store_pairs(tt_load_bytes(from), tt_load_bytes(from + channels), minus_zero, to, plane);
    }
}

// Pixels x and after of an image row, a row of the planes; those outside the image become 0.
static void pack_row(const tile *t, const int8_t *row, int32_t x, uint32_t *to) {
    const tt_depthwise_conv2d_s8_args *a = t->args;
    const uint32_t minus_zero = tt_pair_of(-a->x_zero_point), zeros = (uint32_t)(a->x_zero_point & 0xFF) * 0x01010101U;
    const int32_t width = a->window.x_width, channels = a->x_channels;
    for (const uint32_t *end = to + t->pitch; to != end; x += 2, to++) {
        const int32_t pairs = tt_min((int32_t)(end - to), (width - x) >> 1);
        if (x >= 0 && pairs > 0 && t->lanes == CHANNELS) {
            pack_pairs(row + x * channels, channels, pairs, minus_zero, to, t->plane);
            x += 2 * (pairs - 1);
            to += pairs - 1;
            continue;
        }
        const uint32_t first = x >= 0 && x < width ? load_lanes(row + x * channels, t->lanes) : zeros;
        const uint32_t second = x + 1 >= 0 && x + 1 < width ? load_lanes(row + (x + 1) * channels, t->lanes) : zeros;
        store_pairs(first, second, minus_zero, to, t->plane);
    }
}

// All neighbouring taps for stride 1, every other pair of them for stride 2.
static void pack_weights(const tile *t, const tt_depthwise_block *block, int32_t c) {
    const tt_window *win = &t->args->window;
    const int32_t step = win->stride_width, count = block->count;
    const int8_t *w = block->weights + c;
    uint32_t *to = t->weights;
    for (int32_t ky = 0; ky < win->kernel_height; ky++, w += win->kernel_width * count) {
        for (int32_t kx = 0; kx + 2 <= win->kernel_width + step - 1; kx += step, to++) {
            const uint32_t first = load_lanes(w + kx * count, t->lanes);
            const uint32_t second = kx + 1 < win->kernel_width ? load_lanes(w + (kx + 1) * count, t->lanes) : 0;
            store_pairs(first, second, 0, to, win->kernel_height * t->weight_words);
        }
    }
}

static inline int32_t low_low(uint32_t a, uint32_t b, int32_t sum) {
    int32_t r;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(sum));
    return r;
}

static inline int32_t low_high(uint32_t a, uint32_t b, int32_t sum) {
    int32_t r;
    __asm__("smlabt %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(sum));
    return r;
}

static inline int32_t high_low(uint32_t a, uint32_t b, int32_t sum) {
    int32_t r;
    __asm__("smlatb %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(sum));
    return r;
}

// A window's row, of four outputs next to each other.
TT_ALWAYS_INLINE static inline void add_row(const uint32_t *x, const uint32_t *w, int32_t *s, int32_t width,
                                            int32_t stride) {
    if (stride == 1) {
        uint32_t x0, x1, x2;
        tt_load_two(x, 0, &x0, &x1);
#pragma GCC unroll 3
        for (int32_t i = 0; i < width / 2; i++) {
            uint32_t even, odd;  // taps 2 i and 2 i + 1, 2 i + 1 and 2 i + 2
            tt_load_two(w, i, &even, &odd);
            x2 = x[i + 2];
            if (i == 0) {
                s[1] = high_low(x0, even, s[1]);
                s[3] = high_low(x1, even, s[3]);
            }
            s[0] = tt_add_products(x0, even, s[0]);
            s[2] = tt_add_products(x1, even, s[2]);
            s[1] = tt_add_products(x1, odd, s[1]);
            s[3] = tt_add_products(x2, odd, s[3]);
            if (i == width / 2 - 1) {
                s[0] = low_high(x1, odd, s[0]);
                s[2] = low_high(x2, odd, s[2]);
            }
            x0 = x1, x1 = x2;
        }
        return;
    }
#pragma GCC unroll 7
    for (int32_t i = 0; i < width / 2 + 4; i++) {
#pragma GCC unroll 4
        for (int32_t j = 0; j < 4; j++) {
            if (i - j >= 0 && i - j < width / 2) { s[j] = tt_add_products(x[i], w[i - j], s[j]); }
            if (i - j == width / 2) { s[j] = low_low(x[i], w[i - j], s[j]); }
        }
    }
}

// A channel's outputs.
TT_ALWAYS_INLINE static inline void add_windows(const tile *t, int32_t lane, int32_t width, int32_t stride) {
    const tt_window *win = &t->args->window;
    const int32_t taps = stride == 1 ? width - 1 : (width + 1) / 2, pitch = t->pitch, step = t->args->y_channels;
    const uint32_t *plane = t->planes + lane * t->plane, *weights = t->weights + lane * win->kernel_height * taps;
    int8_t *y_row = t->args->y + (t->oy * win->y_width + t->ox) * step + t->channel + lane;
    int32_t y0 = t->oy * win->stride_height - win->pad_top;
    for (int32_t row = 0; row < t->rows; row++, y0 += win->stride_height, y_row += win->y_width * step) {
        const tt_range rows = tt_inside(y0, win->kernel_height, win->x_height);
        const uint32_t *x = plane + (y0 + rows.first - t->first_row) * pitch, *first = weights + rows.first * taps;
        const uint32_t *end = first + tt_max(0, rows.last - rows.first) * taps;
        int8_t *y = y_row;
        for (int32_t left = t->columns; left > 0; left -= OUTPUTS, x += OUTPUTS / 2 * stride, y += OUTPUTS * step) {
            int32_t sums[OUTPUTS] = {0, 0, 0, 0};
            const uint32_t *from = x;
            for (const uint32_t *w = first; w != end; w += taps, from += pitch) { add_row(from, w, sums, width, stride); }
            tt_four_outputs(&t->channels[lane], sums);
            y[0] = (int8_t)sums[0];
            if (left > 1) { y[step] = (int8_t)sums[1]; }
            if (left > 2) { y[2 * step] = (int8_t)sums[2]; }
            if (left > 3) { y[3 * step] = (int8_t)sums[3]; }
        }
    }
}

TT_INNER_LOOP static void windows_3(const tile *t, int32_t lane) { add_windows(t, lane, 3, 1); }
TT_INNER_LOOP static void windows_5(const tile *t, int32_t lane) { add_windows(t, lane, 5, 1); }
TT_INNER_LOOP static void windows_7(const tile *t, int32_t lane) { add_windows(t, lane, 7, 1); }
TT_INNER_LOOP static void windows_3_by_2(const tile *t, int32_t lane) { add_windows(t, lane, 3, 2); }
TT_INNER_LOOP static void windows_5_by_2(const tile *t, int32_t lane) { add_windows(t, lane, 5, 2); }
TT_INNER_LOOP static void windows_7_by_2(const tile *t, int32_t lane) { add_windows(t, lane, 7, 2); }

static void finish_channel(const tile *t, int32_t lane) {
    switch (t->args->window.kernel_width + t->args->window.stride_width) {
        case 4: windows_3(t, lane); break;
        case 6: windows_5(t, lane); break;
        case 8: windows_7(t, lane); break;
        case 5: windows_3_by_2(t, lane); break;
        case 7: windows_5_by_2(t, lane); break;
        default: windows_7_by_2(t, lane); break;
    }
}

// Words of a plane's row of so many outputs, rounded up to what is computed at once.
static int32_t pitch_of(const tt_window *win, int32_t columns) {
    const int32_t outputs = (int32_t)((uint32_t)(columns + OUTPUTS - 1) & ~(OUTPUTS - 1U));
    return ((outputs - 1) * win->stride_width + win->kernel_width + 1) >> 1;
}

// Outputs of a group of channels: those of one part of the image after those of another.
static void finish_group(tile *t, int32_t room, int32_t most_columns) {
    const tt_window *win = &t->args->window;
    for (t->ox = 0; t->ox < win->y_width; t->ox += t->columns) {
        t->columns = tt_min(most_columns, win->y_width - t->ox);
        t->pitch = pitch_of(win, t->columns);
        const int32_t most_rows = (room / t->pitch - win->kernel_height) / win->stride_height + 1;
        for (t->oy = 0; t->oy < win->y_height; t->oy += t->rows) {
            t->rows = tt_min(most_rows, win->y_height - t->oy);
            const int32_t y0 = t->oy * win->stride_height - win->pad_top, x0 = t->ox * win->stride_width - win->pad_left;
            t->first_row = tt_max(y0, 0);
            const int32_t end = tt_min(y0 + (t->rows - 1) * win->stride_height + win->kernel_height, win->x_height);
            const int32_t image_pitch = win->x_width * t->args->x_channels;
            const int8_t *row = t->args->x + t->first_row * image_pitch + t->channel;
            uint32_t *to = t->planes;
            t->plane = tt_max(0, end - t->first_row) * t->pitch;
            for (int32_t i = t->first_row; i < end; i++, row += image_pitch, to += t->pitch) { pack_row(t, row, x0, to); }
            for (int32_t lane = 0; lane < t->lanes; lane++) {
                if (t->channels[lane].right != 0) { finish_channel(t, lane); }
            }
        }
    }
}

// Channels `first` to `end` - 1 of a block, one output after the other.
TT_INNER_LOOP static void any_outputs(const tile *t, const tt_depthwise_block *block, int32_t first, int32_t end) {
    const tt_depthwise_conv2d_s8_args *a = t->args;
    const tt_window *win = &a->window;
    int8_t *y = a->y + block->start;
    for (int32_t pixel = 0; pixel < win->y_height * win->y_width; pixel++, y += a->y_channels) {
        const tt_patch at = tt_patch_of(win, pixel / win->y_width, pixel % win->y_width);
        for (int32_t c = first; c < end; c++) {
            const int8_t *x = a->x + (at.y0 * win->x_width + at.x0) * a->x_channels;
            int32_t sum = 0;
            x += (block->start + c) / a->channel_multiplier;
            for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
                for (int32_t kx = at.columns.first; kx < at.columns.last; kx++) {
                    const int32_t value = x[(ky * win->x_width + kx) * a->x_channels] - a->x_zero_point;
                    sum += value * block->weights[(ky * win->kernel_width + kx) * block->count + c];
                }
            }
            y[c] = tt_output_of(&t->output, sum, block->start + c);
        }
    }
}

// Channels of a block from c on, four at most; returns how many.
static int32_t planes_of(tile *t, const tt_depthwise_block *block, int32_t c, int32_t room, int32_t columns) {
    const tt_window *win = &t->args->window;
    t->channel = block->start + c;
    t->lanes = tt_min(CHANNELS, block->count - c);
    pack_weights(t, block, c);
    for (int32_t lane = 0; lane < t->lanes; lane++) {
        tt_channel *channel = &t->channels[lane];
        tt_set_channel(channel, &t->output, t->channel + lane, win->kernel_height * win->kernel_width);
        if (channel->right == 0) { any_outputs(t, block, c + lane, c + lane + 1); }
    }
    finish_group(t, room, columns);
    return t->lanes;
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t width = win->kernel_width, stride = win->stride_width;
    uint32_t local[LOCAL_WORDS];
    const int small = a->scratch_bytes < (int32_t)sizeof local;
    tile t = {a, {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high, a->single_rounding},
              small ? local : a->scratch, 0, stride == 1 ? width - 1 : (width + 1) >> 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
              {{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}};
    const int32_t weight_words = CHANNELS * win->kernel_height * t.weight_words;
    const int32_t room = ((small ? LOCAL_WORDS : a->scratch_bytes / 4) - weight_words) / CHANNELS;
    int32_t columns = win->y_width;
    while (columns > 0 && pitch_of(win, columns) * win->kernel_height > room) { columns = (columns - 1) & ~(OUTPUTS - 1); }
    const int fast = a->channel_multiplier == 1 && stride <= 2 && (width == 3 || width == 5 || width == 7);
    t.planes = t.weights + weight_words;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        if (!fast || columns <= 0) {
            any_outputs(&t, block, 0, block->count);
            continue;
        }
        for (int32_t c = 0; c < block->count;) { c += planes_of(&t, block, c, room, columns); }
    }
    tt_clamp_outputs(&t.output, a->y, win->y_height * win->y_width * a->y_channels);
}
