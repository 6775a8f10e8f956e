// SPDX-License-Identifier: Apache-2.0
// tt_classifier_s16: two classes at a time share the inputs, four of which become pairs in the order of their weights.
#include "tinytrain/kernels/classifier.h"
#include "tinytrain/arithmetic.h"
#include "tinytrain/dsp.h"

enum { CLASSES = 2, INPUTS = 4 };

static inline uint32_t pair_at(const int16_t *from) {
    uint32_t pair;
    memcpy(&pair, from, sizeof pair);
    return pair;
}

static inline int64_t add_both(uint32_t x, uint32_t w, int64_t sum) {
    return __smlald((int16x2_t)x, (int16x2_t)w, sum);
}

// Adds the products of both classes.
TT_INNER_LOOP static void add_products(const tt_classifier_s16_args *a, const int16_t *w0, const int16_t *w1,
                                       int64_t *totals) {
    const uint32_t minus_zero = tt_pair_of(-a->x_zero_point);
    const int8_t *x = a->x, *end = x + a->inputs;
    int64_t total0 = totals[0], total1 = totals[1];
    for (const int8_t *last = end - a->inputs % INPUTS; x != last; x += INPUTS, w0 += INPUTS, w1 += INPUTS) {
        const uint32_t bytes = tt_load_bytes(x);
        const uint32_t even = tt_add_even_pair(minus_zero, bytes), odd = tt_add_odd_pair(minus_zero, bytes);
        const uint32_t first = tt_firsts(even, odd), second = tt_seconds(even, odd);
        total0 = add_both(second, pair_at(w0 + 2), add_both(first, pair_at(w0), total0));
        total1 = add_both(second, pair_at(w1 + 2), add_both(first, pair_at(w1), total1));
    }
    for (; x != end; x++, w0++, w1++) {
        const int32_t value = *x - a->x_zero_point;
        total0 += value * *w0;
        total1 += value * *w1;
    }
    totals[0] = total0;
    totals[1] = total1;
}

// A class that is left over is taken twice.
void tt_classifier_s16(const void *args) {
    const tt_classifier_s16_args *a = args;
    const int16_t *w = a->weights;
    for (int32_t n = 0; n < a->classes; n += CLASSES, w += CLASSES * a->inputs) {
        const int32_t last = tt_min(n + 1, a->classes - 1);
        int64_t totals[CLASSES] = {a->bias[n], a->bias[last]};
        add_products(a, w, w + (last - n) * a->inputs, totals);
        for (int32_t i = n; i <= last; i++) {
            const int64_t reduced = tt_rounding_shift(totals[i - n], a->total_shift);
            a->y[i] = tt_saturate32(tt_rounding_shift(reduced * a->multiplier[i], 31 - a->shift[i] - a->total_shift));
        }
    }
}
