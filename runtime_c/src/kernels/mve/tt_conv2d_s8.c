// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_s8 with VMLADAVA: four output channels at a time over all pixels. A row is what one output reads: a pixel of
// x for a 1 x 1 window that moves by one, else a copy of the window in scratch, padded with the zero point.
//
// Rows of at most 16 inputs: four vectors of weights stay in registers. Longer rows: two rows times four channels; the
// weights lie in scratch, a vector of each channel in turn, filled up with zeros. So whole vectors of x can be read, past
// a row's end; the last rows of x, where that would pass the image's end, are copied to scratch as well.
// Scratch: packed weights 16 + 4 R, rows of R bytes each, two or more; R = inputs rounded up to 16.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/mve.h"
#include "tinytrain/window.h"

enum { LANES = 16, CHANNELS = 4, BLOCK = LANES * CHANNELS, HEADER = 16 };

// Rows and where their outputs go; the steps of one row alone are 0.
typedef struct rows {
    const int8_t *x;
    int8_t *y;
    int32_t count, x_step, y_step;
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

// The same for four channels, whose weights lie `step` bytes apart.
TT_INNER_LOOP static void pack_four_runs(const int8_t *w, int32_t step, int32_t count, int32_t at, int8_t *to,
                                         int32_t *sums) {
    int32_t lane = at % LANES, s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    to += at / LANES * BLOCK + lane;
    for (; lane == 0 && count >= LANES; count -= LANES, w += LANES, to += BLOCK) {
        const int8x16_t w0 = vldrbq_s8(w), w1 = vldrbq_s8(w + step);
        const int8x16_t w2 = vldrbq_s8(w + 2 * step), w3 = vldrbq_s8(w + 3 * step);
        s0 = vaddvaq_s8(s0, w0), s1 = vaddvaq_s8(s1, w1), s2 = vaddvaq_s8(s2, w2), s3 = vaddvaq_s8(s3, w3);
        vstrbq_s8(to, w0);
        vstrbq_s8(to + LANES, w1);
        vstrbq_s8(to + 2 * LANES, w2);
        vstrbq_s8(to + 3 * LANES, w3);
    }
    while (count > 0) {
        const int32_t part = tt_min(LANES - lane, count);
        const mve_pred16_t some = vctp8q((uint32_t)part);
        const int8x16_t w0 = vldrbq_z_s8(w, some), w1 = vldrbq_z_s8(w + step, some);
        const int8x16_t w2 = vldrbq_z_s8(w + 2 * step, some), w3 = vldrbq_z_s8(w + 3 * step, some);
        s0 = vaddvaq_s8(s0, w0), s1 = vaddvaq_s8(s1, w1), s2 = vaddvaq_s8(s2, w2), s3 = vaddvaq_s8(s3, w3);
        vstrbq_p_s8(to, w0, some);
        vstrbq_p_s8(to + LANES, w1, some);
        vstrbq_p_s8(to + 2 * LANES, w2, some);
        vstrbq_p_s8(to + 3 * LANES, w3, some);
        to += BLOCK - lane, w += part, count -= part, lane = 0;
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// Packs what a block has of the channels from `co` on.
static void pack_block(const tt_conv2d_s8_args *a, const tt_weight_block *block, int32_t co, int32_t count, int8_t *to,
                       int32_t *sums) {
    const int32_t first = tt_max(co, block->co_start), last = tt_min(co + count, block->co_start + block->co_count);
    const int32_t positions = a->window.kernel_height * a->window.kernel_width, step = positions * block->ci_count;
    const int whole = block->ci_count == a->x_channels;
    const int32_t run = whole ? step : block->ci_count;
    const int8_t *w = block->weights + (first - block->co_start) * step;
    for (int32_t k = 0; k < (whole ? 1 : positions) && first < last; k++, w += run) {
        const int32_t at = k * a->x_channels + block->ci_start;
        if (last - first == CHANNELS) {
            pack_four_runs(w, step, run, at, to, sums);
            continue;
        }
        for (int32_t c = first - co; c < last - co; c++) {
            sums[c] += pack_run(w + (c + co - first) * step, run, at, to + c * LANES);
        }
    }
}

// Packs the weights of `count` channels.
static tt_quad pack(const layer *l, int32_t co, int32_t count, int8_t *to) {
    const int8x16_t zero = vdupq_n_s8(0);
    int8_t *end = to + (l->padded - LANES) * CHANNELS;
    int32_t sums[CHANNELS] = {0, 0, 0, 0};
    for (int32_t c = 0; c < CHANNELS; c++) { vstrbq_s8(end + c * LANES, zero); }
    for (int32_t i = 0; i < l->args->block_count; i++) { pack_block(l->args, &l->args->blocks[i], co, count, to, sums); }
    const int32x4_t zero_sums = vmulq_n_s32(vld1q_s32(sums), -l->args->x_zero_point);
    return tt_quad_of(&l->output, co, count, zero_sums, l->largest_bias);
}

TT_ALWAYS_INLINE static inline void store_narrow_rows(const layer *l, const tt_quad *quad, const rows *r,
                                                      const int8_t *packed, int32_t style) {
    const int8x16_t w0 = vldrbq_s8(packed), w1 = vldrbq_s8(packed + LANES);
    const int8x16_t w2 = vldrbq_s8(packed + 2 * LANES), w3 = vldrbq_s8(packed + 3 * LANES);
    const tt_quad q = *quad;
    const tt_output o = l->output;
    const int32_t x_step = r->x_step, y_step = r->y_step;
    const mve_pred16_t inputs = vctp8q((uint32_t)l->inputs);
    const int8_t *x = r->x;
    int8_t *y = r->y + q.channel;
    for (int32_t left = r->count; left > 0; left--, x += x_step, y += y_step) {
        const int8x16_t v = vldrbq_z_s8(x, inputs);
        const int32x4_t sums = tt_lanes(vmladavq_s8(v, w0), vmladavq_s8(v, w1), vmladavq_s8(v, w2), vmladavq_s8(v, w3));
        const int32x4_t total = vaddq_s32(sums, q.start);
        if (style == TT_STYLE_SINGLE) {
            tt_store_single(&l->output, quad, total, y);
        } else if (style == TT_STYLE_ANY) {
            tt_store_any(o, q, total, y);
        } else {
            vstrbq_s32(y, tt_saturated_s8(tt_scaled(total, q.multiplier, q.shift, style), o.zero_point));
        }
    }
}

TT_INNER_LOOP static void narrow_relu(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed) {
    store_narrow_rows(l, quad, r, packed, TT_STYLE_RELU);
}

TT_INNER_LOOP static void narrow_signed(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed) {
    store_narrow_rows(l, quad, r, packed, TT_STYLE_SIGNED);
}

TT_INNER_LOOP static void narrow_any(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed) {
    store_narrow_rows(l, quad, r, packed, TT_STYLE_ANY);
}

TT_INNER_LOOP static void narrow_single(const layer *l, const tt_quad *quad, const rows *r, const int8_t *packed) {
    store_narrow_rows(l, quad, r, packed, TT_STYLE_SINGLE);
}

// Sums of two rows times four channels; the rows' addresses move on by whole vectors. VMLADAVA adds to even registers
// only. All eight are in use, so the loop ends on the address of the weights. They begin with the four channels' start.
TT_ALWAYS_INLINE static inline void two_rows(const int8_t **x0, const int8_t **x1, const int8_t *packed,
                                             const int8_t *end, int32x4_t *sums0, int32x4_t *sums1) {
    int32_t a0, a1, a2, a3, b0, b1, b2;  // and b3, lr
    int8x16_t w, v;
    __asm__ volatile(
        "ldrd %[a0], %[a1], [%[packed]]\n\t"
        "ldrd %[b0], %[b1], [%[packed]], #8\n\t"
        "ldrd %[a2], %[a3], [%[packed]]\n\t"
        "ldrd %[b2], lr, [%[packed]], #8\n"
        "1:\n\t"
        "vldrb.8 %q[s0], [%[x0]], #16\n\t"
        "vldrb.8 %q[w], [%[packed]], #16\n\t"
        "vmladava.s8 %[a0], %q[s0], %q[w]\n\t"
        "vldrb.8 %q[s1], [%[x1]], #16\n\t"
        "vmladava.s8 %[b0], %q[s1], %q[w]\n\t"
        "vldrb.8 %q[v], [%[packed]], #16\n\t"
        "vmladava.s8 %[a1], %q[s0], %q[v]\n\t"
        "vldrb.8 %q[w], [%[packed]], #16\n\t"
        "vmladava.s8 %[b1], %q[s1], %q[v]\n\t"
        "vmladava.s8 %[a2], %q[s0], %q[w]\n\t"
        "vldrb.8 %q[v], [%[packed]], #16\n\t"
        "vmladava.s8 %[b2], %q[s1], %q[w]\n\t"
        "cmp %[packed], %[end]\n\t"
        "vmladava.s8 %[a3], %q[s0], %q[v]\n\t"
        "vmladava.s8 lr, %q[s1], %q[v]\n\t"
        "bne 1b\n\t"
        "vmov %q[s0][2], %q[s0][0], %[a0], %[a2]\n\t"
        "vmov %q[s0][3], %q[s0][1], %[a1], %[a3]\n\t"
        "vmov %q[s1][2], %q[s1][0], %[b0], %[b2]\n\t"
        "vmov %q[s1][3], %q[s1][1], %[b1], lr"
        : [a0] "=&Te"(a0), [a1] "=&Te"(a1), [a2] "=&Te"(a2), [a3] "=&Te"(a3), [b0] "=&Te"(b0), [b1] "=&Te"(b1),
          [b2] "=&Te"(b2), [x0] "+r"(*x0), [x1] "+r"(*x1), [packed] "+r"(packed), [s0] "=&w"(*sums0),
          [s1] "=&w"(*sums1), [w] "=&w"(w), [v] "=&w"(v)
        : [end] "r"(end)
        : "lr", "cc", "memory");
}

TT_ALWAYS_INLINE static inline void store_wide_rows(const layer *l, const tt_quad *quad, const rows *r, int32_t style) {
    const tt_quad q = *quad;
    const tt_output o = l->output;
    const int32_t x_step = r->x_step, y_step = r->y_step;
    const int32_t next = x_step - l->padded;  // from the end of the second row to the next two
    const int8_t *packed = l->packed, *end = packed + HEADER + CHANNELS * l->padded;
    const int8_t *x0 = r->x, *x1 = x0 + x_step;
    const int32x4_t low = vdupq_n_s32(o.low), high = vdupq_n_s32(o.high);
    int8_t *y = r->y + q.channel;
    for (int32_t left = r->count; left > 0; left -= 2, y += 2 * y_step) {
        int32x4_t sums0, sums1;
        two_rows(&x0, &x1, packed, end, &sums0, &sums1);
        x0 = x1 + next;
        x1 = x0 + x_step;
        if (style == TT_STYLE_SINGLE) {
            tt_store_single(&l->output, quad, sums0, y);
            tt_store_single(&l->output, quad, sums1, y + y_step);
        } else if (style == TT_STYLE_ANY) {
            tt_store_any(o, q, sums0, y);
            tt_store_any(o, q, sums1, y + y_step);
        } else {
            vstrbq_s32(y, tt_clamped(tt_scaled(sums0, q.multiplier, q.shift, style), o.zero_point, low, high));
            vstrbq_s32(y + y_step, tt_clamped(tt_scaled(sums1, q.multiplier, q.shift, style), o.zero_point, low, high));
        }
    }
}

TT_INNER_LOOP static void wide_relu(const layer *l, const tt_quad *quad, const rows *r) {
    store_wide_rows(l, quad, r, TT_STYLE_RELU);
}

TT_INNER_LOOP static void wide_signed(const layer *l, const tt_quad *quad, const rows *r) {
    store_wide_rows(l, quad, r, TT_STYLE_SIGNED);
}

TT_INNER_LOOP static void wide_any(const layer *l, const tt_quad *quad, const rows *r) {
    store_wide_rows(l, quad, r, TT_STYLE_ANY);
}

TT_INNER_LOOP static void wide_single(const layer *l, const tt_quad *quad, const rows *r) {
    store_wide_rows(l, quad, r, TT_STYLE_SINGLE);
}

static void store_narrow(const layer *l, int32_t co, int32_t count, const rows *r, int32_t parts) {
    const int whole_clamp = l->output.low == INT8_MIN && l->output.high == INT8_MAX;
    int8_t packed[BLOCK];
    const tt_quad quad = pack(l, co, count, packed);
    for (; parts > 0; parts--, r++) {
        if (quad.style == TT_STYLE_RELU && whole_clamp) {
            narrow_relu(l, &quad, r, packed);
        } else if (quad.style == TT_STYLE_SIGNED && whole_clamp) {
            narrow_signed(l, &quad, r, packed);
        } else if (quad.style == TT_STYLE_SINGLE) {
            narrow_single(l, &quad, r, packed);
        } else {
            narrow_any(l, &quad, r, packed);
        }
    }
}

static void store_wide(const layer *l, int32_t co, int32_t count, const rows *r, int32_t parts) {
    const tt_quad quad = pack(l, co, count, l->packed + HEADER);
    vst1q_s32((int32_t *)(void *)l->packed, quad.start);
    for (; parts > 0; parts--, r++) {
        if (quad.style == TT_STYLE_RELU) {
            wide_relu(l, &quad, r);
        } else if (quad.style == TT_STYLE_SIGNED) {
            wide_signed(l, &quad, r);
        } else if (quad.style == TT_STYLE_SINGLE) {
            wide_single(l, &quad, r);
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
    if (direct > 0) { r[parts++] = (rows){l->args->x, y, direct, l->inputs, channels}; }
    y += direct * channels;
    if (even > 0) { r[parts++] = (rows){copies, y, even, l->padded, channels}; }
    if (even < count) { r[parts++] = (rows){copies + even * l->padded, y + even * channels, 1, 0, 0}; }
    for (int32_t done = 0; done < channels; done += together) {
        const int32_t co = tt_min(done, channels - together);  // the last four may overlap the four before
        if (l->inputs <= LANES) {
            store_narrow(l, co, together, r, parts);
        } else {
            store_wide(l, co, together, r, parts);
        }
    }
}

static void copy_window(const layer *l, int32_t oy, int32_t ox, int8_t *to) {
    const tt_conv2d_s8_args *a = l->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int32_t width = at.columns.last - at.columns.first, run = width * a->x_channels;
    if (width < win->kernel_width || at.rows.last - at.rows.first < win->kernel_height) {
        tt_fill_bytes(to, a->x_zero_point, l->inputs);
    }
    if (width <= 0) { return; }
    for (int32_t ky = at.rows.first; ky < at.rows.last; ky++) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0 + at.columns.first) * a->x_channels;
        tt_copy_bytes(to + (ky * win->kernel_width + at.columns.first) * a->x_channels, x, run);
    }
}

// Windows of neighbouring outputs, from (oy, ox) on, that lie wholly inside the image.
static void copy_whole_windows(const layer *l, int32_t oy, int32_t ox, int32_t count, int8_t *to) {
    const tt_conv2d_s8_args *a = l->args;
    const tt_window *win = &a->window;
    const tt_patch at = tt_patch_of(win, oy, ox);
    const int32_t run = win->kernel_width * a->x_channels, step = win->stride_width * a->x_channels;
    for (int32_t ky = 0; ky < win->kernel_height; ky++, to += run) {
        const int8_t *x = a->x + ((at.y0 + ky) * win->x_width + at.x0) * a->x_channels;
        int8_t *row = to;
        for (int32_t i = 0; i < count; i++, x += step, row += l->padded) { tt_copy_bytes(row, x, run); }
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
    int8_t *copies = l.packed + (narrow ? 0 : HEADER + CHANNELS * padded);
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
