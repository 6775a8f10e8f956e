// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient: for each pixel of x, the scaled gradients of all outputs it took part in are gathered
// once; then four input channels share each load of them.
#ifndef TINYTRAIN_GRADIENTS_CONV2D_INPUT_GRADIENT_H
#define TINYTRAIN_GRADIENTS_CONV2D_INPUT_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/window.h"

// 256 products of a scaled gradient (int16) and an int8 weight fit 31 bits and a sign.
enum { CHUNK = 256 };

// scratch[k, co] = gy * factor of the output that sees pixel (py, px) at kernel position k, or zero.
static inline void gather(const tt_conv2d_input_gradient_args *a, int32_t py, int32_t px) {
    const tt_window *win = &a->window;
    int16_t *out = a->scratch;
    for (int32_t ky = 0; ky < win->kernel_height; ky++) {
        for (int32_t kx = 0; kx < win->kernel_width; kx++) {
            const int32_t sy = py + win->pad_top - ky, sx = px + win->pad_left - kx;
            const int32_t oy = sy / win->stride_height, ox = sx / win->stride_width;
            const int seen = sy >= 0 && sx >= 0 && oy * win->stride_height == sy && ox * win->stride_width == sx &&
                             oy < win->y_height && ox < win->y_width;
            const tt_mantissa *gy = (const tt_mantissa *)a->gy + (seen ? (oy * win->y_width + ox) * a->y_channels : 0);
            for (int32_t co = 0; co < a->y_channels; co++) {
                *out++ = seen ? (int16_t)tt_scaled_gradient(gy[co], a->factors[co]) : 0;
            }
        }
    }
}

// Sums of four (or one) neighbouring input channels of a block over all its outputs and kernel positions.
static inline void sum_channels(const tt_conv2d_input_gradient_args *a, const tt_weight_block *block, int32_t ci,
                         int32_t lanes, int64_t *sums) {
    const int32_t positions = a->window.kernel_height * a->window.kernel_width;
    for (int32_t k = 0; k < positions; k++) {
        const int16_t *g = a->scratch + k * a->y_channels + block->co_start;
        const int8_t *w = block->weights + k * block->ci_count + ci;
        const int32_t step = positions * block->ci_count;
        for (int32_t start = 0; start < block->co_count; start += CHUNK) {
            const int32_t end = tt_min(start + CHUNK, block->co_count);
            int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
            if (lanes == 4) {
                for (int32_t co = start; co < end; co++, w += step) {
                    const int32_t value = g[co];
                    s0 += value * w[0];
                    s1 += value * w[1];
                    s2 += value * w[2];
                    s3 += value * w[3];
                }
                sums[1] += s1, sums[2] += s2, sums[3] += s3;
            } else {
                for (int32_t co = start; co < end; co++, w += step) { s0 += g[co] * w[0]; }
            }
            sums[0] += s0;
        }
    }
}

// Blocks that share input channels but not outputs add up, so channels are walked in pieces no block edge crosses.
static inline int32_t lanes_together(const tt_conv2d_input_gradient_args *a, int32_t ci) {
    int32_t lanes = a->x_channels - ci >= 4 ? 4 : 1;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        const int32_t start = block->ci_start, end = block->ci_start + block->ci_count;
        if ((start > ci && start < ci + lanes) || (end > ci && end < ci + lanes)) { lanes = 1; }
    }
    return lanes;
}

static inline void tt_conv2d_input_gradient(const tt_conv2d_input_gradient_args *a) {
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    const tt_rounding rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    uint64_t largest = 0;
    tt_mantissa *gx = a->gx;
    int32_t index = 0;
    for (int32_t py = 0; py < a->window.x_height; py++) {
        for (int32_t px = 0; px < a->window.x_width; px++) {
            gather(a, py, px);
            for (int32_t ci = 0, lanes = 0; ci < a->x_channels; ci += lanes) {
                int64_t sums[4] = {0, 0, 0, 0};
                lanes = lanes_together(a, ci);
                for (int32_t i = 0; i < a->block_count; i++) {
                    const tt_weight_block *block = &a->blocks[i];
                    if (ci >= block->ci_start && ci < block->ci_start + block->ci_count) {
                        sum_channels(a, block, ci - block->ci_start, lanes, sums);
                    }
                }
                for (int32_t lane = 0; lane < lanes; lane++) {
                    const uint64_t magnitude = tt_magnitude(sums[lane]);
                    if (magnitude > largest) { largest = magnitude; }
                    gx[index] = tt_to_mantissa(&rounding, sums[lane], index);
                    index++;
                }
            }
        }
    }
    tt_exponent_end(a->gx_exponent, largest, sums_exponent);
}

#endif
