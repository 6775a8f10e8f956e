// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: a tile of output pixels at a time. The inputs of each, less the zero point, are laid out as int16, four
// pixels side by side; then the weights of two output channels after the other. Each step of the inner loop multiplies
// pairs of inputs of four pixels with those of two channels: 16 products of 6 words. Padded cells are zeros.
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

enum { PIXELS = 4, CHANNELS = 2, FEWEST_INPUTS = 8, LOCAL_WORDS = 96, CHANNEL_BYTES = CHANNELS * 16 };

typedef struct work {
    const tt_conv2d_s8_args *args;
    tt_output output;
    const int8_t *whole; // the weights, where they lie in one block, in whole words for each channel
    int32_t cells;       // of a window
    int32_t inputs;      // of one output
    int32_t words;       // half as many, rounded up to an even number: of an expanded pixel
    int32_t contiguous;  // bytes of x, where the inputs of an output follow those of the one before; else 0
    uint32_t *weights;   // [words, CHANNELS] pairs
    tt_channel *channels;  // [CHANNELS], behind the weights
    uint32_t *pixels;    // [words, PIXELS] pairs, groups of pixels; then [words] of each that is left
} work;

static void fill(int8_t *to, int8_t value, int32_t count) {
    for (int8_t *end = to + count; to != end;) { *to++ = value; }
}

// The last of its words may overlap the one before.
TT_ALWAYS_INLINE static inline void copy(int8_t *to, const int8_t *from, int32_t count) {
    if (count < 4) {
        for (int8_t *end = to + count; to != end;) { *to++ = *from++; }
        return;
    }
    int8_t *last = to + count - 4;
    memcpy(last, from + count - 4, 4);
    for (; to < last; from += 4, to += 4) { memcpy(to, from, 4); }
}

// A window at the image's border: padded cells are zero points.
TT_INNER_LOOP static void gather_inside(const tt_conv2d_s8_args *a, int32_t y0, int32_t x0, int8_t *to) {
    const tt_window *win = &a->window;
    const tt_range rows = tt_inside(y0, win->kernel_height, win->x_height);
    const tt_range columns = tt_inside(x0, win->kernel_width, win->x_width);
    const int32_t width = win->kernel_width * a->x_channels, first = columns.first * a->x_channels;
    fill(to, (int8_t)a->x_zero_point, win->kernel_height * width);
    for (int32_t ky = rows.first; ky < rows.last; ky++) {
        const int8_t *from = a->x + ((y0 + ky) * win->x_width + x0) * a->x_channels + first;
        copy(to + ky * width + first, from, tt_max(0, columns.last * a->x_channels - first));
    }
}

// Rows of a window inside the image. Three words, two of which may overlap, hold three cells of three or four channels.
TT_ALWAYS_INLINE static inline void copy_rows(int8_t *to, const int8_t *from, int32_t pitch, int32_t width,
                                              int32_t rows) {
    if (width < 8 || width > 12) {
        for (; rows > 0; rows--, from += pitch, to += width) { copy(to, from, width); }
        return;
    }
    for (; rows > 0; rows--, from += pitch, to += width) {
        const uint32_t first = tt_load_bytes(from), second = tt_load_bytes(from + 4);
        const uint32_t last = tt_load_bytes(from + width - 4);
        memcpy(to, &first, 4);
        memcpy(to + 4, &second, 4);
        memcpy(to + width - 4, &last, 4);
    }
}

// The inputs of `count` output pixels, of each one after the other, `row` bytes from one pixel to the next.
TT_INNER_LOOP static void gather(const tt_conv2d_s8_args *a, int32_t pixel, int32_t count, int32_t row, int8_t *to) {
    const tt_window *win = &a->window;
    const int32_t kernel_height = win->kernel_height, kernel_width = win->kernel_width;
    const int32_t pitch = win->x_width * a->x_channels, width = kernel_width * a->x_channels;
    int32_t oy = pixel / win->y_width, ox = pixel - oy * win->y_width;
    for (; count > 0; count--, to += row) {
        const int32_t y0 = oy * win->stride_height - win->pad_top, x0 = ox * win->stride_width - win->pad_left;
        if (y0 < 0 || x0 < 0 || y0 + kernel_height > win->x_height || x0 + kernel_width > win->x_width) {
            gather_inside(a, y0, x0, to);
        } else {
            copy_rows(to, a->x + y0 * pitch + x0 * a->x_channels, pitch, width, kernel_height);
        }
        if (++ox == win->y_width) { ox = 0, oy++; }
    }
}

// Four pixels, `count` inputs each, `pitch` bytes apart.
TT_INNER_LOOP static void expand_four(const int8_t *x, int32_t pitch, int32_t count, uint32_t minus_zero, uint32_t *to) {
    const int8_t *x1 = x + pitch, *x2 = x1 + pitch, *x3 = x2 + pitch;
    for (const int8_t *end = x + count; x != end; x += 4, x1 += 4, x2 += 4, x3 += 4, to += 8) {
        const uint32_t b0 = tt_load_bytes(x), b1 = tt_load_bytes(x1), b2 = tt_load_bytes(x2), b3 = tt_load_bytes(x3);
        tt_store_two(to, 0, tt_add_even_pair(minus_zero, b0), tt_add_even_pair(minus_zero, b1));
        tt_store_two(to, 1, tt_add_even_pair(minus_zero, b2), tt_add_even_pair(minus_zero, b3));
        tt_store_two(to, 2, tt_add_odd_pair(minus_zero, b0), tt_add_odd_pair(minus_zero, b1));
        tt_store_two(to, 3, tt_add_odd_pair(minus_zero, b2), tt_add_odd_pair(minus_zero, b3));
    }
}

TT_INNER_LOOP static void expand_one(const int8_t *x, int32_t count, uint32_t minus_zero, uint32_t *to) {
    for (const int8_t *end = x + count; x != end; x += 4, to += 2) {
        const uint32_t bytes = tt_load_bytes(x);
        tt_store_two(to, 0, tt_add_even_pair(minus_zero, bytes), tt_add_odd_pair(minus_zero, bytes));
    }
}

// Where the weights will be there is room for the inputs of four pixels. What follows a pixel's inputs, up to a row, is
// anything: the weights there are zeros.
TT_INNER_LOOP static void expand_pixels(const work *k, int32_t first, int32_t count) {
    const uint32_t minus_zero = tt_pair_of(-k->args->x_zero_point);
    const int32_t row = 2 * k->words;
    uint32_t *to = k->pixels;
    for (int32_t end = first + count, step = 0; first < end; first += step, to += step * k->words) {
        const int8_t *x = k->args->x + first * k->inputs;
        int32_t pitch = k->inputs;
        step = end - first >= PIXELS ? PIXELS : 1;
        if ((first + step - 1) * k->inputs + row > k->contiguous) {
            int8_t *room = (int8_t *)k->weights;
            pitch = row;
            gather(k->args, first, step, pitch, room);
            x = room;
        }
        if (step == PIXELS) {
            expand_four(x, pitch, row, minus_zero, to);
        } else {
            expand_one(x, row, minus_zero, to);
        }
    }
}

// The weight of input i of a channel of the two.
static void put_weight(uint32_t *weights, int32_t i, int32_t channel, int8_t weight) {
    int16_t *elements = (int16_t *)weights;
    elements[(i & ~3) * 2 + (i & 1) * 4 + 2 * channel + ((i >> 1) & 1)] = weight;
}

// Weights of four inputs of both channels.
#define EXPAND_WORD                      \
    "ldr %[a], [%[w0]], #4\n\t"          \
    "ldr %[b], [%[w1]], #4\n\t"          \
    "sxtb16 %[even0], %[a]\n\t"          \
    "sxtb16 %[even1], %[b]\n\t"          \
    "strd %[even0], %[even1], [%[to]], #8\n\t" \
    "sxtb16 %[a], %[a], ror #8\n\t"      \
    "sxtb16 %[b], %[b], ror #8\n\t"      \
    "strd %[a], %[b], [%[to]], #8\n\t"
#define EXPAND(words)                                                                                       \
    __asm__ volatile(words                                                                                  \
                     : [w0] "+&r"(w0), [w1] "+&r"(w1), [to] "+&r"(to), [a] "=&r"(a), [b] "=&r"(b),          \
                       [even0] "=&r"(even0), [even1] "=&r"(even1)                                           \
                     :                                                                                      \
                     : "memory")

// Weights of `count` inputs of both channels, a multiple of 4, from a multiple of 4 on.
TT_INNER_LOOP static void expand_words(const int8_t *w0, const int8_t *w1, int32_t count, uint32_t *to) {
    uint32_t a, b, even0, even1;
    if ((count & 4) != 0) { EXPAND(EXPAND_WORD); }
    if ((count & 8) != 0) { EXPAND(EXPAND_WORD EXPAND_WORD); }
    for (const uint32_t *end = to + (count & ~15); to != end;) {
        EXPAND(EXPAND_WORD EXPAND_WORD EXPAND_WORD EXPAND_WORD);
    }
}

// Weights of any inputs.
TT_INNER_LOOP static void expand_weights(const int8_t *w0, const int8_t *w1, int32_t first, int32_t end, uint32_t *to) {
    int32_t i = first;
    w0 -= first;
    w1 -= first;
    while (i < end) {
        if ((i & 3) == 0 && i + 4 <= end) {
            const int32_t count = (end - i) & ~3;
            expand_words(w0 + i, w1 + i, count, to + i);
            i += count;
            continue;
        }
        put_weight(to, i, 0, w0[i]);
        put_weight(to, i, 1, w1[i]);
        i++;
    }
}

static int holds(const tt_weight_block *block, int32_t co) {
    return co >= block->co_start && co < block->co_start + block->co_count;
}

// Weights of a block, of channels co and co + 1 or, where channels is 1, twice of co.
static void expand_block(const work *k, const tt_weight_block *block, int32_t co, int32_t channels) {
    const int32_t size = k->cells * block->ci_count;
    const int8_t *w0 = block->weights + (co - block->co_start) * size, *w1 = channels == CHANNELS ? w0 + size : w0;
    if (size == k->inputs) {
        const int32_t whole = size & ~3;
        expand_words(w0, w1, whole, k->weights);
        if (whole < size) { expand_weights(w0 + whole, w1 + whole, whole, size, k->weights); }
        return;
    }
    for (int32_t first = block->ci_start; first < k->inputs; first += k->args->x_channels) {
        expand_weights(w0, w1, first, first + block->ci_count, k->weights);
        w0 += block->ci_count;
        w1 += block->ci_count;
    }
}

// Channels co and, where it lies in the same blocks, co + 1; how many. Of one channel all is laid out twice.
TT_INNER_LOOP static int32_t expand_channels(const work *k, int32_t co) {
    const tt_weight_block *block = k->args->blocks, *end = block + k->args->block_count;
    int32_t count = tt_min(CHANNELS, k->args->y_channels - co);
    for (int32_t i = k->inputs & ~3; i < 2 * k->words; i += 4) {
        tt_store_two(k->weights + i, 0, 0, 0);
        tt_store_two(k->weights + i, 1, 0, 0);
    }
    if (k->whole != 0) {
        const int8_t *w = k->whole + co * k->inputs;
        expand_words(w, w + (count - 1) * k->inputs, k->inputs, k->weights);
    } else {
        for (; block != end; block++) {
            if (holds(block, co) != holds(block, co + 1)) { count = 1; }
        }
        for (block = k->args->blocks; block != end; block++) {
            if (holds(block, co)) { expand_block(k, block, co, count); }
        }
    }
    tt_set_channel(&k->channels[0], &k->output, co, k->inputs);
    tt_set_channel(&k->channels[1], &k->output, co + count - 1, k->inputs);
    return count;
}

// Pairs of inputs of four pixels with those of both channels. MAC: an instruction that sets its sum to two products, or
// adds them to it.
#define SET(sum, x, w) "smuad %[" #sum "], %[" #x "], %[" #w "]\n\t"
#define ADD(sum, x, w) "smlad %[" #sum "], %[" #x "], %[" #w "], %[" #sum "]\n\t"
#define PAIRS(MAC)                                                                 \
    "ldrd %[w0], %[w1], [%[w]], #8\n\t"                                            \
    "ldrd %[x0], %[x1], [%[x]], #8\n\t"                                            \
    MAC(s0, x0, w0) MAC(s4, x0, w1) MAC(s1, x1, w0) MAC(s5, x1, w1)                \
    "ldrd %[x0], %[x1], [%[x]], #8\n\t"                                            \
    MAC(s2, x0, w0) MAC(s6, x0, w1) MAC(s3, x1, w0) MAC(s7, x1, w1)
#define UNIT PAIRS(ADD) PAIRS(ADD) PAIRS(ADD) PAIRS(ADD)

// All the inputs of four pixels, whose number is a multiple of 4. No register is left for what comes after the first
// 4: doubled, `more` says by its sign that no other 4 make a unit with them, then by its carry that the number of units
// left is odd, or, where it is zero, that none is left.
#define FOUR_PIXELS                                                                                     \
    PAIRS(SET) PAIRS(ADD)                                                                               \
    "ldr %[x0], %[more]\n\t"                                                                            \
    "lsls %[x0], %[x0], #1\n\t"                                                                         \
    "bmi 5f\n\t" PAIRS(ADD) PAIRS(ADD)                                                                  \
    "5:\t"                                                                                              \
    "bcs 2f\n\t"                                                                                        \
    "beq 3f\n"                                                                                          \
    "1:\t" UNIT                                                                                         \
    "2:\t" UNIT                                                                                         \
    "ldr %[x0], %[w_end]\n\t"                                                                           \
    "cmp %[w], %[x0]\n\t"                                                                               \
    "bne 1b\n"                                                                                          \
    "3:\t"

// Their outputs, by the two channels behind the weights; x0 is where those of the first pixel go.
#define STORE(s0, s1, s2, s3, advance)                                                                  \
    "strb %[" #s1 "], [%[x0], %[x1]]\n\t"                                                               \
    "strb %[" #s2 "], [%[x0], %[x1], lsl #1]\n\t"                                                       \
    "strb %[" #s3 "], [%[x0], %[w0]]\n\t"                                                               \
    "strb %[" #s0 "], [%[x0]], #" #advance "\n\t"
#define EIGHT_OUTPUTS                                                                                   \
    "ldrd %[w0], %[w1], [%[w]]\n\t"                                                                     \
    "ldrd %[x0], %[x1], [%[w], #8]\n\t" TT_OUTPUTS(s0, s1, s2, s3, w0, w1, x0, x1)                      \
    "ldrd %[w0], %[w1], [%[w], #16]\n\t"                                                                \
    "ldrd %[x0], %[x1], [%[w], #24]\n\t" TT_OUTPUTS(s4, s5, s6, s7, w0, w1, x0, x1)                     \
    "ldrd %[x0], %[x1], %[to]\n\t"                                                                      \
    "ldrd %[w0], %[w1], %[last]\n\t" STORE(s0, s1, s2, s3, 1) STORE(s4, s5, s6, s7, -1)                 \
    "add %[x0], %[x0], %[x1], lsl #2\n\t"                                                               \
    "str %[x0], %[to]\n\t"

// Groups of four pixels up to x_end, two channels whose outputs have the fast form. `step` bytes lie between pixels of y.
TT_ALWAYS_INLINE static inline void two_channels(const uint32_t *x, const uint32_t *x_end, const uint32_t *weights,
                                                 int32_t words, int8_t *y, int32_t step) {
    struct {
        int8_t *y;
        int32_t step;
    } to = {y, step};
    const struct {
        int32_t step;  // from the first pixel to the last one
        const uint32_t *x_end;
    } last = {3 * step, x_end};
    const uint32_t half = ((uint32_t)words >> 1) & 1, units = ((uint32_t)words >> 2) + half - 1;
    const uint32_t *w_end = weights + CHANNELS * words, more = units << 31 | half << 30 | units >> 1;
    uint32_t w, x0, x1, w0, w1, s0, s1, s2, s3, s4, s5, s6, s7;
    __asm__ volatile("4:\t"
                     "ldr %[w], %[weights]\n\t" FOUR_PIXELS EIGHT_OUTPUTS
                     "cmp %[x], %[w1]\n\t"
                     "bne 4b"
                     : [x] "+&r"(x), [w] "=&r"(w), [x0] "=&r"(x0), [x1] "=&r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1),
                       [s0] "=&r"(s0), [s1] "=&r"(s1), [s2] "=&r"(s2), [s3] "=&r"(s3), [s4] "=&r"(s4),
                       [s5] "=&r"(s5), [s6] "=&r"(s6), [s7] "=&r"(s7), [to] "+m"(to)
                     : [weights] "m"(weights), [w_end] "m"(w_end), [more] "m"(more), [last] "m"(last)
                     : "cc", "memory");
}

// Sums of four pixels of a channel, then of the other.
TT_INNER_LOOP static void add_four(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums) {
    int32_t s[PIXELS * CHANNELS] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (; x != end; x += PIXELS, w += CHANNELS) {
#pragma GCC unroll 4
        for (int32_t i = 0; i < PIXELS; i++) {
            s[i] = tt_add_products(x[i], w[0], s[i]);
            s[PIXELS + i] = tt_add_products(x[i], w[1], s[PIXELS + i]);
        }
    }
    for (int32_t i = 0; i < PIXELS * CHANNELS; i++) { sums[i] = s[i]; }
}

// Sums of one pixel of both channels.
TT_INNER_LOOP static void add_one(const uint32_t *x, const uint32_t *w, const uint32_t *end, int32_t *sums) {
    int32_t s0 = 0, s1 = 0;
    for (; x != end; x += 2, w += 4) {
        uint32_t even, odd, even0, odd0, even1, odd1;
        tt_load_two(x, 0, &even, &odd);
        tt_load_two(w, 0, &even0, &even1);
        tt_load_two(w, 1, &odd0, &odd1);
        s0 = tt_add_products(odd, odd0, tt_add_products(even, even0, s0));
        s1 = tt_add_products(odd, odd1, tt_add_products(even, even1, s1));
    }
    sums[0] = s0;
    sums[1] = s1;
}

// `count` outputs of a channel.
TT_INNER_LOOP static void store_any(const work *k, const tt_channel *c, int32_t co, const int32_t *sums, int8_t *y,
                                    int32_t count) {
    for (int32_t i = 0; i < count; i++, y += k->args->y_channels) {
        *y = c->right != 0 ? tt_fast_output(c, sums[i]) : tt_output_of(&k->output, sums[i], co);
    }
}

// Outputs of pixels of a tile, of `count` channels from co on: sums for any kind of channel.
TT_INNER_LOOP static void any_channels(const work *k, const uint32_t *x, int32_t co, int32_t count, int32_t pixels,
                                       int8_t *y) {
    const int32_t words = k->words;
    for (int32_t at_once = 0; pixels > 0; pixels -= at_once, x += at_once * words, y += at_once * k->args->y_channels) {
        int32_t sums[PIXELS * CHANNELS];
        at_once = pixels >= PIXELS ? PIXELS : 1;
        if (at_once == 1) {
            add_one(x, k->weights, x + words, sums);
        } else {
            add_four(x, k->weights, x + PIXELS * words, sums);
        }
        for (int32_t i = 0; i < count; i++) {
            store_any(k, &k->channels[i], co + i, sums + i * at_once, y + i, at_once);
        }
    }
}

TT_INNER_LOOP static void finish_pixels(const work *k, int32_t co, int32_t count, int32_t pixels, int8_t *y) {
    const int32_t step = k->args->y_channels, words = k->words;
    const uint32_t *x = k->pixels;
    if (count < CHANNELS || k->channels[0].right == 0 || k->channels[1].right == 0) {
        any_channels(k, x, co, count, pixels, y);
        return;
    }
    if (pixels >= PIXELS) {
        const int32_t done = pixels & ~(PIXELS - 1);
        two_channels(x, x + done * words, k->weights, words, y, step);
        x += done * words;
        y += done * step;
        pixels -= done;
    }
    for (; pixels > 0; pixels--, x += words, y += step) {
        int32_t sums[CHANNELS];
        add_one(x, k->weights, x + words, sums);
        y[0] = tt_fast_output(&k->channels[0], sums[0]);
        y[1] = tt_fast_output(&k->channels[1], sums[1]);
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t cells = win->kernel_height * win->kernel_width, pixels = win->y_height * win->y_width;
    const int32_t inputs = cells * a->x_channels, row = tt_max(FEWEST_INPUTS, (inputs + 3) & ~3);
    const int same = cells == 1 && win->pad_top == 0 && win->pad_left == 0 && win->y_height == win->x_height &&
                     win->y_width == win->x_width && win->stride_height == 1 && win->stride_width == 1;
    const int one_block = a->block_count == 1 && (inputs & 3) == 0;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    uint32_t local[LOCAL_WORDS], *weights = a->scratch, *rest = weights + row + CHANNEL_BYTES / 4;
    int32_t room = a->scratch_bytes - 4 * row - CHANNEL_BYTES;
    if (room < (int32_t)sizeof local && 2 * row * PIXELS <= (int32_t)sizeof local) {
        room = (int32_t)sizeof local;
        rest = local;
    }
    const work k = {a, output, one_block ? a->blocks[0].weights : 0, cells, inputs, row / 2, same ? pixels * inputs : 0,
                    weights, (tt_channel *)(weights + row), rest};
    int32_t tile = room / (2 * row);
    if (tile < pixels) { tile &= ~(PIXELS - 1); }
    for (int32_t first = 0; first < pixels; first += tile) {
        const int32_t count = tt_min(tile, pixels - first);
        expand_pixels(&k, first, count);
        for (int32_t co = 0, channels = 0; co < a->y_channels; co += channels) {
            channels = expand_channels(&k, co);
            finish_pixels(&k, co, channels, count, a->y + first * a->y_channels + co);
        }
    }
    tt_clamp_outputs(&output, a->y, pixels * a->y_channels);
}
