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
    int32_t direct;      // so many pixels can be read in whole words where they lie: their inputs follow each other
    int32_t twice_pixels, twice_weights;  // whether these are doubled; none where sums might pass 32 bits
    uint32_t *weights;   // [words, CHANNELS] pairs, and behind them two_outputs
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

// `rows` rows of a window inside the image. Three words, two of which may overlap, hold three cells of three or four
// channels.
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

// Windows inside the image: `count` neighbours, the first of them from `from` on.
TT_INNER_LOOP static void gather_row(const tt_conv2d_s8_args *a, const int8_t *from, int32_t count, int32_t row,
                                     int8_t *to) {
    const int32_t channels = a->x_channels, step = a->window.stride_width * channels, rows = a->window.kernel_height;
    const int32_t pitch = a->window.x_width * channels, width = a->window.kernel_width * channels;
    for (; count > 0; count--, from += step, to += row) { copy_rows(to, from, pitch, width, rows); }
}

// The inputs of `count` output pixels, of each one after the other, `row` bytes from one pixel to the next.
TT_INNER_LOOP static void gather(const tt_conv2d_s8_args *a, int32_t pixel, int32_t count, int32_t row, int8_t *to) {
    const tt_window *win = &a->window;
    const int32_t last_x = win->x_width - win->kernel_width, last_y = win->x_height - win->kernel_height;
    int32_t oy = pixel / win->y_width, ox = pixel - oy * win->y_width;
    for (int32_t run = 0; count > 0; count -= run, to += run * row) {
        const int32_t y0 = oy * win->stride_height - win->pad_top, x0 = ox * win->stride_width - win->pad_left;
        if (y0 >= 0 && y0 <= last_y && x0 >= 0 && x0 <= last_x) {
            run = tt_min(tt_min(count, win->y_width - ox), (last_x - x0) / win->stride_width + 1);
            gather_row(a, a->x + (y0 * win->x_width + x0) * a->x_channels, run, row, to);
        } else {
            run = 1;
            gather_inside(a, y0, x0, to);
        }
        ox += run;
        if (ox == win->y_width) { ox = 0, oy++; }
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
    "bne 1b\n\t"
#define EXPAND_FOURS(LENGTH)                                                                            \
    __asm__ volatile(EXPAND_FOUR(LENGTH)                                                                \
                     "ldr r4, %[next]\n\t"                                                              \
                     "add %[x], r4\n\t"                                                                 \
                     "add %[end], %[end], %[pitch], lsl #2\n\t"                                         \
                     "ldr r4, %[all]\n\t"                                                               \
                     "cmp %[x], r4\n\t"                                                                 \
                     "bne 1b"                                                                           \
                     : [x] "+&r"(x), [to] "+&r"(to), [end] "+&r"(end)                                   \
                     : [pitch] "r"(pitch), [last] "r"(3 * pitch), [zero] "r"(minus_zero), [next] "m"(next), \
                       [all] "m"(all)                                                                   \
                     : "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "cc", "memory")

// Groups of four pixels, `pitch` bytes from one pixel to the next.
TT_INNER_LOOP static void expand_fours(const work *k, const int8_t *x, int32_t pitch, int32_t fours, uint32_t *to) {
    const uint32_t minus_zero = tt_pair_of(-k->args->x_zero_point);
    const int8_t *end = x + 2 * k->words, *all = x + PIXELS * pitch * fours;
    const int32_t next = PIXELS * pitch - 2 * k->words;
    if (k->twice_pixels) {
        EXPAND_FOURS(TWICE);
    } else {
        EXPAND_FOURS(PLAIN);
    }
}

TT_INNER_LOOP static void expand_one(const work *k, const int8_t *x, uint32_t *to) {
    const uint32_t minus_zero = tt_pair_of(-k->args->x_zero_point);
    for (const uint32_t *end = to + k->words; to != end; x += 4, to += 2) {
        const uint32_t bytes = tt_load_bytes(x);
        uint32_t even = tt_add_even_pair(minus_zero, bytes), odd = tt_add_odd_pair(minus_zero, bytes);
        if (k->twice_pixels) {
            even = tt_add_pairs(even, even);
            odd = tt_add_pairs(odd, odd);
        }
        tt_store_two(to, 0, even, odd);
    }
}

// Pixels that cannot be read where they lie are gathered first: four of them where the weights will be, others where
// they will be expanded themselves, so far back that they are read before it is their turn. What follows a pixel's
// inputs, up to a row, is anything: the weights there are zeros.
TT_INNER_LOOP static void expand_pixels(const work *k, int32_t first, int32_t count) {
    const int32_t end = first + count, row = 2 * k->words;
    uint32_t *to = k->pixels;
    for (int32_t step = 0; first < end; first += step, to += step * k->words) {
        const int32_t direct = tt_min(end, k->direct) - first;
        int32_t fours = (end - first) / PIXELS, pitch = row;
        int8_t *room = (int8_t *)k->weights;
        const int8_t *x = room;
        if (direct >= (fours != 0 ? PIXELS : 1)) {
            fours = direct / PIXELS;
            x = k->args->x + first * k->inputs;
            pitch = k->inputs;
        } else {
            if (fours > 1) {
                room = (int8_t *)(to + PIXELS * fours * k->words) - PIXELS * (fours - 1) * row;
                fours--;
                x = room;
            }
            gather(k->args, first, tt_max(1, PIXELS * fours), row, room);
        }
        step = tt_max(1, PIXELS * fours);
        if (fours != 0) {
            expand_fours(k, x, pitch, fours, to);
        } else {
            expand_one(k, x, to);
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

// Weights of `count` inputs of both channels, a multiple of 4, from a multiple of 4 on.
TT_INNER_LOOP static void expand_words(const int8_t *w0, const int8_t *w1, int32_t count, int32_t twice, uint32_t *to) {
    const uint32_t *end = to + count;
    if (twice) {
        while (to != end) { EXPAND_WEIGHTS(EXPAND_WORD(TWICE)); }
        return;
    }
    for (; (count & 12) != 0; count -= 4) { EXPAND_WEIGHTS(EXPAND_WORD(PLAIN)); }
    while (to != end) {
        EXPAND_WEIGHTS(EXPAND_WORD(PLAIN) EXPAND_WORD(PLAIN) EXPAND_WORD(PLAIN) EXPAND_WORD(PLAIN));
    }
}

// Weights of both channels where they are put in a row: behind three quarters of the place where they will be expanded,
// so that each is read before it is its turn; between the rows lies two_outputs.
TT_INNER_LOOP static void copy_both(const work *k, int32_t first, const int8_t *w0, const int8_t *w1, int32_t count) {
    int8_t *to = (int8_t *)k->weights + 6 * k->words + first;
    const int32_t second = 2 * k->words + (int32_t)sizeof(two_outputs);
    if (count < 4) {
        for (int8_t *end = to + count; to != end; to++) {
            to[0] = *w0++;
            to[second] = *w1++;
        }
        return;
    }
    int8_t *last = to + count - 4;
    memcpy(last, w0 + count - 4, 4);
    memcpy(last + second, w1 + count - 4, 4);
    for (; to < last; w0 += 4, w1 += 4, to += 4) {
        memcpy(to, w0, 4);
        memcpy(to + second, w1, 4);
    }
}

// Whether channels co - 1 and co lie in different blocks.
static int parted(const tt_conv2d_s8_args *a, int32_t co) {
    for (const tt_weight_block *block = a->blocks, *end = block + a->block_count; block != end; block++) {
        if (block->co_start == co || block->co_start + block->co_count == co) { return 1; }
    }
    return 0;
}

// Weights of channels co and co + 1; co. Where co is left over in its blocks it takes the one before it once more, and
// that one's number is returned. Where it is alone there, it is laid out twice, and ~co is returned.
TT_INNER_LOOP static int32_t expand_blocks(const work *k, int32_t co) {
    const tt_conv2d_s8_args *a = k->args;
    const int left_over = parted(a, co + 1), alone = left_over && parted(a, co);
    if (left_over && !alone) { co--; }
    int8_t *row0 = (int8_t *)k->weights + 6 * k->words, *row1 = row0 + 2 * k->words + sizeof(two_outputs);
    memset(row0 + 2 * k->words - 4, 0, 4);
    memset(row1 + 2 * k->words - 4, 0, 4);
    for (const tt_weight_block *block = a->blocks, *end = block + a->block_count; block != end; block++) {
        const int32_t row = block->ci_count, size = k->cells * row, channel = co - block->co_start;
        if (channel < 0 || channel >= block->co_count) { continue; }
        const int8_t *w0 = block->weights + channel * size, *w1 = alone ? w0 : w0 + size;
        if (row == a->x_channels) {
            copy_both(k, 0, w0, w1, size);
            continue;
        }
        for (int32_t first = block->ci_start; first < k->inputs; first += a->x_channels, w0 += row, w1 += row) {
            copy_both(k, first, w0, w1, row);
        }
    }
    expand_words(row0, row1, 2 * k->words, k->twice_weights, k->weights);
    return alone ? ~co : co;
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

// What two_channels keeps on the stack: 8 sums, 4 operands and 2 pointers are all registers there are.
typedef struct places {
    const uint32_t *weights;
    uintptr_t w_last;  // the end of the weights, or one less
    uint32_t entry;    // into the loop
    struct {
        int32_t of[CHANNELS];
    } twice_bias;
    two_outputs *outputs;  // behind the weights
    struct {
        int8_t *first;
        int32_t step;  // bytes from one pixel's output to that of the next
    } y;
} places;

// Groups of four pixels from x on, two channels whose outputs have the fast form.
//
// Sums start with their biases, in the first pair; then a jump into the loop takes what is no whole round of it. Where
// the clamp leaves no value below the zero point, the sign of a total need not be looked at (tinytrain/dsp_output.h):
// then w_last is one less, and what ends the loop also says which way to go.
TT_ALWAYS_INLINE static inline void two_channels(const uint32_t *x, int32_t words, places *at) {
    const uint32_t *w;
    at->entry = 1U - PAIR_BYTES * ((uint32_t)(words - 1) % UNROLLED_PAIRS);  // from 3; the 1 stands for Thumb
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
        "ldrd r2, r3, %[y]\n\t"
        "strb r5, [r2, r3]\n\t"
        "strb r6, [r2, r3, lsl #1]\n\t"
        "strb r7, [r2, r12]\n\t"
        "strb r4, [r2], #1\n\t"
        "strb r9, [r2, r3]\n\t"
        "strb r10, [r2, r3, lsl #1]\n\t"
        "strb r11, [r2, r12]\n\t"
        "strb r8, [r2], #-1\n\t"
        "add r2, r2, r3, lsl #2\n\t"
        "str r2, %[y]\n\t"
        "cmp %[x], lr\n\t"
        "bne.w 1b\n\t"
        "b 6f\n"
        "5:\t"
        "ldrd r2, r3, [%[w]], #8\n\t" EACH(SCALE_SIGNED, r2, r3)
        "ldrd r2, r3, [%[w]], #8\n\t" EACH_OF_SECOND(SCALE_SIGNED, r2, r3)
        "b 4b\n"
        "6:"
        : [x] "+l"(x), [w] "=&l"(w), [entry] "+m"(at->entry), [y] "+m"(at->y)
        : [weights] "m"(at->weights), [w_last] "m"(at->w_last), [bias] "m"(at->twice_bias)
        : "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
}

// Adds the products of one pixel's inputs, whose pairs follow each other, with the weights of both channels.
TT_INNER_LOOP static void add_one(const uint32_t *x, const uint32_t *w, const uint32_t *w_end, int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1];
    for (; w != w_end; x += 2, w += 4) {
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

// The same for a pixel of four that lie side by side.
TT_INNER_LOOP static void add_one_of_four(const uint32_t *x, const uint32_t *w, const uint32_t *w_end, int32_t *sums) {
    int32_t s0 = sums[0], s1 = sums[1];
    for (; w != w_end; x += PIXELS, w += CHANNELS) {
        s0 = tt_add_products(*x, w[0], s0);
        s1 = tt_add_products(*x, w[1], s1);
    }
    sums[0] = s0;
    sums[1] = s1;
}

// Outputs of a tile, of `count` channels of any kind.
TT_INNER_LOOP static void any_channels(const work *k, int32_t co, int32_t count, int32_t pixels, int8_t *y) {
    const int32_t words = k->words, in_fours = pixels & ~(PIXELS - 1), halved = k->twice_pixels + k->twice_weights;
    const uint32_t *w = k->weights, *w_end = w + CHANNELS * words;
    for (int32_t i = 0; i < pixels; i++, y += k->args->y_channels) {
        int32_t sums[CHANNELS] = {0, 0};
        if (i < in_fours) {
            add_one_of_four(k->pixels + (i & ~(PIXELS - 1)) * words + (i & (PIXELS - 1)), w, w_end, sums);
        } else {
            add_one(k->pixels + i * words, w, w_end, sums);
        }
        for (int32_t c = 0; c < count; c++) { y[c] = tt_any_output(&k->output, sums[c] >> halved, co + c); }
    }
}

static inline void put_channel(places *at, int32_t i, tt_channel c) {
    at->twice_bias.of[i] = c.twice_bias;
    at->outputs->scale[i].multiplier = c.multiplier;
    at->outputs->scale[i].addend = c.addend;
    at->outputs->right[i] = c.right;
}

// Channels co and co + 1; whether their outputs have the fast form.
TT_INNER_LOOP static int set_channels(const work *k, int32_t co, places *at) {
#pragma GCC unroll 2
    for (int32_t i = 0; i < CHANNELS; i++) {
        if (tt_is_fast(&k->output, co + i, k->inputs)) {
            put_channel(at, i, tt_fast_channel(&k->output, co + i));
        } else {
            const tt_channel c = tt_constant_channel(&k->output, co + i, k->inputs);
            if (c.right == 0) { return 0; }
            put_channel(at, i, c);
        }
    }
    return 1;
}

// One pixel of two channels.
TT_INNER_LOOP static void one_pixel(const uint32_t *x, const places *at, int8_t *y) {
    const two_outputs *outputs = at->outputs;
    int32_t sums[CHANNELS] = {at->twice_bias.of[0], at->twice_bias.of[1]};
    add_one(x, at->weights, (const uint32_t *)outputs, sums);
    for (int32_t c = 0; c < CHANNELS; c++) {
        const tt_channel channel = {0, outputs->scale[c].multiplier, outputs->scale[c].addend, outputs->right[c]};
        y[c] = tt_output_of_twice(&channel, sums[c]);
    }
}

// All channels of a tile of pixels.
TT_INNER_LOOP static void multiply(const work *k, int32_t pixels, int8_t *y) {
    const int32_t channels = k->args->y_channels, words = k->words, fours = pixels / PIXELS;
    const uint32_t *x_end = k->pixels + PIXELS * fours * words;
    two_outputs *outputs = (two_outputs *)(k->weights + CHANNELS * words);
    places at = {.weights = k->weights, .w_last = (uintptr_t)outputs - (k->output.low >= k->output.zero_point)};
    at.outputs = outputs;
    outputs->last = (PIXELS - 1) * channels;
    outputs->x_end = x_end;
    at.y.step = channels;
    for (int32_t co = 0, next = 0; co < channels; co = next) {
        if (k->whole != 0) {
            co = tt_min(co, channels - CHANNELS);
            const int8_t *w = k->whole + co * k->inputs;
            expand_words(w, w + k->inputs, k->inputs, k->twice_weights, k->weights);
            next = co + CHANNELS;
        } else {
            const int32_t expanded = expand_blocks(k, co);
            co = expanded < 0 ? ~expanded : expanded;
            next = expanded < 0 ? co + 1 : co + CHANNELS;
        }
        if (next == co + 1 || !set_channels(k, co, &at)) {
            any_channels(k, co, next - co, pixels, y + co);
            continue;
        }
        at.y.first = y + co;
        if (fours != 0) { two_channels(k->pixels, words, &at); }
        for (int32_t i = PIXELS * fours; i < pixels; i++) {
            one_pixel(k->pixels + i * words, &at, y + i * channels + co);
        }
    }
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t cells = win->kernel_height * win->kernel_width, pixels = win->y_height * win->y_width;
    const int32_t inputs = cells * a->x_channels, row = (inputs + 3) & ~3;
    const int same = cells == 1 && win->pad_top == 0 && win->pad_left == 0 && win->y_height == win->x_height &&
                     win->y_width == win->x_width && win->stride_height == 1 && win->stride_width == 1;
    const int one_block = a->block_count == 1 && row == inputs && a->y_channels >= CHANNELS;
    const int32_t packed = 4 * row + (int32_t)sizeof(two_outputs) + (one_block ? 0 : row);
    uint32_t local[LOCAL_WORDS], *weights = a->scratch, *rest = weights + packed / 4;
    int32_t room = a->scratch_bytes - packed;
    if (room < (int32_t)sizeof local && 2 * row * PIXELS <= (int32_t)sizeof local) {
        room = (int32_t)sizeof local;
        rest = local;
    }
    int32_t tile = room / (2 * row);
    if (tile < pixels) { tile &= ~(PIXELS - 1); }
    const int fits = inputs <= TT_MOST_PRODUCTS, few_channels = a->y_channels < tt_min(tile, pixels);
    const work k = {
        .args = a,
        .output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high, a->single_rounding},
        .whole = one_block ? a->blocks[0].weights : 0,
        .cells = cells,
        .inputs = inputs,
        .words = row / 2,
        .direct = same ? pixels - (row - 1) / inputs : 0,
        .twice_pixels = fits && !few_channels,
        .twice_weights = fits && few_channels,
        .weights = weights,
        .pixels = rest,
    };
    for (int32_t first = 0; first < pixels; first += tile) {
        const int32_t count = tt_min(tile, pixels - first);
        expand_pixels(&k, first, count);
        multiply(&k, count, a->y + first * a->y_channels);
    }
    tt_clamp_outputs(&k.output, a->y, pixels * a->y_channels);
}
