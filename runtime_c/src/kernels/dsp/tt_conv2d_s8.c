// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: a tile of output pixels at a time. The inputs of each, less the zero point, are laid out as int16, four
// pixels side by side; then the weights of two output channels after the other. Each step of the inner loop multiplies
// pairs of inputs of four pixels with those of two channels: 16 products of 6 words. Padded cells are zeros. Pixels or
// weights, whichever are fewer, are doubled, so that sums are twice what they should be: as requantization wants them.
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

enum { PIXELS = 4, CHANNELS = 2, LOCAL_WORDS = 96, PAIR_BYTES = 44, UNROLLED_PAIRS = 16 };

// How two channels' sums become outputs, and where four pixels' end.
typedef struct two_outputs {
    struct {
        int32_t multiplier, addend;
    } scale[CHANNELS];
    int32_t right[CHANNELS];
    int32_t last;           // bytes from an output of the first pixel to that of the fourth
    const uint32_t *x_end;  // of the groups of four pixels
} two_outputs;

typedef struct work {
    const tt_conv2d_s8_args *args;
    tt_output output;
    const int8_t *whole; // the weights, where they lie in one block, in whole words for each channel
    int32_t cells;       // of a window
    int32_t inputs;      // of one output
    int32_t words;       // half as many, rounded up to an even number: of an expanded pixel
    int32_t contiguous;  // bytes of x, where the inputs of an output follow those of the one before; else 0
    int32_t twice_pixels, twice_weights;  // whether these are doubled: one of them, or, where sums might pass 32 bits, none
    uint32_t *weights;   // [words, CHANNELS] pairs, and behind them two_outputs
    uint32_t *pixels;    // [words, PIXELS] pairs, groups of pixels; then [words] of each that is left
    tt_channel channels[CHANNELS];
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

#define PLAIN(pair)
#define TWICE(pair) "sadd16 " #pair ", " #pair ", " #pair "\n\t"

// Pairs of four inputs of four pixels: the even ones, then the odd ones.
#define EXPAND_FOUR(LENGTH)                          \
    "1:\t"                                           \
    "ldr r5, [%[x], %[pitch]]\n\t"                   \
    "ldr r6, [%[x], %[pitch], lsl #1]\n\t"           \
    "ldr r7, [%[x], %[last]]\n\t"                    \
    "ldr r4, [%[x]], #4\n\t"                         \
    "sxtab16 r8, %[zero], r4\n\t" LENGTH(r8)         \
    "sxtab16 r9, %[zero], r5\n\t" LENGTH(r9)         \
    "sxtab16 r10, %[zero], r6\n\t" LENGTH(r10)       \
    "sxtab16 r11, %[zero], r7\n\t" LENGTH(r11)       \
    "stm %[to]!, {r8-r11}\n\t"                       \
    "sxtab16 r4, %[zero], r4, ror #8\n\t" LENGTH(r4) \
    "sxtab16 r5, %[zero], r5, ror #8\n\t" LENGTH(r5) \
    "sxtab16 r6, %[zero], r6, ror #8\n\t" LENGTH(r6) \
    "sxtab16 r7, %[zero], r7, ror #8\n\t" LENGTH(r7) \
    "stm %[to]!, {r4-r7}\n\t"                        \
    "cmp %[x], %[end]\n\t"                           \
    "bne 1b"
#define EXPAND_PIXELS(words)                                                                            \
    __asm__ volatile(words                                                                              \
                     : [x] "+&r"(x), [to] "+&r"(to)                                                     \
                     : [pitch] "r"(pitch), [last] "r"(3 * pitch), [zero] "r"(minus_zero), [end] "r"(end) \
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "cc", "memory")

// Four pixels, `count` inputs each, `pitch` bytes apart.
TT_INNER_LOOP static void expand_four(const int8_t *x, int32_t pitch, int32_t count, uint32_t minus_zero, int32_t twice,
                                      uint32_t *to) {
    const int8_t *end = x + count;
    if (twice) {
        EXPAND_PIXELS(EXPAND_FOUR(TWICE));
    } else {
        EXPAND_PIXELS(EXPAND_FOUR(PLAIN));
    }
}

TT_INNER_LOOP static void expand_one(const int8_t *x, int32_t count, uint32_t minus_zero, int32_t twice, uint32_t *to) {
    for (const int8_t *end = x + count; x != end; x += 4, to += 2) {
        const uint32_t bytes = tt_load_bytes(x);
        uint32_t even = tt_add_even_pair(minus_zero, bytes), odd = tt_add_odd_pair(minus_zero, bytes);
        if (twice) {
            even = tt_add_pairs(even, even);
            odd = tt_add_pairs(odd, odd);
        }
        tt_store_two(to, 0, even, odd);
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
            expand_four(x, pitch, row, minus_zero, k->twice_pixels, to);
        } else {
            expand_one(x, row, minus_zero, k->twice_pixels, to);
        }
    }
}

// Weights of four inputs of both channels: the even pairs, then the odd ones.
#define EXPAND_WORD(LENGTH)                   \
    "ldr r12, [%[w0]], #4\n\t"                \
    "ldr lr, [%[w1]], #4\n\t"                 \
    "sxtb16 r4, r12\n\t" LENGTH(r4)           \
    "sxtb16 r5, lr\n\t" LENGTH(r5)            \
    "sxtb16 r12, r12, ror #8\n\t" LENGTH(r12) \
    "sxtb16 lr, lr, ror #8\n\t" LENGTH(lr)    \
    "stm %[to]!, {r4, r5, r12, lr}\n\t"
#define EXPAND_WEIGHTS(words)                                             \
    __asm__ volatile(words                                                \
                     : [w0] "+&r"(w0), [w1] "+&r"(w1), [to] "+&r"(to)     \
                     :                                                    \
                     : "r4", "r5", "r12", "lr", "memory")
#define EXPAND_WORDS(LENGTH)                                                         \
    if ((count & 4) != 0) { EXPAND_WEIGHTS(EXPAND_WORD(LENGTH)); }                   \
    while (to != end) { EXPAND_WEIGHTS(EXPAND_WORD(LENGTH) EXPAND_WORD(LENGTH)); }

// Weights of `count` inputs of both channels, a multiple of 4, from a multiple of 4 on.
TT_INNER_LOOP static void expand_words(const int8_t *w0, const int8_t *w1, int32_t count, int32_t twice, uint32_t *to) {
    const uint32_t *end = to + count;
    if (twice) {
        EXPAND_WORDS(TWICE)
    } else {
        EXPAND_WORDS(PLAIN)
    }
}

// The weight of input i of a channel of the two.
static void put_weight(uint32_t *weights, int32_t i, int32_t channel, int32_t weight) {
    int16_t *elements = (int16_t *)weights;
    elements[(i & ~3) * 2 + (i & 1) * 4 + 2 * channel + ((i >> 1) & 1)] = (int16_t)weight;
}

// Weights of any inputs.
TT_INNER_LOOP static void expand_weights(const work *k, const int8_t *w0, const int8_t *w1, int32_t first, int32_t end) {
    w0 -= first;
    w1 -= first;
    for (int32_t i = first; i < end;) {
        if ((i & 3) == 0 && i + 4 <= end) {
            const int32_t count = (end - i) & ~3;
            expand_words(w0 + i, w1 + i, count, k->twice_weights, k->weights + i);
            i += count;
            continue;
        }
        put_weight(k->weights, i, 0, w0[i] * (1 + k->twice_weights));
        put_weight(k->weights, i, 1, w1[i] * (1 + k->twice_weights));
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
        expand_weights(k, w0, w1, 0, size);
        return;
    }
    for (int32_t first = block->ci_start; first < k->inputs; first += k->args->x_channels) {
        expand_weights(k, w0, w1, first, first + block->ci_count);
        w0 += block->ci_count;
        w1 += block->ci_count;
    }
}

// Channels co and, where it lies in the same blocks, co + 1; how many. Of one channel all is laid out twice.
TT_INNER_LOOP static int32_t expand_channels(work *k, int32_t co) {
    const tt_weight_block *block = k->args->blocks, *end = block + k->args->block_count;
    int32_t count = tt_min(CHANNELS, k->args->y_channels - co);
    for (int32_t i = k->inputs & ~3; i < 2 * k->words; i += 4) {
        tt_store_two(k->weights + i, 0, 0, 0);
        tt_store_two(k->weights + i, 1, 0, 0);
    }
    if (k->whole != 0) {
        const int8_t *w = k->whole + co * k->inputs;
        expand_words(w, w + (count - 1) * k->inputs, k->inputs, k->twice_weights, k->weights);
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

// Pairs of inputs of four pixels with those of both channels, added to the sums of the first channel (r4 to r7) and of
// the second (r8 to r11). FROM: what a sum is before.
#define PAIR(FROM)                                      \
    "ldrd r2, r3, [%[w]], #8\n\t"                       \
    "ldrd r12, lr, [%[x]], #8\n\t"                      \
    "smlad r4, r12, r2, " FROM(r4, r7) "\n\t"           \
    "smlad r8, r12, r3, " FROM(r8, r11) "\n\t"          \
    "smlad r5, lr, r2, " FROM(r5, r7) "\n\t"            \
    "smlad r9, lr, r3, " FROM(r9, r11) "\n\t"           \
    "ldrd r12, lr, [%[x]], #8\n\t"                      \
    "smlad r6, r12, r2, " FROM(r6, r7) "\n\t"           \
    "smlad r10, r12, r3, " FROM(r10, r11) "\n\t"        \
    "smlad r7, lr, r2, r7\n\t"                          \
    "smlad r11, lr, r3, r11\n\t"
#define SUM(sum, bias) #sum
#define BIAS(sum, bias) #bias
#define FOUR_PAIRS PAIR(SUM) PAIR(SUM) PAIR(SUM) PAIR(SUM)
#define EACH(DO, ...) \
    DO(r4, __VA_ARGS__) DO(r5, __VA_ARGS__) DO(r6, __VA_ARGS__) DO(r7, __VA_ARGS__)
#define EACH_OF_SECOND(DO, ...) \
    DO(r8, __VA_ARGS__) DO(r9, __VA_ARGS__) DO(r10, __VA_ARGS__) DO(r11, __VA_ARGS__)
#define SCALE(s, multiplier, addend) "smmlar " #s ", " #s ", " #multiplier ", " #addend "\n\t"
#define SCALE_SIGNED(s, multiplier, addend)                         \
    "smmlar r12, " #s ", " #multiplier ", " #addend "\n\t"          \
    "add " #s ", r12, " #s ", asr #31\n\t"
#define SHIFT(s, right) "asr " #s ", " #s ", " #right "\n\t"
#define SATURATE(s, ...) "ssat " #s ", #8, " #s "\n\t"

// Groups of four pixels up to x_end, two channels whose outputs have the fast form. `step` bytes lie between pixels of y.
// 8 sums, 4 operands and 2 pointers are all registers there are, so the rest lies on the stack and behind the weights.
//
// Sums start with their biases, in the first pair; then a jump into the loop takes what is no whole round of it. Where
// the clamp leaves no value below the zero point, the sign of a total need not be looked at (tinytrain/dsp_output.h);
// then w_last is one less than the end of the weights, and what ends the loop also says which way to go.
TT_ALWAYS_INLINE static inline void two_channels(const work *k, const uint32_t *x, const uint32_t *x_end, int8_t *y) {
    const tt_channel *c = k->channels;
    const int32_t step = k->args->y_channels;
    const uint32_t *const weights = k->weights, *w;
    two_outputs *outputs = (two_outputs *)(k->weights + CHANNELS * k->words);
    const uintptr_t w_last = (uintptr_t)outputs - (k->output.low >= k->output.zero_point);
    uint32_t entry = 1U - PAIR_BYTES * ((uint32_t)(k->words - 1) % UNROLLED_PAIRS);  // before 3; the 1 stands for Thumb
    struct {
        int32_t first, second;
    } bias = {c[0].twice_bias, c[1].twice_bias};
    struct {
        int8_t *y;
        int32_t step;
    } to = {y, step};
    *outputs = (two_outputs){{{c[0].multiplier, c[0].addend}, {c[1].multiplier, c[1].addend}},
                             {c[0].right, c[1].right}, 3 * step, x_end};
    __asm__ volatile(
        "ldr r2, %[entry]\n\t"
        "adr.w r3, 3f\n\t"
        "add r2, r3\n\t"
        "str r2, %[entry]\n"
        "1:\t"
        "ldr %[w], %[weights]\n\t"
        "ldrd r7, r11, %[bias]\n\t" PAIR(BIAS)
        "ldr pc, %[entry]\n"
        "2:\t" FOUR_PAIRS FOUR_PAIRS FOUR_PAIRS FOUR_PAIRS
        "3:\t"
        "ldr r12, %[w_last]\n\t"
        "cmp %[w], r12\n\t"
        "blo.w 2b\n\t"
        "beq 5f\n\t"
        "ldm %[w]!, {r2, r3, r12, lr}\n\t" EACH(SCALE, r2, r3) EACH_OF_SECOND(SCALE, r12, lr)
        "4:\t"
        "ldm %[w], {r2, r3, r12, lr}\n\t" EACH(SHIFT, r2) EACH_OF_SECOND(SHIFT, r3) EACH(SATURATE,)
        EACH_OF_SECOND(SATURATE,)
        "ldrd r2, r3, %[to]\n\t"
        "strb r5, [r2, r3]\n\t"
        "strb r6, [r2, r3, lsl #1]\n\t"
        "strb r7, [r2, r12]\n\t"
        "strb r4, [r2], #1\n\t"
        "strb r9, [r2, r3]\n\t"
        "strb r10, [r2, r3, lsl #1]\n\t"
        "strb r11, [r2, r12]\n\t"
        "strb r8, [r2], #-1\n\t"
        "add r2, r2, r3, lsl #2\n\t"
        "str r2, %[to]\n\t"
        "cmp %[x], lr\n\t"
        "bne.w 1b\n\t"
        "b 6f\n"
        "5:\t"
        "ldrd r2, r3, [%[w]], #8\n\t" EACH(SCALE_SIGNED, r2, r3)
        "ldrd r2, r3, [%[w]], #8\n\t" EACH_OF_SECOND(SCALE_SIGNED, r2, r3)
        "b 4b\n"
        "6:"
        : [x] "+l"(x), [w] "=&l"(w), [entry] "+m"(entry), [to] "+m"(to)
        : [weights] "m"(weights), [w_last] "m"(w_last), [bias] "m"(bias)
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
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
    const int32_t halved = k->twice_pixels + k->twice_weights;
    for (int32_t i = 0; i < count; i++, y += k->args->y_channels) {
        const int32_t sum = sums[i] >> halved;
        *y = c->right != 0 ? tt_fast_output(c, sum) : tt_output_of(&k->output, sum, co);
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
        two_channels(k, x, x + done * words, y);
        x += done * words;
        y += done * step;
        pixels -= done;
    }
    for (; pixels > 0; pixels--, x += words, y += step) {
        int32_t sums[CHANNELS];
        add_one(x, k->weights, x + words, sums);
        y[0] = tt_output_of_twice(&k->channels[0], k->channels[0].twice_bias + sums[0]);
        y[1] = tt_output_of_twice(&k->channels[1], k->channels[1].twice_bias + sums[1]);
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t cells = win->kernel_height * win->kernel_width, pixels = win->y_height * win->y_width;
    const int32_t inputs = cells * a->x_channels, row = (inputs + 3) & ~3;
    const int same = cells == 1 && win->pad_top == 0 && win->pad_left == 0 && win->y_height == win->x_height &&
                     win->y_width == win->x_width && win->stride_height == 1 && win->stride_width == 1;
    const int one_block = a->block_count == 1 && (inputs & 3) == 0;
    uint32_t local[LOCAL_WORDS], *weights = a->scratch, *rest = weights + row + sizeof(two_outputs) / 4;
    int32_t room = a->scratch_bytes - 4 * row - (int32_t)sizeof(two_outputs);
    if (room < (int32_t)sizeof local && 2 * row * PIXELS <= (int32_t)sizeof local) {
        room = (int32_t)sizeof local;
        rest = local;
    }
    int32_t tile = room / (2 * row);
    if (tile < pixels) { tile &= ~(PIXELS - 1); }
    const int fits = inputs <= TT_MOST_PRODUCTS, few_channels = a->y_channels < tt_min(tile, pixels);
    work k = {
        .args = a,
        .output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high, a->single_rounding},
        .whole = one_block ? a->blocks[0].weights : 0,
        .cells = cells,
        .inputs = inputs,
        .words = row / 2,
        .contiguous = same ? pixels * inputs : 0,
        .twice_pixels = fits && !few_channels,
        .twice_weights = fits && few_channels,
        .weights = weights,
        .pixels = rest,
    };
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
