// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update_s16, Helium: eight pixels of six input channels stay in registers, turned by gathers, while
// the gradients of the output channels pass by: one gather serves 48 products. Sums of an output channel lie side by
// side until all pixels have been, then four weights change at a time.
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/mve_gradient.h"
#include "tinytrain/mve_update.h"
#include "tinytrain/weight_gradient.h"

// Input channels in registers, pixels of a vector, vectors whose products surely fit 32 bits, output channels whose
// sums fit the stack.
enum { INPUTS = 6, PIXELS = 8, MOST_VECTORS = TT_WEIGHT_GRADIENT_CHUNK / PIXELS, FEWEST_OUTPUTS = 4 };

// One kernel position.
typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_meeting meeting;
    uint32_t position;  // ky * kernel width + kx
    tt_clipping *clipping;
    int32_t *sums;      // [outputs, INPUTS]
    int32_t outputs;    // at a time
} work;

// Input channels ci to ci + lanes - 1 of the weights of `outputs` output channels from co on, which counts from the
// block's first.
typedef struct tile {
    int32_t ci, lanes, co, outputs;
} tile;

// Eight pixels of INPUTS channels less the zero point, 0 where there are none.
typedef struct turned {
    int16x8_t x0, x1, x2, x3, x4, x5;
} turned;

// sums[output, i] += xi . gy[output]; the pixels of an output lie `places` elements from its first.
TT_ALWAYS_INLINE static inline void add_products(const turned *x, const int16_t *gy, uint16x8_t places, int32_t *sums,
                                                 int32_t outputs) {
    int16x8_t values;
    __asm__ volatile(
        "dls lr, %[outputs]\n"
        "1:\n"
        "ldm %[sums], {r0, r2, r4, r6, r8, r10}\n"
        "vldrh.u16 %q[values], [%[gy], %q[places], uxtw #1]\n"
        "vmladava.s16 r0, %q[values], %q[x0]\n"
        "vmladava.s16 r2, %q[values], %q[x1]\n"
        "vmladava.s16 r4, %q[values], %q[x2]\n"
        "vmladava.s16 r6, %q[values], %q[x3]\n"
        "vmladava.s16 r8, %q[values], %q[x4]\n"
        "vmladava.s16 r10, %q[values], %q[x5]\n"
        "add %[gy], %[gy], #2\n"
        "stm %[sums]!, {r0, r2, r4, r6, r8, r10}\n"
        "le lr, 1b\n"
        : [gy] "+r"(gy), [sums] "+r"(sums), [values] "=&w"(values)
        : [outputs] "r"(outputs), [places] "w"(places), [x0] "w"(x->x0), [x1] "w"(x->x1), [x2] "w"(x->x2),
          [x3] "w"(x->x3), [x4] "w"(x->x4), [x5] "w"(x->x5)
        : "r0", "r2", "r4", "r6", "r8", "r10", "lr", "memory");
}

// x of some pixels of a channel, less the zero point; 0 in other lanes.
static int16x8_t turn(const int8_t *x, uint16x8_t places, int32_t zero_point, mve_pred16_t some) {
    const int16x8_t values = vldrbq_gather_offset_z_s16(x, places, some);
    return vsubq_m_n_s16(values, values, (int16_t)zero_point, some);
}

// Adds up to PIXELS neighbouring pixels to the sums; x and gy are those of the first.
TT_INNER_LOOP static void add_pixels(const work *w, const tile *t, const int8_t *x, const int16_t *gy, int32_t pixels) {
    const tt_conv2d_weight_update_args *a = w->args;
    const mve_pred16_t some = vctp16q((uint32_t)pixels);
    const uint16x8_t lanes = vidupq_n_u16(0, 1), none = vdupq_n_u16(0);
    const uint16x8_t at = vmulq_n_u16(lanes, (uint16_t)(a->window.stride_width * a->x_channels));
    const uint16x8_t places = vpselq_u16(vmulq_n_u16(lanes, (uint16_t)a->y_channels), none, some);
    const int32_t last = t->lanes - 1, zero_point = a->x_zero_point;
    const turned all = {turn(x, at, zero_point, some),
                        turn(x + tt_min(1, last), at, zero_point, some),
                        turn(x + tt_min(2, last), at, zero_point, some),
                        turn(x + tt_min(3, last), at, zero_point, some),
                        turn(x + tt_min(4, last), at, zero_point, some),
                        turn(x + last, at, zero_point, some)};
    add_products(&all, gy, places, w->sums, t->outputs);
}

// Moves the sums of a tile to 64 bits.
static void flush(int32_t *sums, int64_t *totals, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        totals[i] += sums[i];
        sums[i] = 0;
    }
}

// Sums of a tile over all pixels: in 64 bits where there are `totals`.
static void sum_tile(const work *w, const tile *t, int64_t *totals) {
    const tt_conv2d_weight_update_args *a = w->args;
    const tt_meeting *m = &w->meeting;
    const int32_t x_step = a->window.stride_width * a->x_channels, count = t->outputs * INPUTS;
    const int32_t widest = tt_min(PIXELS, UINT16_MAX / tt_max(x_step, a->y_channels) + 1);  // 16-bit offsets
    int32_t room = MOST_VECTORS;
    for (int32_t i = 0; i < count; i += 4) { vstrwq_s32(w->sums + i, vdupq_n_s32(0)); }
    for (int32_t i = 0; totals != 0 && i < count; i++) { totals[i] = 0; }
    for (int32_t row = 0; row < m->rows; row++) {
        const int32_t pixel = m->pixel + row * a->window.stride_height * a->window.x_width;
        const int8_t *x = a->x + pixel * a->x_channels + t->ci;
        const int16_t *gy = (const int16_t *)a->gy + (m->output + row * a->window.y_width) * a->y_channels;
        for (int32_t left = m->columns; left > 0; left -= widest, x += widest * x_step, gy += widest * a->y_channels) {
            if (room-- == 0) {
                flush(w->sums, totals, count);
                room = MOST_VECTORS - 1;
            }
            add_pixels(w, t, x, gy + a->co_start + t->co, tt_min(left, widest));
        }
    }
    if (totals != 0) { flush(w->sums, totals, count); }
}

static uint32_t index_of(const work *w, const tile *t) {
    const tt_conv2d_weight_update_args *a = w->args;
    const uint32_t positions = (uint32_t)(a->window.kernel_height * a->window.kernel_width);
    return ((uint32_t)t->co * positions + w->position) * (uint32_t)a->x_channels + (uint32_t)t->ci;
}

// Changes weights one by one, in any mode; see update_tile.
TT_INNER_LOOP static void update_elements(const work *w, const tile *t, uint32_t step, int32_t sums_step,
                                          const int64_t *totals) {
    const tt_update *u = &w->args->update;
    uint32_t index = index_of(w, t);
    for (int32_t co = 0; co < t->outputs; co++, index += step) {
        const tt_rate rate = tt_rate_of_channel(u, t->co + co);
        for (int32_t i = 0; i < t->lanes; i++) {
            const int32_t at = co * sums_step + i;
            const int64_t sum = totals != 0 ? totals[at] : w->sums[at];
            tt_update_element(u, &rate, index + (uint32_t)i, tt_clipped(w->clipping, sum));
        }
    }
}

// Changes the weights of a tile. Its sums lie `sums_step` apart, in 64 bits where there are `totals`.
TT_INNER_LOOP static void update_tile(const work *w, const tile *t, int32_t sums_step, const int64_t *totals) {
    const tt_conv2d_weight_update_args *a = w->args;
    const tt_update *u = &a->update;
    const uint32_t step = (uint32_t)(a->window.kernel_height * a->window.kernel_width * a->x_channels);
    if (!tt_mve_updates(u)) {
        update_elements(w, t, step, sums_step, totals);
        return;
    }
    for (int32_t i = 0; totals != 0 && i < t->outputs * sums_step; i++) {
        w->sums[i] = tt_saturate32(tt_rounding_shift(totals[i], u->total_shift));
    }
    tt_mve_rows rows = {w->sums, index_of(w, t), step, sums_step, t->lanes};
    const int32_t end = t->co + t->outputs;
    for (int32_t co = t->co; co < end; co += 4) {
        const int32_t some = tt_min(4, end - co);
        tt_mve_rates rates;
        if (u->mode != TT_UPDATE_STORE) { tt_mve_rates_of(u, co, some, &rates); }
        tt_mve_update_rows(u, &rates, co, some, &rows);
    }
}

// Where the kernel position meets one pixel alone: products of its channels, as many of them as are sums.
TT_INNER_LOOP static void update_point(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int8_t *x = a->x + w->meeting.pixel * a->x_channels;
    const int16_t *gy = (const int16_t *)a->gy + w->meeting.output * a->y_channels + a->co_start;
    const int32_t most = w->outputs * INPUTS / 4 * 4;
    tile t = {0, 0, 0, 1};
    for (; t.co < a->co_count; t.co++) {
        for (t.ci = 0; t.ci < a->x_channels; t.ci += most) {
            t.lanes = tt_min(most, a->x_channels - t.ci);
            for (int32_t i = 0; i < t.lanes; i += 4) {
                const int32x4_t values = vldrbq_z_s32(x + t.ci + i, vctp32q((uint32_t)(t.lanes - i)));
                vstrwq_s32(w->sums + i, vmulq_n_s32(vsubq_n_s32(values, a->x_zero_point), gy[t.co]));
            }
            update_tile(w, &t, 0, 0);
        }
    }
}

TT_INNER_LOOP static void update_position(const work *w, int64_t *totals) {
    const tt_conv2d_weight_update_args *a = w->args;
    for (int32_t ci = 0; ci < a->x_channels; ci += INPUTS) {
        tile t = {ci, tt_min(INPUTS, a->x_channels - ci), 0, 0};
        for (; t.co < a->co_count; t.co += t.outputs) {
            t.outputs = tt_min(w->outputs, a->co_count - t.co);
            sum_tile(w, &t, totals);
            update_tile(w, &t, INPUTS, totals);
        }
    }
}

// The outputs that meet pixels at a kernel position; where rows follow one another, they are one row.
static tt_meeting meeting_of(const tt_window *win, int32_t ky, int32_t kx) {
    tt_meeting m = tt_meeting_of(win, ky, kx);
    if (win->stride_height * win->stride_width == 1 && m.columns == win->x_width && m.columns == win->y_width) {
        m.columns *= m.rows;
        m.rows = 1;
    }
    return m;
}

void tt_conv2d_weight_update_s16(const void *args) {
    const tt_conv2d_weight_update_args *a = args;
    const int32_t all = a->window.y_height * a->window.y_width;
    const int32_t wide = all > TT_WEIGHT_GRADIENT_CHUNK || a->update.total_shift != 0;  // sums need 64 bits
    const int32_t each = INPUTS * (wide ? 12 : 4), beyond = 16;  // bytes of an output; what a vector or alignment takes
    int32_t stack[INPUTS * FEWEST_OUTPUTS + 4];
    tt_clipping clipping = tt_clip_begin(&a->update);
    work w = {a, {0, 0, 0, 0}, 0, &clipping, stack, ((int32_t)sizeof stack - beyond) / each};
    if (a->scratch_bytes > (int32_t)sizeof stack) {
        w.sums = a->scratch;
        w.outputs = tt_min((a->scratch_bytes - beyond) / each, a->co_count);
    }
    const uintptr_t end = (uintptr_t)(w.sums + w.outputs * INPUTS + 2);
    int64_t *totals = wide ? (int64_t *)((end + 7) & ~(uintptr_t)7) : 0;
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, w.position++) {
            w.meeting = meeting_of(&a->window, ky, kx);
            if (w.meeting.rows == 1 && w.meeting.columns == 1 && !wide) {
                update_point(&w);
            } else {
                update_position(&w, totals);
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}
