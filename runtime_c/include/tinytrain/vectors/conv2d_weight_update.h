// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update: neighbouring input channels of one output channel share each load of its gradient. Where
// there are too few of them, neighbouring output channels share each load of x. Of small images, x is laid out once in
// pairs of pixels for all output channels, four of which share each load of it.
#ifndef TINYTRAIN_VECTORS_CONV2D_WEIGHT_UPDATE_H
#define TINYTRAIN_VECTORS_CONV2D_WEIGHT_UPDATE_H

#include "tinytrain/fast_update.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/vectors/pairs.h"
#include "tinytrain/vectors/weight_gradient.h"

enum { ROWS = 4, MOST_PIXELS = TT_WEIGHT_GRADIENT_CHUNK };  // so many that sums fit 32 bits

typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_gradient_source source;
    tt_meeting meeting;  // of the kernel position
    int32_t position;    // ky * kernel width + kx
    tt_clipping *clipping;
} work;

TT_INNER_LOOP static void sum_vectors(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_INPUTS, sums, TT_VECTORS);
}

TT_INNER_LOOP static void sum_vector(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_INPUTS, sums, 1);
}

TT_INNER_LOOP static void sum_outputs(const work *w, int32_t ci, int32_t co, int64_t *sums) {
    tt_weight_gradients(&w->source, &w->meeting, ci, co, TT_OVER_OUTPUTS, sums, 1);
}

// The place of a weight in its block; co counts from the block's first.
static uint32_t index_of(const work *w, int32_t co, int32_t ci) {
    const int32_t positions = w->args->window.kernel_height * w->args->window.kernel_width;
    return (uint32_t)((co * positions + w->position) * w->args->x_channels + ci);
}

static inline void update(const work *w, const tt_fast_rate *rate, uint32_t index, int64_t sum) {
    if (rate->right != 0) {
        tt_fast_update(&w->args->update, rate, index, (int32_t)sum);
    } else {
        tt_update_element(&w->args->update, &rate->rate, index, tt_clipped(w->clipping, sum));
    }
}

static void update_inputs(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    for (int32_t co = 0; co < a->co_count; co++) {
        const tt_fast_rate rate = tt_fast_rate_of(&a->update, co);
        for (int32_t done = 0; done < a->x_channels;) {
            const tt_tile tile = tt_next_tile(done, a->x_channels);
            const uint32_t first = index_of(w, co, tile.start);
            int64_t sums[TT_LANES];
            if (tile.lanes == TT_LANES) {
                sum_vectors(w, tile.start, a->co_start + co, sums);
            } else {
                sum_vector(w, tile.start, a->co_start + co, sums);
            }
            for (int32_t i = tile.known; i < tile.lanes; i++) { update(w, &rate, first + (uint32_t)i, sums[i]); }
            done = tile.start + tile.lanes;
        }
    }
}

// Of a small meeting: its x for a tile of input channels, and gradients of ROWS output channels.
typedef struct small {
    int32_t count;                                      // of pixels
    int32_t x_at[MOST_PIXELS + 1], gy_at[MOST_PIXELS];  // where they are in both images; x has an even number
    int16_t x[MOST_PIXELS / 2 * TT_VECTORS * TT_PAIRS];  // [pairs of pixels, vectors, TT_PAIRS], as it is
    int32_t gy[MOST_PIXELS / 2 * ROWS];                  // [pairs of pixels, ROWS], two int16 each
} small;

static void find_pixels(const work *w, small *s) {
    const tt_conv2d_weight_update_args *a = w->args;
    const tt_window *win = &a->window;
    s->count = 0;
    for (int32_t row = 0; row < w->meeting.rows; row++) {
        const int32_t pixel = w->meeting.pixel + row * win->stride_height * win->x_width;
        const int32_t output = w->meeting.output + row * win->y_width;
        for (int32_t i = 0; i < w->meeting.columns; i++, s->count++) {
            s->x_at[s->count] = (pixel + i * win->stride_width) * a->x_channels;
            s->gy_at[s->count] = (output + i) * a->y_channels;
        }
    }
    s->x_at[s->count] = 0;  // any pixel: its gradient is 0
}

static void pack_inputs(const work *w, int32_t ci, int32_t vectors, small *s) {
    const int8_t *x = w->args->x + ci;
    int16_t *to = s->x;
    for (int32_t p = 0; p < s->count; p += 2) {
        for (int32_t i = 0; i < vectors * TT_VECTOR_LANES; i += TT_VECTOR_LANES, to += TT_PAIRS) {
            tt_store_pairs(tt_zip_s8(x + s->x_at[p] + i, x + s->x_at[p + 1] + i), to);
        }
    }
}

// Gradients of output channels co..co + rows - 1 of the block, in pairs; totals: their sums.
TT_ALWAYS_INLINE static inline void pack_gradients(const work *w, small *s, int32_t co, int32_t rows,
                                                   int32_t *totals) {
    static const tt_mantissa none[ROWS] = {0};
    const tt_mantissa *gy = (const tt_mantissa *)w->args->gy + w->args->co_start + co;
    int32_t *to = s->gy;
    TT_EACH_VECTOR(r, rows) { totals[r] = 0; }
    for (int32_t p = 0; p < s->count; p += 2, to += rows) {
        const tt_mantissa *first = gy + s->gy_at[p], *second = p + 1 < s->count ? gy + s->gy_at[p + 1] : none;
        TT_EACH_VECTOR(r, rows) {
            to[r] = (int32_t)((uint16_t)first[r] | (uint32_t)second[r] << 16);
            totals[r] += first[r] + second[r];
        }
    }
}

// Their sums, [rows, vectors, lanes].
TT_ALWAYS_INLINE static inline void sum_pairs(const work *w, small *s, int32_t co, int32_t rows, int32_t vectors,
                                              int32_t *sums) {
    int32_t totals[ROWS];
    tt_vector parts[ROWS * TT_VECTORS];
    pack_gradients(w, s, co, rows, totals);
    TT_EACH_VECTOR(r, rows) {
        TT_EACH_VECTOR(v, vectors) { parts[r * vectors + v] = tt_vector_of(-w->args->x_zero_point * totals[r]); }
    }
    const int16_t *x = s->x;
    const int32_t *gy = s->gy;
    for (int32_t p = 0; p < s->count; p += 2, x += vectors * TT_PAIRS, gy += rows) {
        TT_EACH_VECTOR(r, rows) {
            const tt_pairs gradients = tt_pairs_of(gy[r]);
            TT_EACH_VECTOR(v, vectors) {
                const int32_t i = r * vectors + v;
                parts[i] = tt_add_pairs(parts[i], tt_load_pairs(x + v * TT_PAIRS), gradients);
            }
        }
    }
    TT_EACH_VECTOR(r, rows) {
        TT_EACH_VECTOR(v, vectors) {
            const int32_t i = r * vectors + v;
            tt_store(parts[i], sums + i * TT_VECTOR_LANES);
        }
    }
}

TT_INNER_LOOP static void sum_rows(const work *w, small *s, int32_t co, int32_t rows, int32_t lanes, int32_t *sums) {
    if (lanes == TT_LANES) {
        if (rows == ROWS) {
            sum_pairs(w, s, co, ROWS, TT_VECTORS, sums);
        } else {
            sum_pairs(w, s, co, 1, TT_VECTORS, sums);
        }
    } else if (rows == ROWS) {
        sum_pairs(w, s, co, ROWS, 1, sums);
    } else {
        sum_pairs(w, s, co, 1, 1, sums);
    }
}

static void update_small(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    small s;
    find_pixels(w, &s);
    for (int32_t done = 0; done < a->x_channels;) {
        const tt_tile tile = tt_next_tile(done, a->x_channels);
        pack_inputs(w, tile.start, tile.lanes / TT_VECTOR_LANES, &s);
        for (int32_t co = 0, rows = 0; co < a->co_count; co += rows) {
            int32_t sums[ROWS * TT_LANES];
            rows = a->co_count - co >= ROWS ? ROWS : 1;
            sum_rows(w, &s, co, rows, tile.lanes, sums);
            for (int32_t r = 0; r < rows; r++) {
                const tt_fast_rate rate = tt_fast_rate_of(&a->update, co + r);
                const uint32_t first = index_of(w, co + r, tile.start);
                const int32_t *totals = sums + r * tile.lanes;
                for (int32_t i = tile.known; i < tile.lanes; i++) { update(w, &rate, first + (uint32_t)i, totals[i]); }
            }
        }
        done = tile.start + tile.lanes;
    }
}

// For fewer than TT_VECTOR_LANES input channels.
static void update_outputs(const work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    for (int32_t co = 0, lanes = 0; co < a->co_count; co += lanes) {
        tt_fast_rate rates[TT_VECTOR_LANES];
        lanes = a->co_count - co >= TT_VECTOR_LANES ? TT_VECTOR_LANES : 1;
        for (int32_t i = 0; i < lanes; i++) { rates[i] = tt_fast_rate_of(&a->update, co + i); }
        for (int32_t ci = 0; ci < a->x_channels; ci++) {
            int64_t sums[TT_VECTOR_LANES];
            if (TT_VECTOR_LANES > 1 && lanes == TT_VECTOR_LANES) {
                sum_outputs(w, ci, a->co_start + co, sums);
            } else {
                sums[0] = tt_weight_gradient(&w->source, &w->meeting, ci, a->co_start + co);
            }
            for (int32_t i = 0; i < lanes; i++) { update(w, &rates[i], index_of(w, co + i, ci), sums[i]); }
        }
    }
}

static inline void tt_conv2d_weight_update(const tt_conv2d_weight_update_args *a) {
    tt_clipping clipping = tt_clip_begin(&a->update);
    work w = {a, {a->x, a->gy, &a->window, a->x_zero_point, a->x_channels, a->y_channels}, {0, 0, 0, 0}, 0, &clipping};
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, w.position++) {
            w.meeting = tt_meeting_of(&a->window, ky, kx);
            if (TT_VECTOR_LANES == 1 || a->x_channels >= TT_VECTOR_LANES) {
                if (w.meeting.rows * w.meeting.columns <= MOST_PIXELS) {
                    update_small(&w);
                } else {
                    update_inputs(&w);
                }
            } else {
                update_outputs(&w);
            }
        }
    }
    tt_clip_end(&a->update, &clipping);
}

#endif
