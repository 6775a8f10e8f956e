// SPDX-License-Identifier: Apache-2.0
// tt_bias_update_s16, Helium: sixteen channels share one walk over the pixels, four change at a time.
#include "tinytrain/gradients/bias_update.h"
#include "tinytrain/mve_update.h"

// 65535 mantissas fit 31 bits and a sign.
enum { SIXTEEN = 16, MOST_PIXELS = 65535 };

static void sum_sixteen(const int16_t *gy, int32_t step, int32_t pixels, int32_t *sums) {
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0;
    for (; pixels > 0; pixels--, gy += step) {
        s0 = vaddq_s32(s0, vldrhq_s32(gy));
        s1 = vaddq_s32(s1, vldrhq_s32(gy + 4));
        s2 = vaddq_s32(s2, vldrhq_s32(gy + 8));
        s3 = vaddq_s32(s3, vldrhq_s32(gy + 12));
    }
    vstrwq_s32(sums, s0);
    vstrwq_s32(sums + 4, s1);
    vstrwq_s32(sums + 8, s2);
    vstrwq_s32(sums + 12, s3);
}

// At most four channels.
static void sum_few(const int16_t *gy, int32_t step, int32_t pixels, int32_t *sums, int32_t count) {
    const mve_pred16_t some = vctp32q((uint32_t)count);
    int32x4_t s = vdupq_n_s32(0);
    for (; pixels > 0; pixels--, gy += step) { s = vaddq_s32(s, vldrhq_z_s32(gy, some)); }
    vstrwq_s32(sums, s);
}

// Changes `count` channels from c on.
TT_INNER_LOOP static void update(const tt_update *u, int32_t c, int32_t count, const int32_t *sums,
                                 tt_clipping *clipping) {
    if (tt_mve_updates_channels(u)) {
        tt_mve_update_channels(u, c, (uint32_t)c, count, sums);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        const tt_rate rate = tt_rate_of_channel(u, c + i);
        tt_update_element(u, &rate, (uint32_t)(c + i), tt_clipped(clipping, sums[i]));
    }
}

void tt_bias_update_s16(const void *args) {
    const tt_bias_update_args *a = args;
    if (a->pixels > MOST_PIXELS) {
        tt_bias_update(a);
        return;
    }
    tt_clipping clipping = tt_clip_begin(&a->update);
    int32_t sums[SIXTEEN];
    for (int32_t c = 0, done = 0; c < a->channels; c += done) {
        const int16_t *gy = (const int16_t *)a->gy + c;
        if (a->channels - c >= SIXTEEN) {
            done = SIXTEEN;
            sum_sixteen(gy, a->channels, a->pixels, sums);
        } else {
            done = tt_min(4, a->channels - c);
            sum_few(gy, a->channels, a->pixels, sums, done);
        }
        update(&a->update, c, done, sums, &clipping);
    }
    tt_clip_end(&a->update, &clipping);
}
