// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_input_gradient for a scalar core: channel by channel, on a plane of gy in scratch
// (tinytrain/plane.h), four neighbouring pixels of x at a time. With strides, the pixels whose outputs meet the same
// weights are a phase: pixel p lies at q * stride + phase of the padded image and is the sum over t of
// gy[q - t] * w[phase + t * stride]. Where there is no room for a plane, or an input channel has several outputs, it
// goes pixel by pixel.
#ifndef TINYTRAIN_PORTABLE_DEPTHWISE_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_PORTABLE_DEPTHWISE_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradients/depthwise_conv2d_input_gradient.h"
#include "tinytrain/plane.h"
#include "tinytrain/portable.h"

// One axis: pixels first, first + stride, ... (`count` of them) see outputs q, q + 1, ... through `terms` weights.
typedef struct tt_plane_axis {
    int32_t phase, first, count, q, terms;
} tt_plane_axis;

typedef struct tt_plane_work {
    const tt_depthwise_conv2d_input_gradient_args *args;
    tt_plane plane;
    int8_t *packed;     // weights of one channel and phase, in the order of outputs
    tt_rounding rounding;
    uint64_t largest;   // magnitude
} tt_plane_work;

static tt_plane_axis tt_plane_axis_of(int32_t phase, int32_t stride, int32_t pad, int32_t kernel, int32_t size) {
    tt_plane_axis result = {phase, 0, 0, 0, 0};
    result.first = (phase + stride - pad % stride) % stride;  // first + pad leaves `phase` over
    result.q = (result.first + pad) / stride;
    if (result.first < size) { result.count = (size - 1 - result.first) / stride + 1; }
    if (phase < kernel) { result.terms = (kernel - 1 - phase) / stride + 1; }
    return result;
}

static void tt_fill_plane(const tt_plane_work *k, int32_t channel) {
    const tt_depthwise_conv2d_input_gradient_args *a = k->args;
    const tt_shown shown = tt_shown_of(&k->plane, a->window.y_height, a->window.y_width);
    const tt_mantissa *gy = (const tt_mantissa *)a->gy + shown.start * a->y_channels + channel;
    int16_t *to = k->plane.at + shown.row * k->plane.step + shown.column;
    for (int32_t row = 0; row < shown.rows; row++, gy += a->window.y_width * a->y_channels, to += k->plane.step) {
        const tt_mantissa *from = gy;
#pragma GCC unroll 4
        for (int32_t i = 0; i < shown.columns; i++, from += a->y_channels) { to[i] = *from; }
    }
}

static void tt_pack_phase(const tt_plane_work *k, const tt_depthwise_block *block, int32_t c,
                          const tt_plane_axis *rows, const tt_plane_axis *columns) {
    const tt_window *win = &k->args->window;
    int8_t *to = k->packed;
    for (int32_t ty = rows->terms - 1; ty >= 0; ty--) {
        for (int32_t tx = columns->terms - 1; tx >= 0; tx--) {
            const int32_t ky = rows->phase + ty * win->stride_height, kx = columns->phase + tx * win->stride_width;
            *to++ = block->weights[(ky * win->kernel_width + kx) * block->count + c];
        }
    }
}

// A sum times the factor. For 16 bits the factor comes as a multiplier that makes the mantissa of the upper word.
static inline tt_mantissa tt_plane_mantissa(const tt_rounding *rounding, int32_t sum, int32_t factor, int32_t index) {
#if TT_GRADIENT_BITS == 8
    return tt_to_mantissa(rounding, (int64_t)sum * factor, index);
#else
    (void)rounding, (void)index;
    return (int16_t)tt_clamp16(tt_rounded_upper(sum, factor));
#endif
}

static int32_t tt_plane_multiplier(const tt_plane_work *k, int32_t factor) {
    return TT_GRADIENT_BITS == 8 ? factor : factor << (32 - k->rounding.right);
}

static int tt_plane_fits(int32_t right) { return TT_GRADIENT_BITS == 8 || (right >= 17 && right <= 32); }

// All pixels of a phase.
TT_INNER_LOOP static void tt_store_phase(tt_plane_work *k, int32_t channel, const tt_plane_axis *rows,
                                         const tt_plane_axis *columns) {
    const tt_depthwise_conv2d_input_gradient_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t next = win->stride_width * a->x_channels;
    const int32_t first = (rows->first * win->x_width + columns->first) * a->x_channels + channel;
    const int32_t top = rows->q - rows->terms + 1 - k->plane.top;
    const int32_t left = columns->q - columns->terms + 1 - k->plane.left;
    const int32_t multiplier = tt_plane_multiplier(k, a->factors[channel]);
    const tt_rounding rounding = k->rounding;
    tt_mantissa *gx = a->gx;
    int32_t row_index = first;
    const int16_t *g_row = k->plane.at + top * k->plane.step + left;
    uint32_t largest = 0;
    for (int32_t row = 0; row < rows->count; row++) {
        const int16_t *g = g_row;
        int32_t index = row_index;
        for (int32_t rest = columns->count; rest > 0; rest -= TT_PLANE_OUTPUTS) {
            int32_t sums[TT_PLANE_OUTPUTS] = {0, 0, 0, 0};
            tt_add_any_windows(g, k->plane.step, k->packed, rows->terms, columns->terms, 1, sums);
            const int32_t count = tt_min(rest, TT_PLANE_OUTPUTS);
            for (int32_t i = 0; i < count; i++, index += next) {
                tt_see(&largest, sums[i]);
                gx[index] = tt_plane_mantissa(&rounding, sums[i], multiplier, index);
            }
            g += TT_PLANE_OUTPUTS;
        }
        g_row += k->plane.step, row_index += win->stride_height * win->x_width * a->x_channels;
    }
    const uint64_t magnitude = (uint64_t)largest * (uint32_t)a->factors[channel];
    if (magnitude > k->largest) { k->largest = magnitude; }
}

TT_INNER_LOOP static void tt_store_plane_channel(tt_plane_work *k, const tt_depthwise_block *block, int32_t c) {
    const tt_depthwise_conv2d_input_gradient_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t channel = block->start + c;
    tt_fill_plane(k, channel);
    for (int32_t py = 0; py < win->stride_height; py++) {
        const tt_plane_axis rows =
            tt_plane_axis_of(py, win->stride_height, win->pad_top, win->kernel_height, win->x_height);
        for (int32_t px = 0; px < win->stride_width; px++) {
            const tt_plane_axis columns =
                tt_plane_axis_of(px, win->stride_width, win->pad_left, win->kernel_width, win->x_width);
            tt_pack_phase(k, block, c, &rows, &columns);
            tt_store_phase(k, channel, &rows, &columns);
        }
    }
}

// A plane that holds what all phases read, whole groups of columns; 0 where there is no room.
static int tt_place_plane(tt_plane_work *k, int16_t *small, int32_t small_bytes) {
    const tt_depthwise_conv2d_input_gradient_args *a = k->args;
    const tt_window *win = &a->window;
    const int32_t most_rows = (win->kernel_height - 1) / win->stride_height + 1;
    const int32_t most_columns = (win->kernel_width - 1) / win->stride_width + 1;
    const int32_t top = win->pad_top / win->stride_height, left = win->pad_left / win->stride_width;
    const int32_t pixels = (win->x_width + win->stride_width - 1) / win->stride_width;
    const int32_t groups = (pixels + TT_PLANE_OUTPUTS - 1) / TT_PLANE_OUTPUTS;
    k->plane.top = top - most_rows + 1, k->plane.left = left - most_columns + 1;
    k->plane.rows = (win->x_height - 1 + win->pad_top) / win->stride_height - top + most_rows;
    k->plane.step = groups * TT_PLANE_OUTPUTS + most_columns;
    const int32_t elements = k->plane.rows * k->plane.step, bytes = 2 * elements + most_rows * most_columns;
    k->plane.at = bytes <= a->scratch_bytes ? a->scratch : small;
    k->packed = (int8_t *)(k->plane.at + elements);
    return bytes <= tt_max(a->scratch_bytes, small_bytes);
}

TT_INNER_LOOP static void tt_pixel_by_pixel(const tt_plane_work *k, int32_t sums_exponent) {
    tt_depthwise_input_gradients(k->args, &k->rounding, sums_exponent);
}

// `rounding`: what tt_gradient_begin said.
static inline void tt_portable_depthwise_input_gradient(const tt_depthwise_conv2d_input_gradient_args *a,
                                                        const tt_rounding *rounding, int32_t sums_exponent) {
    int16_t small[TT_PLANE_ON_STACK];
    tt_plane_work k = {.args = a, .rounding = *rounding};
    const int planes = a->channel_multiplier == 1 && tt_plane_fits(rounding->right);
    if (!planes || !tt_place_plane(&k, small, (int32_t)sizeof small)) {
        tt_pixel_by_pixel(&k, sums_exponent);
        return;
    }
    tt_clear_plane(&k.plane);  // what is outside the image stays 0
    for (int32_t i = 0; i < a->block_count; i++) {
        for (int32_t c = 0; c < a->blocks[i].count; c++) { tt_store_plane_channel(&k, &a->blocks[i], c); }
    }
    tt_exponent_end(a->gx_exponent, k.largest, sums_exponent);
}

#endif
