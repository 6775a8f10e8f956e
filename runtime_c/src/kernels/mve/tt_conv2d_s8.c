// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8 with VMLADAVA: four output channels at a time over all pixels. A row is what one output reads: a pixel
// of x for a 1 x 1 window that moves by one, else a copy of the window in scratch, padded with the zero point.
//
// Rows of at most 16 inputs: four vectors of weights stay in registers. Longer rows: two rows times four channels; the
// weights lie in scratch, a vector of each channel in turn, filled up with zeros. So whole vectors of x can be read,
// past a row's end; the last rows of x, where that would pass the image's end, are copied to scratch as well. Scratch:
// packed weights 56 + 4 R, rows of R bytes each, two or more; R = inputs rounded up to 16.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/mve.h"
#include "tinytrain/window.h"

enum { LANES = 16, CHANNELS = 4, BLOCK = LANES * CHANNELS, HEADER = 32, TAIL = 24, MOST_CHANNELS = 65532 };

// Rows and where their outputs go; the steps of one row alone are 0.
typedef struct rows {
    const int8_t *x;
    int8_t *y;
    int32_t count, x_step, y_step;
    uint16x8_t places;  // of two rows' channels in y
} rows;

typedef struct layer {
    const tt_conv2d_s8_args *args;
    tt_output output;
    int32_t inputs, padded;  // of a row
    int32_t largest_bias;
    int8_t *packed;
} layer;

// Packs inputs `at` on, `count` of them, of one channel; returns the sum of the weights.
TT_INNER_LOOP static int32_t pack_run(const int8_t *w, int32_t count, int32_t at, int8_t *to) {
    int32_t lane = at % LANES, sum = 0;
    to += at / LANES * BLOCK + lane;
    while (count > 0) {
        const int32_t part = tt_min(LANES - lane, count);
        const mve_pred16_t some = vctp8q((uint32_t)part);
        const int8x16_t weights = vldrbq_z_s8(w, some);
        sum = vaddvaq_s8(sum, weights);
        vstrbq_p_s8(to, weights, some);
        to += BLOCK - lane, w += part, count -= part, lane = 0;
    }
    return sum;
}

// The same for four channels, whose weights lie `step` bytes apart, from the beginning of a vector on, or in one.
TT_ALWAYS_INLINE static inline int32x4_t pack_four_runs(const int8_t *w0, int32_t step, int32_t count, int8_t *to) {
    const int8_t *w1 = w0 + step, *w2 = w1 + step, *w3 = w2 + step;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    __asm__ volatile(
        "wlstp.8 lr, %[count], 2f\n"
        "1: vldrb.8 q0, [%[w0]], #16\n\t"
        "vldrb.8 q1, [%[w1]], #16\n\t"
        "vaddva.s8 %[s0], q0\n\t"
        "vstrb.8 q0, [%[to]], #16\n\t"
        "vaddva.s8 %[s1], q1\n\t"
        "vldrb.8 q2, [%[w2]], #16\n\t"
        "vstrb.8 q1, [%[to]], #16\n\t"
        "vaddva.s8 %[s2], q2\n\t"
        "vldrb.8 q3, [%[w3]], #16\n\t"
        "vstrb.8 q2, [%[to]], #16\n\t"
        "vaddva.s8 %[s3], q3\n\t"
        "vstrb.8 q3, [%[to]], #16\n\t"
        "letp lr, 1b\n"
        "2:"
        : [w0] "+r"(w0), [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3), [to] "+r"(to), [s0] "+Te"(s0), [s1] "+Te"(s1),
          [s2] "+Te"(s2), [s3] "+Te"(s3)
        : [count] "r"(count)
        : "lr", "q0", "q1", "q2", "q3", "memory");
    return tt_lanes(s0, s1, s2, s3);
}

// Packs what a block has of the channels from `co` on; returns the sums of the weights.
TT_INNER_LOOP static int32x4_t pack_block(const tt_conv2d_s8_args *a, const tt_weight_block *block, int32_t co,
                                          int32_t count, int8_t *to) {
    const int32_t first = tt_max(co, block->co_start), last = tt_min(co + count, block->co_start + block->co_count);
    const int32_t positions = a->window.kernel_height * a->window.kernel_width, step = positions * block->ci_count;
    const int whole = block->ci_count == a->x_channels;
    const int32_t run = whole ? step : block->ci_count;
    const int8_t *w = block->weights + (first - block->co_start) * step;
    int32_t sums[CHANNELS] = {0, 0, 0, 0};
    for (int32_t k = 0; k < (whole ? 1 : positions) && first < last; k++, w += run) {
        const int32_t at = k * a->x_channels + block->ci_start;
        for (int32_t c = first - co; c < last - co; c++) {
            sums[c] += pack_run(w + (c + co - first) * step, run, at, to + c * LANES);
        }
    }
    return vld1q_s32(sums);
}

// Packs the weights of `count` channels.
TT_INNER_LOOP static int32x4_t pack_weights(const layer *l, int32_t co, int32_t count, int8_t *to) {
    const tt_conv2d_s8_args *a = l->args;
    int32x4_t sums = vdupq_n_s32(0);
    if (l->padded != l->inputs) {
        int8_t *end = to + (l->padded - LANES) * CHANNELS;
        for (int32_t c = 0; c < CHANNELS; c++) { vstrbq_s8(end + c * LANES, vreinterpretq_s8_s32(sums)); }
    }
    for (const tt_weight_block *block = a->blocks, *last = block + a->block_count; block < last; block++) {
        const int32_t skip = co - block->co_start, ci = block->ci_start;
        const int inside = count == CHANNELS && skip >= 0 && skip + CHANNELS <= block->co_count;
        if (inside && (block->ci_count == a->x_channels || l->inputs == a->x_channels)) {  // one run of each channel
            const int32_t run = block->ci_count == a->x_channels ? l->inputs : block->ci_count, lane = ci % LANES;
            const int32_t part = lane == 0 ? 0 : tt_min(LANES - lane, run);  // of a vector that others have a part of
            const int8_t *w = block->weights + skip * run;
            if (part > 0) { sums = vaddq_s32(sums, pack_four_runs(w, run, part, to + ci * CHANNELS - 3 * lane)); }
            if (run > part) {
                sums = vaddq_s32(sums, pack_four_runs(w + part, run, run - part, to + (ci + part) * CHANNELS));
            }
        } else {
            sums = vaddq_s32(sums, pack_block(a, block, co, count, to));
        }
    }
    return vmulq_n_s32(sums, -a->x_zero_point);
}

static tt_quad pack(const layer *l, int32_t co, int32_t count, int8_t *to) {
    return tt_quad_of(&l->output, co, count, pack_weights(l, co, count, to), l->largest_bias);
}

// Sums of a row of at most 16 inputs.
#define SUM_NARROW(sums)                                                                                               \
    "vldrb.8 %q[" sums "], [%[x]]\n\t"                                                                                 \
    "vmladav.s8 %[a], %q[" sums "], %q[w0]\n\t"                                                                        \
    "add %[x], %[x_step]\n\t"                                                                                          \
    "vmladav.s8 %[b], %q[" sums "], %q[w1]\n\t"                                                                        \
    "vmladav.s8 %[c], %q[" sums "], %q[w2]\n\t"                                                                        \
    "vmladav.s8 %[d], %q[" sums "], %q[w3]\n\t"                                                                        \
    "vmov %q[" sums "][2], %q[" sums "][0], %[a], %[c]\n\t"                                                            \
    "vmov %q[" sums "][3], %q[" sums "][1], %[b], %[d]\n\t"

// `pairs` times two rows, whose weights stay in registers. `sign`: what TT_STYLE_SIGNED does before the shift.
#define NARROW_ROWS(name, sign)                                                                                        \
    TT_INNER_LOOP static void name(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed,           \
                                   int32_t pairs) {                                                                    \
        const int8x16_t w0 = vldrbq_s8(packed), w1 = vldrbq_s8(packed + LANES);                                        \
        const int8x16_t w2 = vldrbq_s8(packed + 2 * LANES), w3 = vldrbq_s8(packed + 3 * LANES);                        \
        const int8_t *x = r->x;                                                                                        \
        int8_t *y = r->y + quad->channel;                                                                              \
        int32x4_t first, second, other;                                                                                \
        int32_t a, b, c, d;                                                                                            \
        __asm__ volatile(                                                                                              \
            "dls lr, %[pairs]\n"                                                                                       \
            "1:\n\t" SUM_NARROW("first") SUM_NARROW("second")                                                          \
            "vldrw.32 %q[other], [%[quad], #48]\n\t"                                                                   \
            "vadd.i32 %q[first], %q[first], %q[other]\n\t"                                                             \
            "vadd.i32 %q[second], %q[second], %q[other]\n\t"                                                           \
            "vldrw.32 %q[other], [%[quad], #16]\n\t"                                                                   \
            TT_NARROW("%q[first]", "%q[second]", "%q[multiplier]", "%q[other]", "%[zero_point]", sign)                 \
            "vldrw.32 %q[other], [%[places]]\n\t"                                                                      \
            "vstrb.16 %q[first], [%[y], %q[other]]\n\t"                                                                \
            "add %[y], %[y_step]\n\t"                                                                                  \
            "le lr, 1b"                                                                                                \
            : [x] "+r"(x), [y] "+r"(y), [first] "=&w"(first), [second] "=&w"(second), [other] "=&w"(other),            \
              [a] "=&Te"(a), [b] "=&Te"(b), [c] "=&Te"(c), [d] "=&Te"(d)                                               \
            : [w0] "w"(w0), [w1] "w"(w1), [w2] "w"(w2), [w3] "w"(w3), [pairs] "r"(pairs), [x_step] "r"(r->x_step),     \
              [y_step] "r"(2 * r->y_step), [quad] "r"(quad), [multiplier] "w"(quad->multiplier),                       \
              [places] "r"(&r->places), [zero_point] "r"(l->output.zero_point), [one] "r"(1)                           \
            : "lr", "memory");                                                                                         \
    }
NARROW_ROWS(narrow_relu, "")
NARROW_ROWS(narrow_signed, TT_SIGN_FIX("%q[first]", "%q[second]", "%[one]"))

// Any style, any number of rows.
TT_INNER_LOOP static void narrow_any(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed) {
    const mve_pred16_t inputs = vctp8q((uint32_t)l->inputs);
    const int8_t *x = r->x;
    int8_t *y = r->y + quad->channel;
    for (int32_t left = r->count; left > 0; left--, x += r->x_step, y += r->y_step) {
        const int8x16_t v = vldrbq_z_s8(x, inputs);
        const int32_t a = vmladavq_s8(v, vldrbq_s8(packed)), b = vmladavq_s8(v, vldrbq_s8(packed + LANES));
        const int32_t c = vmladavq_s8(v, vldrbq_s8(packed + 2 * LANES));
        const int32_t d = vmladavq_s8(v, vldrbq_s8(packed + 3 * LANES));
        tt_store_quad(&l->output, quad, tt_lanes(a, b, c, d), y);
    }
}

// What stands behind the packed weights, where the address of the weights arrives.
typedef struct tail {
    int32_t zero_point, y_step, x_next, x_step;  // y_step: of two rows; x_next: from the end of the second row
    int8_t *y_end;
    int32_t one;
} tail;

// All rows, two at a time, times four channels. VMLADAVA adds to even registers only, and all eight are in use: so the
// loops end on addresses, and what else is needed is loaded from behind the weights. Both rows' outputs are narrowed in
// 16-bit lanes and scattered in one go. `sign`: what TT_STYLE_SIGNED does before the shift.
#define WIDE_ROWS(name, sign)                                                                                          \
    TT_INNER_LOOP static void name(const layer *l, const tt_quad *quad, const rows *r) {                               \
        const int8_t *x0 = r->x, *x1 = x0 + r->x_step;                                                                 \
        int8_t *y = r->y + quad->channel, *end = l->packed + HEADER + CHANNELS * l->padded;                            \
        *(tail *)(void *)end = (tail){l->output.zero_point, 2 * r->y_step, r->x_step - l->padded, r->x_step,           \
                                      y + r->count / 2 * 2 * r->y_step, 1};                                            \
        __asm__ volatile(                                                                                              \
            "1: mov r5, %[packed]\n\t"                                                                                 \
            "ldm r5!, {r0, r2, r4, r6, r8, r10, r12, lr}\n"                                                            \
            "2: vldrb.8 q0, [%[x0]], #16\n\t"                                                                          \
            "vldrb.8 q2, [r5], #16\n\t"                                                                                \
            "vmladava.s8 r0, q0, q2\n\t"                                                                               \
            "vldrb.8 q1, [%[x1]], #16\n\t"                                                                             \
            "vmladava.s8 r8, q1, q2\n\t"                                                                               \
            "vldrb.8 q3, [r5], #16\n\t"                                                                                \
            "vmladava.s8 r2, q0, q3\n\t"                                                                               \
            "vldrb.8 q2, [r5], #16\n\t"                                                                                \
            "vmladava.s8 r10, q1, q3\n\t"                                                                              \
            "vmladava.s8 r4, q0, q2\n\t"                                                                               \
            "vldrb.8 q3, [r5], #16\n\t"                                                                                \
            "vmladava.s8 r12, q1, q2\n\t"                                                                              \
            "cmp r5, %[end]\n\t"                                                                                       \
            "vmladava.s8 r6, q0, q3\n\t"                                                                               \
            "vmladava.s8 lr, q1, q3\n\t"                                                                               \
            "bne 2b\n\t"                                                                                               \
            "vmov q0[2], q0[0], r0, r4\n\t"                                                                            \
            "vmov q0[3], q0[1], r2, r6\n\t"                                                                            \
            "vmov q1[2], q1[0], r8, r12\n\t"                                                                           \
            "vmov q1[3], q1[1], r10, lr\n\t"                                                                           \
            "ldm r5, {r0, r2, r4, r6, r8, r10}\n\t"                                                                    \
            "add %[x0], %[x1], r4\n\t"                                                                                 \
            "add %[x1], %[x0], r6\n\t"                                                                                 \
            TT_NARROW("q0", "q1", "%q[multiplier]", "%q[shift]", "r0", sign)                                           \
            "vstrb.16 q0, [%[y], %q[places]]\n\t"                                                                      \
            "add %[y], %[y], r2\n\t"                                                                                   \
            "cmp %[y], r8\n\t"                                                                                         \
            "bne 1b"                                                                                                   \
            : [x0] "+r"(x0), [x1] "+r"(x1), [y] "+r"(y)                                                                \
            : [packed] "r"(l->packed), [end] "r"(end), [multiplier] "w"(quad->multiplier), [shift] "w"(quad->shift),   \
              [places] "w"(r->places)                                                                                  \
            : "r0", "r2", "r4", "r5", "r6", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "cc", "memory");         \
    }
WIDE_ROWS(wide_relu, "")
WIDE_ROWS(wide_signed, TT_SIGN_FIX("q0", "q1", "r10"))

// Any style, any number of rows.
TT_INNER_LOOP static void wide_any(const layer *l, const tt_quad *quad, const rows *r) {
    for (int32_t i = 0; i < r->count; i++) {
        const int8_t *x = r->x + i * r->x_step;
        int8_t *y = r->y + i * r->y_step + quad->channel;
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (const int8_t *w = l->packed + HEADER, *end = w + CHANNELS * l->padded; w < end; w += BLOCK, x += LANES) {
            const int8x16_t v = vldrbq_s8(x);
            s0 = vmladavaq_s8(s0, v, vldrbq_s8(w)), s1 = vmladavaq_s8(s1, v, vldrbq_s8(w + LANES));
            s2 = vmladavaq_s8(s2, v, vldrbq_s8(w + 2 * LANES)), s3 = vmladavaq_s8(s3, v, vldrbq_s8(w + 3 * LANES));
        }
        tt_store_quad(&l->output, quad, tt_lanes(s0, s1, s2, s3), y);
    }
}

// Whole vectors are read of rows that have as much behind them.
static void store_narrow(const layer *l, int32_t co, int32_t count, const rows *r, int32_t parts) {
    int8_t packed[BLOCK];
    const tt_quad quad = pack(l, co, count, packed);
    for (; parts > 0; parts--, r++) {
        const int32_t last = r->x_step > 0 && r->x_step < LANES ? (LANES - 1) / r->x_step : 0;
        int32_t pairs = tt_max(r->count - last, 0) / 2;
        if (quad.style >= TT_STYLE_ANY || l->args->y_channels > MOST_CHANNELS) { pairs = 0; }
        if (pairs > 0 && quad.style == TT_STYLE_RELU) {
            narrow_relu(l, &quad, r, packed, pairs);
        } else if (pairs > 0) {
            narrow_signed(l, &quad, r, packed, pairs);
        }
        rows others = *r;
        others.x += 2 * pairs * r->x_step, others.y += 2 * pairs * r->y_step, others.count -= 2 * pairs;
        narrow_any(l, &quad, &others, packed);
    }
}

static void store_wide(const layer *l, int32_t co, int32_t count, const rows *r, int32_t parts) {
    const tt_quad quad = pack(l, co, count, l->packed + HEADER);
    const int32_t style = l->args->y_channels <= MOST_CHANNELS ? quad.style : tt_max(quad.style, TT_STYLE_ANY);
    int32_t *header = (int32_t *)(void *)l->packed;
    vst1q_s32(header, quad.start), vst1q_s32(header + CHANNELS, quad.start);  // of each row's sums
    for (; parts > 0; parts--, r++) {
        if (style == TT_STYLE_RELU) {
            wide_relu(l, &quad, r);
        } else if (style == TT_STYLE_SIGNED) {
            wide_signed(l, &quad, r);
        } else {
            wide_any(l, &quad, r);
        }
    }
}

// All channels of the outputs from `first` on: of `direct` of them the rows lie in x, of the others in copies.
static void store_rows(const layer *l, int32_t first, int32_t direct, const int8_t *copies, int32_t count) {
    const int32_t channels = l->args->y_channels, together = tt_min(CHANNELS, channels), even = count / 2 * 2;
    int8_t *y = l->args->y + first * channels;
    rows r[3];
    int32_t parts = 0;
    const uint16x8_t places = tt_places_of(channels), one = tt_places_of(0);
    if (direct > 0) { r[parts++] = (rows){l->args->x, y, direct, l->inputs, channels, places}; }
    y += direct * channels;
    if (even > 0) { r[parts++] = (rows){copies, y, even, l->padded, channels, places}; }
    if (even < count) { r[parts++] = (rows){copies + even * l->padded, y + even * channels, 1, 0, 0, one}; }
    for (int32_t done = 0; done < channels; done += together) {
        const int32_t co = tt_min(done, channels - together);  // the last four may overlap the four before
        if (l->inputs <= LANES) {
            store_narrow(l, co, together, r, parts);
        } else {
            store_wide(l, co, together, r, parts);
        }
    }
    tt_clamp_all(&l->output, l->args->y + first * channels, (direct + count) * channels);
}

static void copy_window(const layer *l, int32_t oy, int32_t ox, int8_t *to) {
    const tt_conv2d_s8_args *a = l->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int32_t width = at.columns.last - at.columns.first, run = width * a->x_channels;
    if (width < win->kernel_width || at.rows.last - at.rows.first < win->kernel_height) {
        tt_fill_bytes(to, vdupq_n_s8((int8_t)a->x_zero_point), l->inputs);
    }
    if (width <= 0) { return; }
    for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0 + at.columns.first) * a->x_channels;
        tt_copy_bytes(to + (ky * win->kernel_width + at.columns.first) * a->x_channels, x, run);
    }
}

// `count` runs of at most a vector. VPR changes, which no clobber can say: so this stays a function of its own.
TT_INNER_LOOP static void copy_runs(int8_t *to, int32_t to_step, const int8_t *x, int32_t step, int32_t run,
                                    int32_t count) {
    __asm__ volatile(
        "vctp.8 %[run]\n\t"
        "dls lr, %[count]\n"
        "1: vpstt\n\t"
        "vldrbt.8 q0, [%[x]]\n\t"
        "vstrbt.8 q0, [%[to]]\n\t"
        "add %[x], %[step]\n\t"
        "add %[to], %[to_step]\n\t"
        "le lr, 1b"
        : [x] "+r"(x), [to] "+r"(to)
        : [step] "r"(step), [to_step] "r"(to_step), [run] "r"(run), [count] "r"(count)
        : "lr", "q0", "memory");
}

// Windows of neighbouring outputs, from (oy, ox) on, that lie wholly inside the image.
static void copy_whole_windows(const layer *l, int32_t oy, int32_t ox, int32_t count, int8_t *to) {
    const tt_conv2d_s8_args *a = l->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int32_t run = win->kernel_width * a->x_channels, step = win->stride_width * a->x_channels, padded = l->padded;
    for (int32_t ky = 0; ky < win->kernel_height; ky++, to += run) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0) * a->x_channels;
        if (run <= LANES) {
            copy_runs(to, padded, x, step, run, count);
            continue;
        }
        for (int32_t i = 0; i < count; i++) { tt_copy_bytes(to + i * padded, x + i * step, run); }
    }
}

// Copies the windows of outputs `first` on, `count` of them.
static void copy_windows(const layer *l, int32_t first, int32_t count, int8_t *to) {
    const tt_window *win = &l->args->window;
    const int32_t room = win->x_width + win->pad_left - win->kernel_width;
    const tt_range inside = {(win->pad_left + win->stride_width - 1) / win->stride_width,
                             room < 0 ? 0 : tt_min(win->y_width, room / win->stride_width + 1)};
    int32_t oy = first / win->y_width, ox = first % win->y_width;
    while (count > 0) {
        const tt_range rows = tt_inside(oy * win->stride_height - win->pad_top, win->kernel_height, win->x_height);
        int32_t done = tt_min(count, inside.last - ox);
        if (rows.last - rows.first == win->kernel_height && ox >= inside.first && done > 0) {
            copy_whole_windows(l, oy, ox, done, to);
        } else {
            done = 1;
            copy_window(l, oy, ox, to);
        }
        count -= done, ox += done, to += done * l->padded;
        if (ox == win->y_width) { ox = 0, oy++; }
    }
}

static int rows_are_pixels(const tt_window *win) {
    return win->kernel_height * win->kernel_width * win->stride_height * win->stride_width == 1 &&
           win->x_height == win->y_height && win->x_width == win->y_width && win->pad_top == 0 && win->pad_left == 0;
}

void tt_conv2d_s8(const void *args) {
    const tt_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const int32_t inputs = win->kernel_height * win->kernel_width * a->x_channels;
    const int32_t padded = (inputs + LANES - 1) / LANES * LANES, outputs = win->y_height * win->y_width;
    const layer l = {a, output, inputs, padded, tt_largest_bias(inputs), a->scratch};
    const int narrow = inputs <= LANES;
    int8_t *copies = l.packed + (narrow ? 0 : HEADER + CHANNELS * padded + TAIL);
    if (rows_are_pixels(win)) {
        // The last rows are copied where whole vectors would read past the image, and where rows go in twos.
        const int32_t direct = narrow ? outputs : (outputs - (padded > inputs)) / 2 * 2;
        if (direct < outputs) { copy_windows(&l, direct, outputs - direct, copies); }
        store_rows(&l, 0, direct, copies, outputs - direct);
        return;
    }
    const int32_t most = (int32_t)((int8_t *)a->scratch + a->scratch_bytes - copies) / padded;
    const int32_t tile = most > 1 ? most / 2 * 2 : 1;
    for (int32_t done = 0; done < outputs; done += tile) {
        const int32_t count = tt_min(tile, outputs - done);
        copy_windows(&l, done, count, copies);
        store_rows(&l, done, 0, copies, count);
    }
}
