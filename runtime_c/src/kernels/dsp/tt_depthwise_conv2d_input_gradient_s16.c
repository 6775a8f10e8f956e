// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient_s16: gradients of four channels are packed into scratch as pairs of neighbouring
// pixels, one from each pixel on and with zeros around them; so are the weights that a pixel of x meets, in the order
// in which it meets them. Then SMLAD takes two taps of a channel.
//
// With strides, pixels go by phases: those of one phase meet the same taps. Channels beyond a multiple of four take
// some that are done along; less than four in a block go one by one. Several outputs per channel, wide windows, little
// scratch and shifts that do not occur are left to the portable kernel.
#define TT_PLANES_ARE_RARE
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/portable/depthwise_conv2d_input_gradient.h"
#include "tinytrain/window.h"

enum {
    LANES = 4,
    MOST_PAIRS = 4,   // of taps in a row
    MOST_STRIDE = 4,
};

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
    axis ys[MOST_STRIDE], xs[MOST_STRIDE];  // by phase
    const axis *y, *x;                      // of the phase
} work;

static axis axis_of(int32_t first, int32_t extent, int32_t pad, int32_t stride, int32_t kernel) {
    const int32_t tap = (first + pad) % stride;
    const axis a = {first, (extent - first + stride - 1) / stride, tap,
                    tap < kernel ? (kernel - tap + stride - 1) / stride : 0, (first + pad) / stride};
    return a;
}

static int32_t tap_pairs(const axis *x) { return (x->taps + 1) / 2; }

// --- packing ---

// The pairs (a, b) of four channels.
#define PACK(out, a0, a1, b0, b1)                          \
    "pkhbt  r0, %[" #a0 "], %[" #b0 "], lsl #16\n\t"       \
    "pkhtb  r1, %[" #b0 "], %[" #a0 "], asr #16\n\t"       \
    "pkhbt  r2, %[" #a1 "], %[" #b1 "], lsl #16\n\t"       \
    "pkhtb  r3, %[" #b1 "], %[" #a1 "], asr #16\n\t"       \
    "stm    %[" #out "]!, {r0, r1, r2, r3}\n\t"
#define LOAD_PIXEL(x0, x1)                                 \
    "ldr    %[" #x0 "], [%[gy]]\n\t"                       \
    "ldr    %[" #x1 "], [%[gy], #4]\n\t"                   \
    "add    %[gy], %[step]\n\t"

// All pairs with a pixel in them; the first one lies at an even place. The others stay zeros.
TT_INNER_LOOP static void pack_gradients(const work *w, int32_t channel) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const int32_t step = a->y_channels * (int32_t)sizeof(int16_t), width = a->window.y_width, half = LANES * w->half;
    const int16_t *gy = (const int16_t *)a->gy + channel;
    uint32_t *row = w->gradients + LANES * (w->left - 1) / 2;
    for (int32_t rows = a->window.y_height; rows > 0; rows--, row += 2 * half) {
        uint32_t *even = row, *odd = row + half, last0 = 0, last1 = 0, next0, next1;
        int32_t left = width;
        __asm__ volatile(
            "1:\n\t"
            "subs   %[left], #2\n\t"
            "blt    2f\n\t"
            LOAD_PIXEL(next0, next1) PACK(even, last0, last1, next0, next1)
            LOAD_PIXEL(last0, last1) PACK(odd, next0, next1, last0, last1)
            "bgt    1b\n\t"  // the flags are still those of left
            "mov    %[next0], #0\n\t"
            "mov    %[next1], #0\n\t"
            PACK(even, last0, last1, next0, next1)
            "b      3f\n"
            "2:\n\t"
            LOAD_PIXEL(next0, next1) PACK(even, last0, last1, next0, next1)
            "mov    %[last0], #0\n\t"
            "mov    %[last1], #0\n\t"
            PACK(odd, next0, next1, last0, last1)
            "3:\n\t"
            : [gy] "+r"(gy), [even] "+r"(even), [odd] "+r"(odd), [left] "+r"(left), [last0] "+r"(last0),
              [last1] "+r"(last1), [next0] "=&r"(next0), [next1] "=&r"(next1)
            : [step] "r"(step)
            : "r0", "r1", "r2", "r3", "cc", "memory");
    }
}

// The pairs (first, second) of four channels' weights.
TT_ALWAYS_INLINE static inline void pack_taps(uint32_t **out, uint32_t first, uint32_t second) {
    __asm__ volatile(
        "pkhbt  r1, %[first], %[second], lsl #16\n\t"
        "pkhtb  r3, %[second], %[first], asr #16\n\t"
        "sxtb16 r0, r1\n\t"
        "sxtb16 r1, r1, ror #8\n\t"
        "sxtb16 r2, r3\n\t"
        "sxtb16 r3, r3, ror #8\n\t"
        "stm    %[out]!, {r0, r1, r2, r3}\n\t"
        : [out] "+r"(*out)
        : [first] "r"(first), [second] "r"(second)
        : "r0", "r1", "r2", "r3", "memory");
}

// Weights of four channels, those of the block's from c on.
TT_INNER_LOOP static void pack_weights(const work *w, const tt_depthwise_block *block, int32_t c) {
    const tt_window *win = &w->args->window;
    const int32_t tap_step = win->stride_width * block->count;
    const int32_t row_step = win->stride_height * win->kernel_width * block->count;
    const int32_t first = (w->y->tap * win->kernel_width + w->x->tap) * block->count + c;
    const int8_t *end = block->weights + first + (w->y->taps - 1) * row_step + w->x->taps * tap_step;
    const int32_t alone = w->x->taps & 1, pairs = w->x->taps >> 1;
    uint32_t *out = w->weights;
    for (int32_t rows = w->y->taps; rows > 0; rows--, end -= row_step) {
        const int8_t *at = end;
        if (alone) {
            at -= tap_step;
            pack_taps(&out, 0, tt_load_bytes(at));
        }
        for (int32_t pair = pairs; pair > 0; pair--) {
            at -= 2 * tap_step;
            pack_taps(&out, tt_load_bytes(at + tap_step), tt_load_bytes(at));
        }
    }
}

// --- sums ---

// Rows of pixels in four channels, as the assembly finds them in memory. Steps are bytes.
typedef struct rows {
    const uint32_t *here, *next;    // where the pixel's gradients begin, and those of the one on its right
    int16_t *to;                    // the pixel
    int32_t step;                   // to the next one
    int32_t minus_square;           // of the watch
    const int16_t *to_end;          // of the row
    int32_t across, width;          // from a pixel's gradients to those on its right; of a row of pixels
    uint32_t entry, jump;           // to what follows the first pair, from label 0 on and absolute
    int32_t scales[LANES];          // factors << (32 - right): a product's rounded high word is the mantissa
    int32_t sums[LANES];            // of the last pixel, where it was a hit
    int32_t *left_at;               // &left
    int32_t left;                   // rows, this one included
    int32_t top, below;             // the row of gradients that its first tap would meet; rows from there to the last
    const uint32_t *gradients;      // of the row's first pixel
    int32_t skip;                   // from the end of a pixel's pairs in a row of gradients to the next row's
    const uint32_t *weights_end, *weights;  // of the taps that meet gradients
    int16_t *row;
    int32_t weights_step, gradients_step, row_step, taps;
} rows;

#define LOAD_PAIR                            \
    "ldm.w  r12!, {r8, r9, r10, r11}\n\t"    \
    "ldm.w  lr!, {r0, r1, r2, r3}\n\t"
#define ONE_PAIR                             \
    LOAD_PAIR                                \
    "smlad  r4, r8, r0, r4\n\t"              \
    "smlad  r5, r9, r1, r5\n\t"              \
    "smlad  r6, r10, r2, r6\n\t"             \
    "smlad  r7, r11, r3, r7\n\t"
#define NEXT_TAPS(loop)                      \
    "ldrd   r0, r1, %[skip]\n\t"             \
    "add.w  r12, r12, r0\n\t"                \
    "cmp.w  lr, r1\n\t"                      \
    "bne.w  " loop "\n\t"                    \
    "b.w    6f\n"
enum { PAIR_BYTES = 24, NEXT_TAPS_BYTES = 20 };  // of these instructions

// What follows the first pair where rows of taps have so many, seen from label 0; the 1 stands for Thumb.
#define ENTRY(pairs) (PAIR_BYTES * ((pairs) * ((pairs) - 1) / 2 + 1) + NEXT_TAPS_BYTES * ((pairs) - 1) + 1)
static const uint16_t entries[MOST_PAIRS + 1] = {0, ENTRY(1), ENTRY(2), ENTRY(3), ENTRY(4)};

// Sums and stores pixels until one is a hit of the watch (then the result is not negative, and its sums are stored) or
// all are done. The sums, a pair of gradients and of weights, and the pointers to both are all registers there are.
TT_ALWAYS_INLINE static inline int32_t sum_pixels(rows *r) {
    int32_t watched = -1;
    __asm__ volatile(
        "adr.w  r0, 0f\n\t"
        "ldr    r1, %[entry]\n\t"
        "add    r0, r1\n\t"
        "str    r0, %[jump]\n\t"
        "ldr    r0, %[to]\n\t"
        "ldr    r3, %[to_end]\n\t"
        "b      7f\n"
        "1:\n\t"
        "ldrd   r12, r0, %[here]\n\t"
        "add    r1, r12, #16\n\t"
        "strd   r0, r1, %[here]\n\t"
        "ldr    lr, %[weights]\n\t"
        LOAD_PAIR
        "smuad  r4, r8, r0\n\t"
        "smuad  r5, r9, r1\n\t"
        "smuad  r6, r10, r2\n\t"
        "smuad  r7, r11, r3\n\t"
        "ldr    pc, %[jump]\n"
        "0:\n"
        "2:\n\t" ONE_PAIR NEXT_TAPS("2b")
        "3:\n\t" ONE_PAIR ONE_PAIR NEXT_TAPS("3b")
        "4:\n\t" ONE_PAIR ONE_PAIR ONE_PAIR NEXT_TAPS("4b")
        "5:\n\t" ONE_PAIR ONE_PAIR ONE_PAIR ONE_PAIR NEXT_TAPS("5b")
        "6:\n\t"
        "ldrd   r0, r1, %[scales]\n\t"
        "ldrd   r2, r3, %[later_scales]\n\t"
        "smmulr r8, r4, r0\n\t"
        "smmulr r9, r5, r1\n\t"
        "smmulr r10, r6, r2\n\t"
        "smmulr r11, r7, r3\n\t"
        "ldrd   r0, r1, %[to]\n\t"
        "ldrd   r2, r3, %[minus_square]\n\t"
        "ssat   r8, #16, r8\n\t"
        "ssat   r9, #16, r9\n\t"
        "ssat   r10, #16, r10\n\t"
        "ssat   r11, #16, r11\n\t"
        "pkhbt  r8, r8, r9, lsl #16\n\t"
        "pkhbt  r10, r10, r11, lsl #16\n\t"
        "str    r8, [r0]\n\t"
        "str    r10, [r0, #4]\n\t"
        "add    r0, r1\n\t"
        "str    r0, %[to]\n\t"
        "smlad  r8, r8, r8, r2\n\t"
        "smlad  r10, r10, r10, r2\n\t"
        "and    r8, r8, r10\n\t"
        "ands   r2, r2, r8\n\t"
        "bpl    8f\n"
        "7:\n\t"
        "cmp    r0, r3\n\t"
        "bne.w  1b\n\t"
        "ldr    r12, %[left_at]\n\t"  // the next row
        "ldm    r12, {r0-r11}\n\t"
        "subs   r0, r0, #1\n\t"
        "beq    9f\n\t"
        "cmp    r1, #0\n\t"
        "ite    lt\n\t"
        "sublt  r6, r6, r8\n\t"
        "addge  r3, r3, r9\n\t"
        "add    r1, r1, #1\n\t"
        "sub    r2, r2, #1\n\t"
        "cmp    r2, r11\n\t"
        "it     lt\n\t"
        "sublt  r5, r5, r8\n\t"
        "add    r7, r7, r10\n\t"
        "stm    r12, {r0-r7}\n\t"
        "ldrd   r0, r1, %[across]\n\t"
        "add    r0, r0, r3\n\t"
        "add    r1, r1, r7\n\t"
        "strd   r3, r0, %[here]\n\t"
        "str    r7, %[to]\n\t"
        "str    r1, %[to_end]\n\t"
        "b      1b\n"
        "8:\n\t"
        "strd   r4, r5, %[sums]\n\t"
        "strd   r6, r7, %[later_sums]\n\t"
        "str    r2, %[watched]\n"
        "9:\n\t"
        : "+m"(*r), [watched] "+m"(watched)
        : [entry] "m"(r->entry), [jump] "m"(r->jump), [here] "m"(r->here), [weights] "m"(r->weights),
          [skip] "m"(r->skip), [scales] "m"(r->scales[0]), [later_scales] "m"(r->scales[2]), [to] "m"(r->to),
          [to_end] "m"(r->to_end), [left_at] "m"(r->left_at), [across] "m"(r->across),
          [minus_square] "m"(r->minus_square), [sums] "m"(r->sums[0]), [later_sums] "m"(r->sums[2])
        : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    return watched;
}

// Values whose mantissas were a hit.
TT_INNER_LOOP static void watch_values(work *w, const int32_t *sums, int32_t channel) {
    uint64_t largest = w->watch.largest;
    for (int32_t i = 0; i < LANES; i++) {
        const uint64_t magnitude = tt_magnitude((int64_t)sums[i] * w->args->factors[channel + i]);
        if (magnitude > largest) { largest = magnitude; }
    }
    if (largest > w->watch.largest) { tt_watch_from(&w->watch, largest, w->rounding.right); }
}

// Four channels of the phase's pixels.
TT_INNER_LOOP static void sum_phase(work *w, int32_t channel) {
    const tt_window *win = &w->args->window;
    const axis *y = w->y, *x = w->x;
    const int32_t channels = w->args->x_channels, pairs = tap_pairs(x), half = LANES * w->half;
    const int32_t step = win->stride_width * channels, row_step = win->stride_height * win->x_width * channels;
    const int32_t place = x->base + w->left + 1 - 2 * pairs, odd = place & 1;
    const int32_t top = y->base - y->taps + 1, below = win->y_height - top;
    const int32_t met = pairs > 0 && y->taps > 0 ? tt_max(0, tt_min(y->pixels, below)) : 0;  // rows that meet an output
    int16_t *to = (int16_t *)w->args->gx + (y->first * win->x_width + x->first) * channels + channel;
    rows r;
    r.left_at = &r.left, r.left = met, r.top = top, r.below = below;
    r.row = r.to = to, r.to_end = to + x->pixels * step;
    r.step = step * (int32_t)sizeof *to, r.width = x->pixels * r.step, r.row_step = row_step * (int32_t)sizeof *to;
    r.across = (odd ? LANES - half : half) * (int32_t)sizeof(uint32_t);
    r.skip = (2 * half - LANES * pairs) * (int32_t)sizeof(uint32_t);
    r.weights_step = LANES * pairs * (int32_t)sizeof(uint32_t);
    r.gradients_step = 2 * half * (int32_t)sizeof(uint32_t);
    r.taps = y->taps;
    r.weights = w->weights + tt_max(0, -top) * LANES * pairs;
    r.weights_end = w->weights + tt_min(r.taps, below) * LANES * pairs;
    r.gradients = r.here = w->gradients + LANES * (place >> 1) + (odd ? half : 0) + tt_max(0, top) * 2 * half;
    r.next = r.here + (odd ? LANES - half : half);
    r.entry = entries[pairs];
    r.minus_square = w->watch.minus_square;
#pragma GCC unroll 4
    for (int32_t i = 0; i < LANES; i++) {
        r.scales[i] = (int32_t)((uint32_t)w->args->factors[channel + i] << (32 - w->rounding.right));
    }
    while (met > 0 && sum_pixels(&r) >= 0) {
        watch_values(w, r.sums, channel);
        r.minus_square = w->watch.minus_square;
    }
    for (int32_t i = met; i < y->pixels; i++) {
        for (int32_t j = 0; j < x->pixels; j++) { memset(to + i * row_step + j * step, 0, LANES * sizeof *to); }
    }
}

// Four channels of all pixels, those of a block from c on.
static void four_channels(work *w, const tt_depthwise_block *block, int32_t c) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const tt_window *win = &a->window;
    const int32_t channel = block->start + c;
    pack_gradients(w, channel);
    for (int32_t y = 0; y < tt_min(win->stride_height, win->x_height); y++) {
        w->y = &w->ys[y];
        for (int32_t x = 0; x < tt_min(win->stride_width, win->x_width); x++) {
            w->x = &w->xs[x];
            pack_weights(w, block, c);
            sum_phase(w, channel);
        }
    }
}

// A block of less than four channels.
TT_INNER_LOOP static void small_block(work *w, const tt_depthwise_block *block) {
    tt_depthwise_conv2d_input_gradient_args alone = *w->args;
    alone.gx = (int16_t *)alone.gx + block->start;
    alone.blocks = block, alone.block_count = 1;
    const uint64_t largest = store_all_pixels(&alone, &w->rounding);
    if (largest > w->watch.largest) { tt_watch_from(&w->watch, largest, w->rounding.right); }
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
    return (most_x + 1) / 2 <= MOST_PAIRS && win->stride_height <= MOST_STRIDE && win->stride_width <= MOST_STRIDE &&
           a->scratch_bytes / 4 >= words;
}

TT_INNER_LOOP static void portable_way(const work *w, int32_t values_exponent) {
    tt_portable_depthwise_input_gradient(w->args, &w->rounding, values_exponent);
}

void tt_depthwise_conv2d_input_gradient_s16(const void *args) {
    const tt_depthwise_conv2d_input_gradient_s16_args *a = args;
    const int32_t values_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_window *win = &a->window;
    work w;
    w.args = a, w.rounding = tt_gradient_begin(a->gx_exponent, values_exponent);
    // a factor of 16 bits << 15 at most stays within int32
    const int shift_occurs = w.rounding.right >= 17 && w.rounding.right <= 32;
    if (a->channel_multiplier != 1 || !shift_occurs || !lay_out(&w)) {
        portable_way(&w, values_exponent);
        return;
    }
    tt_watch_from(&w.watch, tt_known_peak(a->gx_exponent, values_exponent), w.rounding.right);
    for (int32_t y = 0; y < win->stride_height; y++) {
        w.ys[y] = axis_of(y, win->x_height, win->pad_top, win->stride_height, win->kernel_height);
    }
    for (int32_t x = 0; x < win->stride_width; x++) {
        w.xs[x] = axis_of(x, win->x_width, win->pad_left, win->stride_width, win->kernel_width);
    }
    memset(w.gradients, 0, sizeof(uint32_t) * (size_t)(2 * LANES * w.half * a->window.y_height));
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        if (block->count < LANES) {
            small_block(&w, block);
            continue;
        }
        for (int32_t c = 0; c < block->count; c += LANES) {
            four_channels(&w, block, tt_min(c, block->count - LANES));
        }
    }
    tt_exponent_end(a->gx_exponent, w.watch.largest, values_exponent);
}
