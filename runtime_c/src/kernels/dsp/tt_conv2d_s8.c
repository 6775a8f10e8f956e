// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8: a tile of output pixels at a time. The inputs of each, less the zero point, are laid out as int16, four
// pixels side by side; then the weights of two output channels after the other. Each step of the inner loop multiplies
// pairs of inputs of four pixels with those of two channels: 16 products of 6 words. Padded cells are zeros. Pixels, or
// weights where they are far fewer, are doubled, so that sums are twice what they should be, as requantization wants.
#include "tinytrain/dsp.h"
#include "tinytrain/dsp_expand.h"
#include "tinytrain/dsp_gather.h"
#include "tinytrain/dsp_output.h"
#include "tinytrain/kernels/conv2d.h"

enum { LOCAL_WORDS = 96, PAIR_BYTES = 44, UNROLLED_PAIRS = 16 };

// How two channels' sums become outputs, and where four pixels' end.
typedef struct two_outputs {
    struct {
        int32_t multiplier, addend;
    } scale[TT_CHANNELS];
    int32_t right[TT_CHANNELS];
    int32_t last;           // bytes from an output of the first pixel to that of the fourth
    const uint32_t *x_end;  // of the groups of four pixels
} two_outputs;

typedef struct work {
    const tt_conv2d_s8_args *args;
    tt_output output;
    tt_channels channels;
    tt_image image;
    tt_expansion pixel;  // not twice where sums might pass 32 bits; nor are the weights
    const int8_t *whole; // the weights, where they lie in one block, in whole words for each channel
    int32_t cells;       // of a window
    int32_t inputs;      // of one output
    int32_t direct;      // so many pixels can be read in whole words where they lie: their inputs follow each other
    int32_t twice_weights;
    uint32_t *weights;   // [words, TT_CHANNELS] pairs, and behind them two_outputs
    uint32_t *pixels;    // [words, TT_PIXELS] pairs, groups of pixels; then [words] of each that is left
} work;

// Pixels that cannot be read where they lie are gathered first: four of them where the weights will be, others where
// they will be expanded themselves, so far back that they are read before it is their turn. What follows a pixel's
// inputs, up to a row, is anything: the weights there are zeros.
TT_INNER_LOOP static void expand_pixels(const work *k, int32_t first, int32_t count) {
    const int32_t end = first + count, row = 2 * k->pixel.words;
    uint32_t *to = k->pixels;
    for (int32_t step = 0; first < end; first += step, to += step * k->pixel.words) {
        const int32_t direct = tt_min(end, k->direct) - first;
        int32_t fours = (end - first) / TT_PIXELS, pitch = row;
        int8_t *room = (int8_t *)k->weights;
        const int8_t *x = room;
        if (direct >= (fours != 0 ? TT_PIXELS : 1)) {
            fours = direct / TT_PIXELS;
            x = k->args->x + first * k->inputs;
            pitch = k->inputs;
        } else {
            if (fours > 1) {
                room = (int8_t *)(to + TT_PIXELS * fours * k->pixel.words) - TT_PIXELS * (fours - 1) * row;
                fours--;
                x = room;
            }
            tt_gather(&k->image, first, tt_max(1, TT_PIXELS * fours), row, room);
        }
        step = tt_max(1, TT_PIXELS * fours);
        if (fours != 0) {
            tt_expand_fours(&k->pixel, x, pitch, fours, to);
        } else {
            tt_expand_one(&k->pixel, x, to);
        }
    }
}

// Weights of both channels where they are put in a row: behind three quarters of the place where they will be expanded,
// so that each is read before it is its turn; between the rows lies two_outputs.
TT_INNER_LOOP static void copy_both(const work *k, int32_t first, const int8_t *w0, const int8_t *w1, int32_t count) {
    int8_t *to = (int8_t *)k->weights + 6 * k->pixel.words + first;
    const int32_t second = 2 * k->pixel.words + (int32_t)sizeof(two_outputs);
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
    int8_t *row0 = (int8_t *)k->weights + 6 * k->pixel.words, *row1 = row0 + 2 * k->pixel.words + sizeof(two_outputs);
    memset(row0 + 2 * k->pixel.words - 4, 0, 4);
    memset(row1 + 2 * k->pixel.words - 4, 0, 4);
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
    tt_expand_words(row0, row1, 2 * k->pixel.words, k->twice_weights, k->weights);
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
        int32_t of[TT_CHANNELS];
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
    for (; w != w_end; x += TT_PIXELS, w += TT_CHANNELS) {
        s0 = tt_add_products(*x, w[0], s0);
        s1 = tt_add_products(*x, w[1], s1);
    }
    sums[0] = s0;
    sums[1] = s1;
}

// Outputs of a tile, of `count` channels of any kind.
TT_INNER_LOOP static void any_channels(const work *k, int32_t co, int32_t count, int32_t pixels, int8_t *y) {
    const int32_t words = k->pixel.words, in_fours = pixels & ~(TT_PIXELS - 1);
    const int32_t halved = k->pixel.twice + k->twice_weights;
    const uint32_t *w = k->weights, *w_end = w + TT_CHANNELS * words;
    for (int32_t i = 0; i < pixels; i++, y += k->args->y_channels) {
        int32_t sums[TT_CHANNELS] = {0, 0};
        if (i < in_fours) {
            add_one_of_four(k->pixels + (i & ~(TT_PIXELS - 1)) * words + (i & (TT_PIXELS - 1)), w, w_end, sums);
        } else {
            add_one(k->pixels + i * words, w, w_end, sums);
        }
        for (int32_t c = 0; c < count; c++) { y[c] = tt_any_output(&k->output, sums[c] >> halved, co + c); }
    }
}

// Channels co and co + 1, of any kind; whether their outputs have the fast form.
TT_RARE static int set_any_channels(const tt_channels *all, int32_t co, places *at) {
    two_outputs *outputs = at->outputs;
    for (int32_t i = 0; i < TT_CHANNELS; i++) {
        tt_channel c;
        tt_set_channel(&c, all, co + i);
        at->twice_bias.of[i] = c.twice_bias;
        outputs->scale[i].multiplier = c.multiplier;
        outputs->scale[i].addend = c.addend;
        outputs->right[i] = c.right;
        if (c.right == 0) { return 0; }
    }
    return 1;
}

// The same, for what most of them are.
TT_INNER_LOOP static int set_channels(const tt_channels *all, int32_t co, places *at) {
    const int8_t *shift = all->shift + co;
    const uint32_t less0 = tt_right_less_one(shift[0]), less1 = tt_right_less_one(shift[1]);
    uint32_t bias0, bias1, multiplier0, multiplier1;
    tt_load_two((const uint32_t *)all->bias + co, 0, &bias0, &bias1);
    if (!tt_is_fast(all, less0, bias0) || !tt_is_fast(all, less1, bias1)) { return set_any_channels(all, co, at); }
    tt_load_two((const uint32_t *)all->multiplier + co, 0, &multiplier0, &multiplier1);
    uint32_t *scale = (uint32_t *)at->outputs, *twice_bias = (uint32_t *)at->twice_bias.of;
    tt_store_two(twice_bias, 0, 2 * bias0, 2 * bias1);
    tt_store_two(scale, 0, multiplier0, (uint32_t)all->twice_zero << less0);
    tt_store_two(scale, 1, multiplier1, (uint32_t)all->twice_zero << less1);
    tt_store_two(scale, 2, less0 + 1, less1 + 1);
    return 1;
}

// One pixel of two channels.
TT_INNER_LOOP static void one_pixel(const uint32_t *x, const places *at, int8_t *y) {
    const two_outputs *outputs = at->outputs;
    int32_t sums[TT_CHANNELS] = {at->twice_bias.of[0], at->twice_bias.of[1]};
    add_one(x, at->weights, (const uint32_t *)outputs, sums);
    for (int32_t c = 0; c < TT_CHANNELS; c++) {
        const tt_channel channel = {0, outputs->scale[c].multiplier, outputs->scale[c].addend, outputs->right[c]};
        y[c] = tt_output_of_twice(&channel, sums[c]);
    }
}

// All channels of a tile of pixels.
TT_INNER_LOOP static void multiply(const work *k, int32_t pixels, int8_t *y) {
    const int32_t channels = k->args->y_channels, words = k->pixel.words, fours = pixels / TT_PIXELS;
    const int32_t rest = pixels - TT_PIXELS * fours;
    const uint32_t *x_end = k->pixels + TT_PIXELS * fours * words;
    two_outputs *outputs = (two_outputs *)(k->weights + TT_CHANNELS * words);
    places at = {.weights = k->weights, .w_last = (uintptr_t)outputs - (k->output.low >= k->output.zero_point)};
    at.outputs = outputs;
    outputs->last = (TT_PIXELS - 1) * channels;
    outputs->x_end = x_end;
    at.y.step = channels;
    for (int32_t co = 0, next = 0; co < channels; co = next) {
        int alone = 0;
        if (k->whole != 0) {
            co = tt_min(co, channels - TT_CHANNELS);
            const int8_t *w = k->whole + co * k->inputs;
            tt_expand_words(w, w + k->inputs, k->inputs, k->twice_weights, k->weights);
        } else {
            co = expand_blocks(k, co);
            alone = co < 0;
            co = alone ? ~co : co;
        }
        next = co + (alone ? 1 : TT_CHANNELS);
        if (alone || !set_channels(&k->channels, co, &at)) {
            any_channels(k, co, next - co, pixels, y + co);
            continue;
        }
        at.y.first = y + co;
        if (fours != 0) { two_channels(k->pixels, words, &at); }
        for (int32_t i = pixels - rest; i < pixels; i++) {
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
    const int one_block = a->block_count == 1 && row == inputs && a->y_channels >= TT_CHANNELS;
    const int32_t packed = 4 * row + (int32_t)sizeof(two_outputs) + (one_block ? 0 : row);
    uint32_t local[LOCAL_WORDS], *weights = a->scratch, *rest = weights + packed / 4;
    int32_t room = a->scratch_bytes - packed;
    if (room < (int32_t)sizeof local && 2 * row * TT_PIXELS <= (int32_t)sizeof local) {
        room = (int32_t)sizeof local;
        rest = local;
    }
    int32_t tile = room / (2 * row);
    if (tile < pixels) { tile &= ~(TT_PIXELS - 1); }
    const int fits = inputs <= TT_MOST_PRODUCTS, few_channels = 2 * a->y_channels < tt_min(tile, pixels);
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    work k = {
        .args = a,
        .output = output,
        .image = {a->x, win, a->x_channels, a->x_zero_point},
        .pixel = {row / 2, tt_pair_of(-a->x_zero_point), fits && !few_channels},
        .whole = one_block ? a->blocks[0].weights : 0,
        .cells = cells,
        .inputs = inputs,
        .direct = same ? pixels - (row - 1) / inputs : 0,
        .twice_weights = fits && few_channels,
        .weights = weights,
        .pixels = rest,
    };
    k.channels = tt_channels_of(&k.output, inputs);
    for (int32_t first = 0; first < pixels; first += tile) {
        const int32_t count = tt_min(tile, pixels - first);
        expand_pixels(&k, first, count);
        multiply(&k, count, a->y + first * a->y_channels);
    }
    tt_clamp_outputs(&k.output, a->y, pixels * a->y_channels);
}
