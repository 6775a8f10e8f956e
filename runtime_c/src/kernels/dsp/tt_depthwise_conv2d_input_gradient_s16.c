// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient_s16: gradients of four channels are packed into scratch as pairs of neighbouring
// pixels, one from each pixel on and with zeros around them; so are the weights that a pixel of x meets, in the order in
// which it meets them. Then SMLAD takes two taps of a channel.
//
// With strides, pixels go by phases: those of one phase meet the same taps. Channels beyond a multiple of four go one by
// one. Several outputs per channel, little scratch and shifts that do not occur are left to the portable kernel.
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/portable/depthwise_conv2d_input_gradient.h"
#include "tinytrain/window.h"

enum { LANES = 4 };

// One dimension of the pixels first, first + stride, ...: pixel i meets tap t, of kernel position tap + t * stride, at
// output base + i - t.
typedef struct axis {
    int32_t first, pixels, tap, taps, base;
} axis;

typedef struct work {
    const tt_depthwise_conv2d_input_gradient_args *args;
    tt_rounding rounding;
    tt_watch watch;
    int32_t left;          // zeros on the left of the packed gradients
    int32_t half;          // pairs that begin at even places of a row, and at odd ones
    uint32_t *gradients;   // [y_height][even, odd places][half][LANES], place p: pixels p - left and p - left + 1
    uint32_t *weights;     // [taps of y, last first][pairs of taps of x, last first][LANES]
    int32_t scales[LANES]; // factors << (32 - right): a product's rounded high word is the mantissa
    axis y, x;
} work;

static axis axis_of(int32_t first, int32_t extent, int32_t pad, int32_t stride, int32_t kernel) {
    const int32_t tap = (first + pad) % stride;
    const axis a = {first, (extent - first + stride - 1) / stride, tap,
                    tap < kernel ? (kernel - tap + stride - 1) / stride : 0, (first + pad) / stride};
    return a;
}

static int32_t tap_pairs(const axis *x) { return (x->taps + 1) / 2; }

// --- packing ---

// The pairs (first, second) of four channels.
TT_ALWAYS_INLINE static inline void pack_two(uint32_t **out, const uint32_t *first, const uint32_t *second) {
    __asm__ volatile(
        "pkhbt  r0, %[first], %[second], lsl #16\n\t"
        "pkhtb  r1, %[second], %[first], asr #16\n\t"
        "pkhbt  r2, %[first_high], %[second_high], lsl #16\n\t"
        "pkhtb  r3, %[second_high], %[first_high], asr #16\n\t"
        "stm    %[out]!, {r0, r1, r2, r3}\n\t"
        : [out] "+r"(*out)
        : [first] "r"(first[0]), [second] "r"(second[0]), [first_high] "r"(first[1]), [second_high] "r"(second[1])
        : "r0", "r1", "r2", "r3", "memory");
}

// All pairs with a pixel in them; the first one lies at an even place. The others stay zeros.
TT_INNER_LOOP static void pack_gradients(const work *w, int32_t channel) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const int32_t channels = a->y_channels, zeros = LANES * (w->left - 1) / 2;
    const int16_t *gy = (const int16_t *)a->gy + channel;
    for (int32_t oy = 0; oy < a->window.y_height; oy++) {
        uint32_t *even = w->gradients + oy * 2 * LANES * w->half + zeros, *odd = even + LANES * w->half;
        const uint32_t none[2] = {0, 0};
        uint32_t last[2] = {0, 0}, next[2];
        int32_t left = a->window.y_width;
        for (; left > 1; left -= 2) {
            next[0] = tt_word_at(gy), next[1] = tt_word_at(gy + 2), gy += channels;
            pack_two(&even, last, next);
            last[0] = tt_word_at(gy), last[1] = tt_word_at(gy + 2), gy += channels;
            pack_two(&odd, next, last);
        }
        if (left > 0) {
            next[0] = tt_word_at(gy), next[1] = tt_word_at(gy + 2), gy += channels;
            pack_two(&even, last, next);
            pack_two(&odd, next, none);
        } else {
            pack_two(&even, last, none);
        }
    }
}

// Weights of four channels, those of the block's from c on.
TT_INNER_LOOP static void pack_weights(const work *w, const tt_depthwise_block *block, int32_t c) {
    const tt_window *win = &w->args->window;
    const int32_t tap_step = win->stride_width * block->count, pairs = tap_pairs(&w->x), odd = w->x.taps & 1;
    const int32_t row_step = win->stride_height * win->kernel_width * block->count;
    const int32_t row = w->y.tap * win->kernel_width + w->x.tap;
    const int8_t *last = block->weights + row * block->count + c + (w->y.taps - 1) * row_step + (2 * pairs - 1) * tap_step;
    uint32_t *out = w->weights;
    for (int32_t ty = 0; ty < w->y.taps; ty++, last -= row_step) {
        const int8_t *at = last;
        for (int32_t pair = 0; pair < pairs; pair++, at -= 2 * tap_step) {
            const uint32_t later = pair == 0 && odd ? 0 : tt_word_at(at), other = tt_word_at(at - tap_step);
            const uint32_t lows = tt_pair_of_lows(later, other), highs = tt_pair_of_highs(later, other);
            tt_store_two(&out, tt_even_bytes(lows), tt_odd_bytes(lows));
            tt_store_two(&out, tt_even_bytes(highs), tt_odd_bytes(highs));
        }
    }
}

// --- sums ---

// The rows of outputs that a row of pixels meets.
typedef struct meeting {
    const uint32_t *gradients, *weights, *weights_end;
} meeting;

static meeting meeting_of(const work *w, int32_t i, int32_t pairs) {
    const int32_t last = tt_min(w->args->window.y_height - 1, w->y.base + i);
    const int32_t first = tt_max(0, w->y.base + i - w->y.taps + 1), tap = w->y.base + i - first;
    const int32_t row = LANES * pairs;
    const uint32_t *weights = w->weights + (w->y.taps - 1 - tap) * row;
    const meeting m = {w->gradients + first * 2 * LANES * w->half, weights, weights + (last - first + 1) * row};
    return m;
}

#define ONE_PAIR                                 \
    "ldm    %[g]!, {r8, r9, r10, r11}\n\t"       \
    "ldm    %[w]!, {r0, r1, r2, r3}\n\t"         \
    "smlad  %[s0], r8, r0, %[s0]\n\t"            \
    "smlad  %[s1], r9, r1, %[s1]\n\t"            \
    "smlad  %[s2], r10, r2, %[s2]\n\t"           \
    "smlad  %[s3], r11, r3, %[s3]\n\t"

typedef struct sums {
    int32_t of[LANES];
} sums;

// The sums of four channels: `pairs` pairs of taps in each row, and `skip` words from the end of one to the next row.
TT_ALWAYS_INLINE static inline sums sum_rows(const meeting *m, const uint32_t *g, int32_t pairs, int32_t skip) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (const uint32_t *w = m->weights; w < m->weights_end; g += skip) {
#pragma GCC unroll 4
        for (int32_t pair = 0; pair < pairs; pair++) {
            __asm__(ONE_PAIR : [g] "+r"(g), [w] "+r"(w), [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3)
                    : : "r0", "r1", "r2", "r3", "r8", "r9", "r10", "r11", "memory");
        }
    }
    const sums all = {{s0, s1, s2, s3}};
    return all;
}

// Values whose mantissas were a hit.
TT_INNER_LOOP static void watch_values(work *w, sums s, int32_t channel) {
    uint64_t largest = w->watch.largest;
    for (int32_t i = 0; i < LANES; i++) {
        const uint64_t magnitude = tt_magnitude((int64_t)s.of[i] * w->args->factors[channel + i]);
        if (magnitude > largest) { largest = magnitude; }
    }
    if (largest > w->watch.largest) { tt_watch_from(&w->watch, largest, w->rounding.right); }
}

TT_ALWAYS_INLINE static inline void store_four(work *w, const sums *s, int16_t *gx, int32_t channel) {
    const uint32_t low = tt_saturated_pair(tt_rounded_high_word(s->of[0], w->scales[0]),
                                           tt_rounded_high_word(s->of[1], w->scales[1]));
    const uint32_t high = tt_saturated_pair(tt_rounded_high_word(s->of[2], w->scales[2]),
                                            tt_rounded_high_word(s->of[3], w->scales[3]));
    const int32_t square = w->watch.minus_square;
    tt_put_word(gx, low);
    tt_put_word(gx + 2, high);
    if ((square & tt_watched(low, square) & tt_watched(high, square)) >= 0) { watch_values(w, *s, channel); }
}

// Four channels of the phase's pixels.
TT_ALWAYS_INLINE static inline void pixels_of_phase(work *w, int32_t channel, int32_t pairs) {
    const tt_window *win = &w->args->window;
    const int32_t channels = w->args->x_channels, half = w->half, skip = LANES * (2 * half - pairs);
    const int32_t step = win->stride_width * channels, row_step = win->stride_height * win->x_width * channels;
    const int32_t first = w->x.base + w->left + 1 - 2 * pairs;
    int16_t *row = (int16_t *)w->args->gx + (w->y.first * win->x_width + w->x.first) * channels + channel;
    for (int32_t i = 0; i < w->y.pixels; i++, row += row_step) {
        const meeting m = meeting_of(w, i, pairs);
        int16_t *gx = row;
        // from an even place to the odd one behind it, and back
        const uint32_t *g = m.gradients + LANES * ((first & 1) * half + (first >> 1));
        int32_t next = first & 1 ? LANES * (1 - half) : LANES * half;
        for (int32_t left = w->x.pixels; left > 0; left--, gx += step) {
            const sums s = sum_rows(&m, g, pairs, skip);
            g += next, next = LANES - next;
            store_four(w, &s, gx, channel);
        }
    }
}

TT_INNER_LOOP static void one_pair(work *w, int32_t channel) { pixels_of_phase(w, channel, 1); }
TT_INNER_LOOP static void two_pairs(work *w, int32_t channel) { pixels_of_phase(w, channel, 2); }
TT_INNER_LOOP static void three_pairs(work *w, int32_t channel) { pixels_of_phase(w, channel, 3); }
TT_INNER_LOOP static void any_pairs(work *w, int32_t channel) { pixels_of_phase(w, channel, tap_pairs(&w->x)); }

// Four channels of all pixels, those of a block from c on.
static void four_channels(work *w, const tt_depthwise_block *block, int32_t c) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const tt_window *win = &a->window;
    const int32_t channel = block->start + c;
    for (int32_t i = 0; i < LANES; i++) {
        w->scales[i] = (int32_t)((uint32_t)a->factors[channel + i] << (32 - w->rounding.right));
    }
    pack_gradients(w, channel);
    for (int32_t y = 0; y < tt_min(win->stride_height, win->x_height); y++) {
        w->y = axis_of(y, win->x_height, win->pad_top, win->stride_height, win->kernel_height);
        for (int32_t x = 0; x < tt_min(win->stride_width, win->x_width); x++) {
            w->x = axis_of(x, win->x_width, win->pad_left, win->stride_width, win->kernel_width);
            pack_weights(w, block, c);
            switch (tap_pairs(&w->x)) {
            case 1: one_pair(w, channel); break;
            case 2: two_pairs(w, channel); break;
            case 3: three_pairs(w, channel); break;
            default: any_pairs(w, channel); break;
            }
        }
    }
}

// --- channel by channel ---

// The input channels of one pixel, whose first one is element `index`, beyond a multiple of LANES in their block.
static void rest_of_pixel(work *w, const tt_cover *at, int32_t index) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t c = block->count & ~(LANES - 1); c < block->count; c++) {
            const int64_t total = sum_channel(a, block, at, c);
            const uint64_t magnitude = tt_magnitude(total);
            if (magnitude > w->watch.largest) { w->watch.largest = magnitude; }
            ((int16_t *)a->gx)[index + block->start + c] = tt_to_mantissa(&w->rounding, total, 0);
        }
    }
}

static void rest_of_channels(work *w) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    int32_t rest = 0;
    for (int32_t i = 0; i < a->block_count; i++) { rest |= a->blocks[i].count % LANES; }
    for (int32_t py = 0, index = 0; rest != 0 && py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++, index += a->x_channels) {
            const tt_cover at = tt_cover_of(&a->window, py, px);
            rest_of_pixel(w, &at, index);
        }
    }
}

// Lays out scratch; returns whether it is large enough.
static int lay_out(work *w) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const tt_window *win = &a->window;
    const int32_t most_y = (win->kernel_height + win->stride_height - 1) / win->stride_height;
    const int32_t most_x = (win->kernel_width + win->stride_width - 1) / win->stride_width;
    const int32_t right = tt_max(win->y_width, (win->x_width - 1 + win->pad_left) / win->stride_width);
    w->left = (most_x + 1) / 2 * 2 - 1;
    w->half = (w->left + right + 1) / 2;
    w->weights = a->scratch;
    w->gradients = w->weights + LANES * most_y * ((most_x + 1) / 2);
    const int32_t words = LANES * (most_y * ((most_x + 1) / 2) + 2 * w->half * win->y_height);
    return a->scratch_bytes / 4 >= words;
}

void tt_depthwise_conv2d_input_gradient_s16(const void *args) {
    const tt_depthwise_conv2d_input_gradient_s16_args *a = args;
    const int32_t values_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    work w = {.args = a};
    w.rounding = tt_gradient_begin(a->gx_exponent, values_exponent);
    // a factor of 16 bits << 15 at most stays within int32
    const int shift_occurs = w.rounding.right >= 17 && w.rounding.right <= 32;
    if (a->channel_multiplier != 1 || !shift_occurs || !lay_out(&w)) {
        tt_portable_depthwise_input_gradient(a, &w.rounding, values_exponent);
        return;
    }
    tt_watch_from(&w.watch, tt_known_peak(a->gx_exponent, values_exponent), w.rounding.right);
    memset(w.gradients, 0, sizeof(uint32_t) * (size_t)(2 * LANES * w.half * a->window.y_height));
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t c = 0; c + LANES <= block->count; c += LANES) { four_channels(&w, block, c); }
    }
    rest_of_channels(&w);
    tt_exponent_end(a->gx_exponent, w.watch.largest, values_exponent);
}
