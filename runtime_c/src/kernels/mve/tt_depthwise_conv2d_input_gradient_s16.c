// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient_s16, Helium. For each pixel of x the outputs whose window covers it, and their
// weights, are listed once; sixteen channels after sixteen walk the list and move its addresses on. A sum of 32 bits
// times its channel's factor is rounded in one instruction: VRMULH shifts by 32, and factors have room for the rest.
// Several outputs for an input, and shifts beyond that, take the reference's way, four lanes at a time.
#define TT_VECTOR_LANES 4
#include "tinytrain/vectors/depthwise_conv2d_input_gradient.h"

enum { EIGHT = 8, LEAST_RIGHT = 17, MOST_RIGHT = 32 };

// An output that covers a pixel, and the weight it had: of the channels that are next.
typedef struct tap {
    const int16_t *g;
    const int8_t *w;
} tap;

// Of eight channels, even ones before odd ones, as VMULLB and VMULLT leave them.
typedef struct eight {
    int32_t factors[EIGHT];    // times 2^(32 - right)
    uint32_t largest[EIGHT];   // magnitude of a sum
} eight;

typedef struct work {
    const tt_depthwise_conv2d_input_gradient_args *args;
    eight *eights;
    tap *taps;
} work;

static int32_t eights_of(const tt_depthwise_conv2d_input_gradient_args *a) {
    int32_t count = 0;
    for (int32_t i = 0; i < a->block_count; i++) { count += (a->blocks[i].count + EIGHT - 1) / EIGHT; }
    return count;
}

// The scratch's parts; none where it is too small.
static work work_of(const tt_depthwise_conv2d_input_gradient_args *a) {
    const tt_window *win = &a->window;
    const int32_t rows = (win->kernel_height + win->stride_height - 1) / win->stride_height;
    const int32_t columns = (win->kernel_width + win->stride_width - 1) / win->stride_width;
    const int32_t count = eights_of(a);
    const int32_t bytes = count * (int32_t)sizeof(eight) + rows * columns * (int32_t)sizeof(tap);
    work w = {a, a->scratch, 0};
    if (a->channel_multiplier == 1 && a->scratch_bytes >= bytes) { w.taps = (tap *)(void *)(w.eights + count); }
    return w;
}

static void prepare(const work *w, int32_t right) {
    const uint32x4_t twos = vidupq_n_u32(0, 2);
    eight *to = w->eights;
    for (int32_t i = 0; i < w->args->block_count; i++) {
        const tt_depthwise_block *block = &w->args->blocks[i];
        for (int32_t c = 0; c < block->count; c += EIGHT, to++) {
            const int32_t *factors = w->args->factors + block->start + c;
            for (int32_t odd = 0; odd < 2; odd++) {
                const mve_pred16_t some = vctp32q((uint32_t)(block->count - c - odd + 1) / 2);
                const int32x4_t own = vldrwq_gather_shifted_offset_z_s32(factors + odd, twos, some);
                vstrwq_s32(to->factors + 4 * odd, vmulq_n_s32(own, 1 << (MOST_RIGHT - right)));
                vstrwq_u32(to->largest + 4 * odd, vdupq_n_u32(0));
            }
        }
    }
}

// The outputs over a pixel, for the first channels of a block; returns how many.
TT_INNER_LOOP static int32_t list_taps(const work *w, const tt_depthwise_block *block, const tt_cover *at) {
    const tt_depthwise_conv2d_input_gradient_args *a = w->args;
    const tt_window *win = &a->window;
    const int32_t kx = at->x - at->columns.first * win->stride_width, w_step = win->stride_width * block->count;
    tap *t = w->taps;
    for (int32_t oy = at->rows.first; oy < at->rows.last; oy++) {
        const int32_t ky = at->y - oy * win->stride_height;
        const int16_t *g = (const int16_t *)a->gy + (oy * win->y_width + at->columns.first) * a->y_channels;
        const int8_t *weights = block->weights + (ky * win->kernel_width + kx) * block->count;
        for (int32_t ox = at->columns.first; ox < at->columns.last; ox++, t++, g += a->y_channels, weights -= w_step) {
            t->g = g + block->start;
            t->w = weights;
        }
    }
    return (int32_t)(t - w->taps);
}

// Sums of sixteen channels: even and odd ones of the first and of the second eight.
typedef struct sums {
    int32x4_t even0, odd0, even1, odd1;
} sums;

// Of at least one tap. Moves the taps to the next sixteen channels.
TT_ALWAYS_INLINE static inline sums sum_sixteen(tap *taps, int32_t count) {
    const int16_t *g;
    const int8_t *w;
    int16x8_t g0, w0, product;
    sums s;
    __asm__ volatile(
        "ldrd %[g], %[w], [%[taps]]\n"
        "vldrh.u16 %q[g0], [%[g]], #16\n"
        "vldrb.s16 %q[w0], [%[w]], #8\n"
        "vmullb.s16 %q[even0], %q[g0], %q[w0]\n"
        "vmullt.s16 %q[odd0], %q[g0], %q[w0]\n"
        "vldrh.u16 %q[g0], [%[g]], #16\n"
        "vldrb.s16 %q[w0], [%[w]], #8\n"
        "vmullb.s16 %q[even1], %q[g0], %q[w0]\n"
        "strd %[g], %[w], [%[taps]], #8\n"
        "vmullt.s16 %q[odd1], %q[g0], %q[w0]\n"
        "wls lr, %[others], 2f\n"
        "1:\n"
        "ldrd %[g], %[w], [%[taps]]\n"
        "vldrh.u16 %q[g0], [%[g]], #16\n"
        "vldrb.s16 %q[w0], [%[w]], #8\n"
        "vmullb.s16 %q[product], %q[g0], %q[w0]\n"
        "vadd.i32 %q[even0], %q[even0], %q[product]\n"
        "vmullt.s16 %q[product], %q[g0], %q[w0]\n"
        "vldrh.u16 %q[g0], [%[g]], #16\n"
        "vldrb.s16 %q[w0], [%[w]], #8\n"
        "vadd.i32 %q[odd0], %q[odd0], %q[product]\n"
        "vmullb.s16 %q[product], %q[g0], %q[w0]\n"
        "vadd.i32 %q[even1], %q[even1], %q[product]\n"
        "vmullt.s16 %q[product], %q[g0], %q[w0]\n"
        "strd %[g], %[w], [%[taps]], #8\n"
        "vadd.i32 %q[odd1], %q[odd1], %q[product]\n"
        "le lr, 1b\n"
        "2:\n"
        : [taps] "+r"(taps), [g] "=&r"(g), [w] "=&l"(w), [g0] "=&w"(g0), [w0] "=&w"(w0), [product] "=&w"(product),
          [even0] "=&w"(s.even0), [odd0] "=&w"(s.odd0), [even1] "=&w"(s.even1), [odd1] "=&w"(s.odd1)
        : [others] "r"(count - 1)
        : "lr", "memory");
    return s;
}

// The mantissas of sums, which raise the largest magnitudes.
static inline int32x4_t rounded(eight *e, int32_t first, int32x4_t sum) {
    vstrwq_u32(e->largest + first, vmaxaq_s32(vldrwq_u32(e->largest + first), sum));
    return vrmulhq_s32(sum, vldrwq_s32(e->factors + first));
}

static inline int16x8_t mantissas(eight *e, int32x4_t even, int32x4_t odd) {
    const int32x4_t low = rounded(e, 0, even);
    return vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(low), low), rounded(e, 4, odd));
}

// Without the attribute gcc copies `e` for every load, to increment the copy.
__attribute__((optimize("no-auto-inc-dec")))
TT_INNER_LOOP static eight *add_sixteens(const work *w, int32_t taps, int32_t count, eight *e, int16_t *gx) {
    if (taps == 0) {
        memset(gx, 0, (size_t)(count * 2 * EIGHT) * sizeof *gx);
        return e + 2 * count;
    }
    for (; count > 0; count--, e += 2, gx += 2 * EIGHT) {
        const sums s = sum_sixteen(w->taps, taps);
        vstrhq_s16(gx, mantissas(e, s.even0, s.odd0));
        vstrhq_s16(gx + EIGHT, mantissas(e + 1, s.even1, s.odd1));
    }
    return e;
}

// At most eight channels, `skip` channels behind the taps.
TT_INNER_LOOP static void add_eight(const work *w, int32_t taps, int32_t skip, int32_t count, eight *e, int16_t *gx) {
    const mve_pred16_t some = vctp16q((uint32_t)count);
    int32x4_t even = vdupq_n_s32(0), odd = even;
    for (const tap *t = w->taps; t < w->taps + taps; t++) {
        const int16x8_t g = vldrhq_z_s16(t->g + skip, some), weights = vldrbq_z_s16(t->w + skip, some);
        even = vaddq_s32(even, vmullbq_int_s16(g, weights));
        odd = vaddq_s32(odd, vmulltq_int_s16(g, weights));
    }
    vstrhq_p_s16(gx, mantissas(e, even, odd), some);
}

TT_INNER_LOOP static void add_pixel(const work *w, const tt_cover *at, int16_t *gx) {
    eight *e = w->eights;
    for (int32_t i = 0; i < w->args->block_count; i++) {
        const tt_depthwise_block *block = &w->args->blocks[i];
        const int32_t taps = list_taps(w, block, at), sixteens = block->count / (2 * EIGHT);
        e = add_sixteens(w, taps, sixteens, e, gx + block->start);
        const int32_t done = sixteens * 2 * EIGHT;
        for (int32_t c = done; c < block->count; c += EIGHT, e++) {
            add_eight(w, taps, c - done, tt_min(EIGHT, block->count - c), e, gx + block->start + c);
        }
    }
}

// Of all sums, each times its factor.
static uint64_t largest_of(const work *w, int32_t right) {
    uint64_t largest = 0;
    for (const eight *e = w->eights, *end = e + eights_of(w->args); e < end; e++) {
        for (int32_t lane = 0; lane < EIGHT; lane++) {
            const uint64_t magnitude = (uint64_t)e->largest[lane] * (uint32_t)e->factors[lane];
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    return largest >> (MOST_RIGHT - right);
}

// gx of the pixel whose first element is `index`, by 64-bit sums; returns the largest magnitude of those.
TT_INNER_LOOP static uint64_t add_pixel_exactly(const tt_depthwise_conv2d_input_gradient_args *a, const tt_cover *at,
                                                const tt_rounding *rounding, int32_t index) {
    return a->channel_multiplier == 1 ? pixel(a, at, rounding, index) : pixel_of_many(a, at, rounding, index);
}

void tt_depthwise_conv2d_input_gradient_s16(const void *args) {
    const tt_depthwise_conv2d_input_gradient_args *a = args;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    const work w = work_of(a);
    const int listed = w.taps != 0 && rounding.right >= LEAST_RIGHT && rounding.right <= MOST_RIGHT;
    uint64_t largest = 0;
    int32_t index = 0;
    if (listed) { prepare(&w, rounding.right); }
    for (int32_t py = 0; py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++, index += a->x_channels) {
            const tt_cover at = tt_cover_of(&a->window, py, px);
            if (listed) {
                add_pixel(&w, &at, (int16_t *)a->gx + index);
            } else {
                const uint64_t magnitude = add_pixel_exactly(a, &at, &rounding, index);
                if (magnitude > largest) { largest = magnitude; }
            }
        }
    }
    if (listed) { largest = largest_of(&w, rounding.right); }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}
