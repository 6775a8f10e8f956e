// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: a tile of output pixels at a time. The inputs of each, less the zero point, are laid out as int16, four
// pixels side by side; then the weights of two output channels after the other. Each step of the inner loop multiplies
// pairs of inputs of four pixels with those of two channels: 16 products of 6 words. Padded cells are zeros.
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

enum { PIXELS = 4, CHANNELS = 2, UNIT = 8, LOCAL_WORDS = 96 };

typedef struct work {
    const tt_conv2d_s8_args *args;
    tt_output output;
    int32_t inputs;       // of one output
    int32_t row;          // the same, rounded up to whole units; int16 elements of an expanded row
    int32_t contiguous;   // 1: the inputs of an output lie together in x
    int32_t largest_bias; // for tt_channel_of
    uint32_t *weights;    // [row / 2, CHANNELS] pairs
    uint32_t *pixels;     // [row / 2, PIXELS] pairs, groups of pixels; then [row / 2] of each that is left
} work;

static void copy(const int8_t *from, int32_t count, int8_t *to) {
    for (; count >= 4; count -= 4, from += 4, to += 4) { memcpy(to, from, 4); }
    for (; count > 0; count--) { *to++ = *from++; }
}

static int8_t *fill(int8_t value, int32_t count, int8_t *to) {
    for (int8_t *end = to + count; to != end;) { *to++ = value; }
    return to;
}

// The inputs of an output pixel one after the other, at x or in `room`. What follows them, up to a row, is anything.
static const int8_t *inputs_of(const work *k, int32_t pixel, int8_t *room) {
    const tt_conv2d_s8_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t channels = a->x_channels, pitch = win->x_width * channels;
    const int32_t oy = pixel / win->y_width, ox = pixel - oy * win->y_width;
    if (k->contiguous) {
        const int32_t at = oy * win->stride_height * pitch + ox * win->stride_width * channels;
        if (at + k->row <= win->x_height * pitch) { return a->x + at; }
    }
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int8_t zero = (int8_t)a->x_zero_point;
    const int32_t before = at.columns.first * channels, after = (win->kernel_width - at.columns.last) * channels;
    const int32_t inside = win->kernel_width * channels - before - after;
    int8_t *to = room;
    for (int32_t ky = 0; ky < win->kernel_height; ky++) {
        if (ky < at.rows.first || ky >= at.rows.last || inside <= 0) {
            to = fill(zero, win->kernel_width * channels, to);
            continue;
        }
        to = fill(zero, before, to);
        copy(a->x + (at.y0 + ky) * pitch + at.x0 * channels + before, inside, to);
        to = fill(zero, after, to + inside);
    }
    return room;
}

// Four pixels, `row` inputs each.
TT_INNER_LOOP static void expand_four(const int8_t *const *rows, int32_t row, uint32_t minus_zero, uint32_t *to) {
    const int8_t *x0 = rows[0], *x1 = rows[1], *x2 = rows[2], *x3 = rows[3];
    tt_two_words *out = (tt_two_words *)to;
    for (const int8_t *end = x0 + row; x0 != end; x0 += 4, x1 += 4, x2 += 4, x3 += 4, out += 4) {
        const uint32_t b0 = tt_load_bytes(x0), b1 = tt_load_bytes(x1), b2 = tt_load_bytes(x2), b3 = tt_load_bytes(x3);
        out[0] = tt_words(tt_add_even_pair(minus_zero, b0), tt_add_even_pair(minus_zero, b1));
        out[1] = tt_words(tt_add_even_pair(minus_zero, b2), tt_add_even_pair(minus_zero, b3));
        out[2] = tt_words(tt_add_odd_pair(minus_zero, b0), tt_add_odd_pair(minus_zero, b1));
        out[3] = tt_words(tt_add_odd_pair(minus_zero, b2), tt_add_odd_pair(minus_zero, b3));
    }
}

TT_INNER_LOOP static void expand_one(const int8_t *x, int32_t row, uint32_t minus_zero, uint32_t *to) {
    tt_two_words *out = (tt_two_words *)to;
    for (const int8_t *end = x + row; x != end; x += 4) {
        const uint32_t bytes = tt_load_bytes(x);
        *out++ = tt_words(tt_add_even_pair(minus_zero, bytes), tt_add_odd_pair(minus_zero, bytes));
    }
}

// Where the weights will be there is room for the inputs of four pixels.
static void expand_pixels(const work *k, int32_t first, int32_t count) {
    int8_t *room = (int8_t *)k->weights;
    uint32_t *to = k->pixels;
    const uint32_t minus_zero = tt_pair_of(-k->args->x_zero_point);
    for (; count >= PIXELS; count -= PIXELS, first += PIXELS, to += PIXELS / 2 * k->row) {
        const int8_t *rows[PIXELS];
        for (int32_t i = 0; i < PIXELS; i++) { rows[i] = inputs_of(k, first + i, room + i * k->row); }
        expand_four(rows, k->row, minus_zero, to);
    }
    for (; count > 0; count--, first++, to += k->row / 2) {
        expand_one(inputs_of(k, first, room), k->row, minus_zero, to);
    }
}

// The weight of input i of a channel of the two.
static void put_weight(uint32_t *weights, int32_t i, int32_t channel, int8_t weight) {
    int16_t *elements = (int16_t *)weights;
    elements[i / 4 * 8 + i % 2 * 4 + 2 * channel + i / 2 % 2] = weight;
}

// Weights of `count` inputs from input i on, of both channels.
static void expand_weights(const int8_t *w0, const int8_t *w1, int32_t i, int32_t count, uint32_t *weights) {
    const int32_t end = i + count;
    for (; i < end && i % 4 != 0; i++) {
        put_weight(weights, i, 0, *w0++);
        put_weight(weights, i, 1, *w1++);
    }
    tt_two_words *out = (tt_two_words *)(weights + i);
    for (; i + 4 <= end; i += 4, w0 += 4, w1 += 4, out += 2) {
        const uint32_t b0 = tt_load_bytes(w0), b1 = tt_load_bytes(w1);
        out[0] = tt_words(tt_even_pair(b0), tt_even_pair(b1));
        out[1] = tt_words(tt_odd_pair(b0), tt_odd_pair(b1));
    }
    for (; i < end; i++) {
        put_weight(weights, i, 0, *w0++);
        put_weight(weights, i, 1, *w1++);
    }
}

static int holds(const tt_weight_block *block, int32_t co) {
    return co >= block->co_start && co < block->co_start + block->co_count;
}

// Channels co and, where it lies in the same blocks, co + 1; how many. Of one channel the weights are laid out twice.
static int32_t expand_channels(const work *k, int32_t co) {
    const tt_conv2d_s8_args *a = k->args;
    const int32_t cells = a->window.kernel_height * a->window.kernel_width;
    int32_t channels = tt_min(CHANNELS, a->y_channels - co);
    for (int32_t i = 0; i < a->block_count; i++) {
        if (holds(&a->blocks[i], co) != holds(&a->blocks[i], co + 1)) { channels = 1; }
    }
    for (int32_t i = k->inputs / 4 * 4; i < k->row; i += 4) { memset(k->weights + i, 0, 16); }
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        if (!holds(block, co)) { continue; }
        const int8_t *w0 = block->weights + (co - block->co_start) * cells * block->ci_count;
        const int8_t *w1 = channels == CHANNELS ? w0 + cells * block->ci_count : w0;
        if (block->ci_count == a->x_channels) {
            expand_weights(w0, w1, 0, k->inputs, k->weights);
            continue;
        }
        for (int32_t cell = 0; cell < cells; cell++, w0 += block->ci_count, w1 += block->ci_count) {
            expand_weights(w0, w1, cell * a->x_channels + block->ci_start, block->ci_count, k->weights);
        }
    }
    return channels;
}

// Pairs of two pixels with both channels: MAC is an instruction that sets its sum to, or adds to it, two products.
#define LOAD(a, b, from) "ldrd %[" #a "], %[" #b "], [%[" #from "]], #8\n\t"
#define SET(sum, x, w) "smuad %[" #sum "], %[" #x "], %[" #w "]\n\t"
#define ADD(sum, x, w) "smlad %[" #sum "], %[" #x "], %[" #w "], %[" #sum "]\n\t"
#define PAIRS(MAC)                                                                      \
    LOAD(w0, w1, w) LOAD(x0, x1, x) MAC(s0, x0, w0) MAC(s4, x0, w1) MAC(s1, x1, w0) MAC(s5, x1, w1) \
    LOAD(x0, x1, x) MAC(s2, x0, w0) MAC(s6, x0, w1) MAC(s3, x1, w0) MAC(s7, x1, w1)

// Sums of four pixels of a channel, then of the other. Returns where the pixels end. gcc has no register left for the
// end of the loop, and would not load words in pairs.
TT_ALWAYS_INLINE static inline const uint32_t *add_four(const uint32_t *x, const uint32_t *w, const uint32_t *end,
                                                        int32_t *sums) {
    uint32_t x0, x1, w0, w1;
    __asm__(PAIRS(SET) PAIRS(ADD) PAIRS(ADD) PAIRS(ADD)
            "ldr %[x0], %[end]\n\t"
            "sub %[x0], %[x0], %[x]\n\t"
            "lsrs %[x0], %[x0], #7\n\t"  // a unit of four pixels has 64 bytes: carry is set for an odd number of them
            "bcs 2f\n\t"
            "beq 3f\n"
            "1:\t" PAIRS(ADD) PAIRS(ADD) PAIRS(ADD) PAIRS(ADD)
            "2:\t" PAIRS(ADD) PAIRS(ADD) PAIRS(ADD) PAIRS(ADD)
            "ldr %[x0], %[end]\n\t"
            "cmp %[x], %[x0]\n\t"
            "bne 1b\n"
            "3:"
            : [x] "+r"(x), [w] "+r"(w), [x0] "=&r"(x0), [x1] "=&r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1),
              [s0] "=&r"(sums[0]), [s1] "=&r"(sums[1]), [s2] "=&r"(sums[2]), [s3] "=&r"(sums[3]),
              [s4] "=&r"(sums[4]), [s5] "=&r"(sums[5]), [s6] "=&r"(sums[6]), [s7] "=&r"(sums[7])
            : [end] "m"(end)
            : "cc", "memory");
    return x;
}

static const uint32_t *add_one(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums) {
    int32_t s0 = 0, s1 = 0;
    for (; x != end; x += 2, w += 4) {
        const tt_two_words pairs = *(const tt_two_words *)x;
        const tt_two_words even = *(const tt_two_words *)w, odd = *(const tt_two_words *)(w + 2);
        s0 = tt_add_products(tt_first_word(pairs), tt_first_word(even), s0);
        s1 = tt_add_products(tt_first_word(pairs), tt_second_word(even), s1);
        s0 = tt_add_products(tt_second_word(pairs), tt_first_word(odd), s0);
        s1 = tt_add_products(tt_second_word(pairs), tt_second_word(odd), s1);
    }
    sums[0] = s0;
    sums[1] = s1;
    return x;
}

// Channels co and maybe co + 1 of the tile's pixels.
static void finish_pixels(const work *k, int32_t co, int32_t channels, int32_t count, int8_t *y) {
    const int32_t step = k->args->y_channels;
    const uint32_t *x = k->pixels;
    tt_channel two[CHANNELS];
    int32_t sums[PIXELS * CHANNELS];
    for (int32_t i = 0; i < channels; i++) { two[i] = tt_channel_of(&k->output, co + i, k->largest_bias); }
    for (; count >= PIXELS; count -= PIXELS, y += PIXELS * step) {
        x = add_four(x, k->weights, x + PIXELS / 2 * k->row, sums);
        tt_finish(&k->output, &two[0], co, sums, y, step, PIXELS);
        if (channels == CHANNELS) { tt_finish(&k->output, &two[1], co + 1, sums + PIXELS, y + 1, step, PIXELS); }
    }
    for (; count > 0; count--, y += step) {
        x = add_one(x, k->weights, x + k->row / 2, sums);
        tt_finish(&k->output, &two[0], co, sums, y, step, 1);
        if (channels == CHANNELS) { tt_finish(&k->output, &two[1], co + 1, sums + 1, y + 1, step, 1); }
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t cells = win->kernel_height * win->kernel_width, pixels = win->y_height * win->y_width;
    const int32_t inputs = cells * a->x_channels, row = (inputs + UNIT - 1) / UNIT * UNIT;
    const int32_t padded = win->pad_top != 0 || win->pad_left != 0 ||
                           (win->y_height - 1) * win->stride_height >= win->x_height ||
                           (win->y_width - 1) * win->stride_width >= win->x_width;
    uint32_t local[LOCAL_WORDS];
    int32_t room = a->scratch_bytes;
    uint32_t *weights = a->scratch;
    if (room < (int32_t)sizeof local && 2 * row * (PIXELS + CHANNELS) <= (int32_t)sizeof local) {
        room = (int32_t)sizeof local;
        weights = local;
    }
    const work k = {a, {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high, a->single_rounding},
                    inputs, row, cells == 1 && !padded, tt_largest_bias(inputs), weights, weights + row};
    int32_t tile = room / (2 * row) - CHANNELS;
    if (tile < pixels) { tile = tile / PIXELS * PIXELS; }
    for (int32_t first = 0; first < pixels; first += tile) {
        const int32_t count = tt_min(tile, pixels - first);
        expand_pixels(&k, first, count);
        for (int32_t co = 0, channels = 0; co < a->y_channels; co += channels) {
            channels = expand_channels(&k, co);
            finish_pixels(&k, co, channels, count, a->y + first * a->y_channels + co);
        }
    }
    tt_clamp_outputs(&k.output, a->y, pixels * a->y_channels);
}
