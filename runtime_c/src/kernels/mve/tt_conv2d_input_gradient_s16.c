// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient_s16, Helium. 1 x 1 windows: the weights of seven input channels and eight outputs stay in
// registers, turned by gathers, while the scaled gradients of a tile of pixels pass by: one load serves 56 products.
// Other windows, and sums that may need more than 32 bits, take the reference's way, four lanes at a time.
#define TT_VECTOR_LANES 4
#include "tinytrain/vectors/conv2d_input_gradient.h"
#include "tinytrain/mve_gradient.h"

// Input channels whose weights are in registers, outputs in a group, pixels that pay for turning the weights.
enum { INPUTS = 7, GROUP = 8, MOST_PIXELS = 64 };

// Some pixels of the image, and their part of the scratch.
typedef struct pixels {
    const tt_conv2d_input_gradient_args *args;
    int32_t first, count;
    int16_t *g;     // scaled gradients [groups, count, GROUP]
    int32_t *sums;  // [count, INPUTS]
} pixels;

static int32_t groups_of(const tt_conv2d_input_gradient_args *a) { return (a->y_channels + GROUP - 1) / GROUP; }

// Scales the gradients of one group; `co` is its first output. Products are rounded as tt_scaled_gradient rounds them.
// A factor of 32768, which is none in 16 bits, leaves a gradient as it is.
static uint16x8_t scale_group(const pixels *p, int32_t co, int16_t *g, uint16x8_t largest) {
    const tt_conv2d_input_gradient_args *a = p->args;
    const int32_t step = a->y_channels;
    const int16_t *gy = (const int16_t *)a->gy + p->first * step + co;
    const mve_pred16_t some = vctp16q((uint32_t)(a->y_channels - co));
    const uint16x8_t words = vmulq_n_u16(vidupq_n_u16(0, 1), 4);
    const int16x8_t factors = vldrhq_gather_offset_z_s16((const int16_t *)(a->factors + co), words, some);
    if (vminvq_s16(0, factors) == 0 && a->y_channels - co >= GROUP) {
        for (int32_t i = 0; i < p->count; i++, gy += step, g += GROUP) {
            const int16x8_t scaled = vqrdmulhq_s16(vldrhq_s16(gy), factors);
            largest = vmaxaq_s16(largest, scaled);
            vstrhq_s16(g, scaled);
        }
        return largest;
    }
    const mve_pred16_t whole = vcmpltq_n_s16(factors, 0);
    for (int32_t i = 0; i < p->count; i++, gy += step, g += GROUP) {
        const int16x8_t values = vldrhq_z_s16(gy, some);
        const int16x8_t scaled = vpselq_s16(values, vqrdmulhq_s16(values, factors), whole);
        largest = vmaxaq_s16(largest, scaled);
        vstrhq_s16(g, scaled);
    }
    return largest;
}

// Scales the gradients of the pixels; their largest magnitude.
static int32_t scale_pixels(const pixels *p) {
    uint16x8_t largest = vdupq_n_u16(0);
    int16_t *g = p->g;
    for (int32_t co = 0; co < p->args->y_channels; co += GROUP, g += p->count * GROUP) {
        largest = scale_group(p, co, g, largest);
    }
    return vmaxvq_u16(0, largest);
}

// Weights of eight outputs.
typedef struct turned {
    int16x8_t w0, w1, w2, w3, w4, w5, w6;
} turned;

// sums[pixel, i] += wi . g[pixel], for every pixel; returns the end of g. Sums lie in the even registers, as VMLADAVA
// wants them.
TT_ALWAYS_INLINE static inline const int16_t *add_products(const turned *w, const int16_t *g, int32_t *sums,
                                                           int32_t count) {
    int16x8_t values;
    __asm__ volatile(
        "dls lr, %[count]\n"
        "1:\n"
        "ldm %[sums], {r0, r2, r4, r6, r8, r10, r12}\n"
        "vldrh.u16 %q[values], [%[g]], #16\n"
        "vmladava.s16 r0, %q[values], %q[w0]\n"
        "vmladava.s16 r2, %q[values], %q[w1]\n"
        "vmladava.s16 r4, %q[values], %q[w2]\n"
        "vmladava.s16 r6, %q[values], %q[w3]\n"
        "vmladava.s16 r8, %q[values], %q[w4]\n"
        "vmladava.s16 r10, %q[values], %q[w5]\n"
        "vmladava.s16 r12, %q[values], %q[w6]\n"
        "stm %[sums]!, {r0, r2, r4, r6, r8, r10, r12}\n"
        "le lr, 1b\n"
        : [g] "+r"(g), [sums] "+r"(sums), [values] "=&w"(values)
        : [count] "r"(count), [w0] "w"(w->w0), [w1] "w"(w->w1), [w2] "w"(w->w2), [w3] "w"(w->w3), [w4] "w"(w->w4),
          [w5] "w"(w->w5), [w6] "w"(w->w6)
        : "r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "memory");
    return g;
}

// Whole groups, INPUTS input channels; w is their first weight, `step` bytes lie between outputs.
TT_INNER_LOOP static void add_groups(const pixels *p, const int8_t *w, int32_t step, int32_t first, int32_t groups) {
    const uint16x8_t places = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)step);
    const int32_t count = p->count;
    const int16_t *g = p->g + first * count;
    int32_t *sums = p->sums;
    for (; groups > 0; groups--, w += GROUP * step) {
        const turned t = {
            vldrbq_gather_offset_s16(w, places),     vldrbq_gather_offset_s16(w + 1, places),
            vldrbq_gather_offset_s16(w + 2, places), vldrbq_gather_offset_s16(w + 3, places),
            vldrbq_gather_offset_s16(w + 4, places), vldrbq_gather_offset_s16(w + 5, places),
            vldrbq_gather_offset_s16(w + 6, places)};
        g = add_products(&t, g, sums, count);
    }
}

// `outputs` of them from co on, in one group, and `lanes` input channels; beyond those the last one is repeated.
TT_INNER_LOOP static void add_part(const pixels *p, const int8_t *w, int32_t step, int32_t co, int32_t outputs,
                                   int32_t lanes) {
    const int32_t skip = co % GROUP, last = lanes - 1;
    const mve_pred16_t some = (mve_pred16_t)((1U << 2 * (skip + outputs)) - (1U << 2 * skip));  // two bits a lane
    const uint16x8_t places = vmulq_n_u16(vsubq_n_u16(vidupq_n_u16(0, 1), (uint16_t)skip), (uint16_t)step);
    const turned t = {vldrbq_gather_offset_z_s16(w, places, some),
                      vldrbq_gather_offset_z_s16(w + tt_min(1, last), places, some),
                      vldrbq_gather_offset_z_s16(w + tt_min(2, last), places, some),
                      vldrbq_gather_offset_z_s16(w + tt_min(3, last), places, some),
                      vldrbq_gather_offset_z_s16(w + tt_min(4, last), places, some),
                      vldrbq_gather_offset_z_s16(w + tt_min(5, last), places, some),
                      vldrbq_gather_offset_z_s16(w + last, places, some)};
    add_products(&t, p->g + (co - skip) * p->count, p->sums, p->count);
}

// Adds what a block knows about `lanes` input channels from ci on.
static void add_block_products(const pixels *p, const tt_weight_block *block, int32_t ci, int32_t lanes) {
    const int32_t step = block->ci_count, last = block->co_start + block->co_count;
    const int8_t *w = block->weights + (ci - block->ci_start);
    for (int32_t co = block->co_start, outputs = 0; co < last; co += outputs, w += outputs * step) {
        const int32_t groups = co % GROUP == 0 && lanes == INPUTS ? (last - co) / GROUP : 0;
        if (groups > 0) {
            add_groups(p, w, step, co, groups);
            outputs = groups * GROUP;
        } else {
            outputs = tt_min(GROUP - co % GROUP, last - co);
            add_part(p, w, step, co, outputs, lanes);
        }
    }
}

// All sums of the pixels as mantissas, in two vectors that share a lane. Sums become 0 again.
TT_ALWAYS_INLINE static inline uint32x4_t store_all(const pixels *p, int16_t *gx, int32_t shift, uint32x4_t largest) {
    const int32x4_t zero = vdupq_n_s32(0);
    int32_t *sums = p->sums;
    int32x4_t low, high;
    __asm__ volatile(
        "dls lr, %[count]\n"
        "1:\n"
        "vldrw.u32 %q[low], [%[sums]]\n"
        "vldrw.u32 %q[high], [%[sums], #12]\n"
        "vmaxa.s32 %q[largest], %q[low]\n"
        "vstrw.32 %q[zero], [%[sums]]\n"
        "vmaxa.s32 %q[largest], %q[high]\n"
        "vstrw.32 %q[zero], [%[sums], #12]\n"
        "vqrshl.s32 %q[low], %[shift]\n"
        "vqrshl.s32 %q[high], %[shift]\n"
        "vqmovnb.s32 %q[low], %q[low]\n"
        "vqmovnb.s32 %q[high], %q[high]\n"
        "vstrh.32 %q[low], [%[gx]]\n"
        "vstrh.32 %q[high], [%[gx], #6]\n"
        "add %[sums], #28\n"
        "add %[gx], %[step]\n"
        "le lr, 1b\n"
        : [sums] "+r"(sums), [gx] "+l"(gx), [low] "=&w"(low), [high] "=&w"(high), [largest] "+w"(largest)
        : [count] "r"(p->count), [shift] "r"(shift), [step] "r"(2 * p->args->x_channels), [zero] "w"(zero)
        : "lr", "memory");
    return largest;
}

// Sums of `lanes` input channels from ci on as mantissas; a pixel's sums are INPUTS words apart and become 0 again.
TT_INNER_LOOP static uint32_t store_sums(const pixels *p, int32_t ci, int32_t lanes, int32_t shift) {
    const int32_t step = p->args->x_channels;
    int16_t *gx = (int16_t *)p->args->gx + p->first * step + ci;
    uint32x4_t largest = vdupq_n_u32(0);
    if (lanes == INPUTS) { return vmaxvq_u32(0, store_all(p, gx, shift, largest)); }
    const mve_pred16_t low = vctp32q((uint32_t)lanes), high = vctp32q((uint32_t)tt_max(lanes - 4, 0));
    for (int32_t *sums = p->sums, *end = sums + p->count * INPUTS; sums < end; sums += INPUTS, gx += step) {
        vstrhq_p_s32(gx, tt_mve_to_mantissas(vldrwq_z_s32(sums, low), shift, &largest), low);
        vstrhq_p_s32(gx + 4, tt_mve_to_mantissas(vldrwq_z_s32(sums + 4, high), shift, &largest), high);
        vstrwq_s32(sums, vdupq_n_s32(0));
        vstrwq_s32(sums + 3, vdupq_n_s32(0));
    }
    return vmaxvq_u32(0, largest);
}

// gx of the pixels; the largest magnitude of its sums, which fit 32 bits.
static uint32_t add_pixels(const pixels *p, int32_t shift) {
    const tt_conv2d_input_gradient_args *a = p->args;
    uint32_t largest = 0;
    memset(p->sums, 0, (size_t)(p->count * INPUTS) * sizeof *p->sums);
    for (int32_t first = 0, last = 0; first < a->x_channels; first = last) {
        last = run_end(a, first);
        const int32_t lanes = tt_min(INPUTS, last - first);
        for (int32_t done = first; done < last; done += INPUTS) {
            const int32_t ci = tt_min(done, last - lanes);  // the last ones may overlap those before
            for (int32_t i = 0; i < a->block_count; i++) {
                const tt_weight_block *block = &a->blocks[i];
                if (ci >= block->ci_start && ci < block->ci_start + block->ci_count) {
                    add_block_products(p, block, ci, lanes);
                }
            }
            const uint32_t magnitude = store_sums(p, ci, lanes, shift);
            if (magnitude > largest) { largest = magnitude; }
        }
    }
    return largest;
}

// Pixels one after the other, by 64-bit sums.
static uint64_t add_pixels_exactly(const pixels *p, const tt_rounding *rounding) {
    const tt_conv2d_input_gradient_args *a = p->args;
    uint64_t largest = 0;
    for (int32_t i = p->first; i < p->first + p->count; i++) {
        const tt_cover at = tt_cover_of(&a->window, i / a->window.x_width, i % a->window.x_width);
        const uint64_t magnitude = pixel(a, &at, rounding, i * a->x_channels);
        if (magnitude > largest) { largest = magnitude; }
    }
    return largest;
}

// How many pixels the scratch has room for, 0 where the windows are none of ours.
static int32_t tile_size(const tt_conv2d_input_gradient_args *a) {
    const tt_window *win = &a->window;
    const int32_t widest = UINT16_MAX / (GROUP - 1);  // offsets of gathers have 16 bits
    if (win->kernel_height * win->kernel_width != 1 || a->x_channels > widest || win->x_height != win->y_height ||
        win->x_width != win->y_width || win->stride_height * win->stride_width != 1) {
        return 0;
    }
    const int32_t each = groups_of(a) * GROUP * (int32_t)sizeof(int16_t) + INPUTS * (int32_t)sizeof(int32_t);
    return tt_clamp(a->scratch_bytes / each, 0, MOST_PIXELS);
}

void tt_conv2d_input_gradient_s16(const void *args) {
    const tt_conv2d_input_gradient_args *a = args;
    const int32_t most = tile_size(a), all = a->window.x_height * a->window.x_width;
    if (most == 0) {
        tt_conv2d_input_gradient(a);
        return;
    }
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    for (int32_t first = 0; first < all; first += most) {
        const int32_t count = tt_min(most, all - first);
        const pixels p = {a, first, count, a->scratch, (int32_t *)(void *)(a->scratch + count * groups_of(a) * GROUP)};
        const int64_t bound = (int64_t)scale_pixels(&p) * 128 * a->y_channels;
        const uint64_t magnitude = bound <= INT32_MAX ? add_pixels(&p, tt_mve_shift(rounding.right))
                                                      : add_pixels_exactly(&p, &rounding);
        if (magnitude > largest) { largest = magnitude; }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}
