// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_weight_update_s16, Helium: eight channels share one walk over the image. Several outputs for an
// input take the reference's way.
#include "tinytrain/gradients/depthwise_conv2d_weight_update.h"
#include "tinytrain/mve_update.h"

enum { EIGHT = 8 };

// Of the weights of eight channels at one kernel position: even and odd channels.
typedef struct products {
    int32x4_t even, odd;
} products;

// Adds the products of a row's pixels, at most TT_WEIGHT_GRADIENT_CHUNK.
static products add_row(products sums, const int8_t *x, int32_t x_step, const int16_t *gy, int32_t gy_step,
                        int32_t columns, int32_t zero_point, mve_pred16_t some) {
    for (; columns > 0; columns--, x += x_step, gy += gy_step) {
        const int16x8_t values = vsubq_n_s16(vldrbq_z_s16(x, some), (int16_t)zero_point), g = vldrhq_z_s16(gy, some);
        sums.even = vaddq_s32(sums.even, vmullbq_int_s16(values, g));
        sums.odd = vaddq_s32(sums.odd, vmulltq_int_s16(values, g));
    }
    return sums;
}

static void flush(products *sums, int64_t *totals) {
    int32_t lanes[EIGHT];
    vstrwq_s32(lanes, sums->even);
    vstrwq_s32(lanes + 4, sums->odd);
    for (int32_t i = 0; i < EIGHT; i++) { totals[i] += lanes[(i & 1) * 4 + i / 2]; }
    sums->even = sums->odd = vdupq_n_s32(0);
}

// Exact gradients of eight weights, of channels c, counted from the block's first, to c + count - 1.
TT_INNER_LOOP static void sum_eight(const tt_depthwise_conv2d_weight_update_args *a, const tt_meeting *m, int32_t c,
                                    int32_t count, int64_t *totals) {
    const mve_pred16_t some = vctp16q((uint32_t)count);
    const int32_t x_step = a->window.stride_width * a->x_channels, channel = a->start + c;
    products sums = {vdupq_n_s32(0), vdupq_n_s32(0)};
    int32_t room = TT_WEIGHT_GRADIENT_CHUNK;
    for (int32_t i = 0; i < EIGHT; i++) { totals[i] = 0; }
    for (int32_t row = 0; row < m->rows; row++) {
        const int32_t pixel = m->pixel + row * a->window.stride_height * a->window.x_width;
        const int8_t *x = a->x + pixel * a->x_channels + c;
        const int16_t *gy = (const int16_t *)a->gy + (m->output + row * a->window.y_width) * a->y_channels + channel;
        for (int32_t left = m->columns, part = 0; left > 0; left -= part, room -= part) {
            if (room == 0) {
                flush(&sums, totals);
                room = TT_WEIGHT_GRADIENT_CHUNK;
            }
            part = tt_min(left, room);
            sums = add_row(sums, x, x_step, gy, a->y_channels, part, a->x_zero_point, some);
            x += part * x_step, gy += part * a->y_channels;
        }
    }
    flush(&sums, totals);
}

TT_INNER_LOOP static void update(const tt_update *u, int32_t channel, uint32_t index, int32_t count,
                                 const int64_t *totals, tt_clipping *clipping) {
    if (tt_mve_updates_channels(u)) {
        int32_t sums[EIGHT];
        for (int32_t i = 0; i < EIGHT; i++) { sums[i] = tt_saturate32(tt_rounding_shift(totals[i], u->total_shift)); }
        tt_mve_update_channels(u, channel, index, count, sums);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        const tt_rate rate = tt_rate_of_channel(u, channel + i);
        tt_update_element(u, &rate, index + (uint32_t)i, tt_clipped(clipping, totals[i]));
    }
}

void tt_depthwise_conv2d_weight_update_s16(const void *args) {
    const tt_depthwise_conv2d_weight_update_args *a = args;
    if (a->channel_multiplier != 1) {
        tt_depthwise_conv2d_weight_update(a);
        return;
    }
    tt_clipping clipping = tt_clip_begin(&a->update);
    uint32_t index = 0;
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, index += (uint32_t)a->count) {
            const tt_meeting meeting = tt_meeting_of(&a->window, ky, kx);
            for (int32_t c = 0; c < a->count; c += EIGHT) {
                const int32_t count = tt_min(EIGHT, a->count - c);
                int64_t totals[EIGHT];
                sum_eight(a, &meeting, c, count, totals);
                update(&a->update, c, index + (uint32_t)c, count, totals, &clipping);
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}
