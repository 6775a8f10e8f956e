// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_input_gradient_s16 as a product of matrices: pixels of x by input channels, summed over kernel positions
// and output channels. Scaled gradients of a tile of pixels and the weights of four input channels are packed into
// scratch as pairs of output channels; then 4 pixels x 2 input channels take one pass of SMLAD.
//
// With strides, pixels go by phases: those of one phase meet the same kernel positions, and no others.
// Where scratch does not hold the pairs of a whole sum, sums are cut into chunks that are packed again for each tile.
#define TT_COLUMN_WORDS 4  // of four input channels
#include "tinytrain/dsp_gradient.h"
#include "tinytrain/kernels/conv2d.h"

enum {
    TILE_CHANNELS = 4,                // input channels that are packed at a time
    QUAD_PLACES = 4 * TT_DOT_ROWS,    // bytes behind a quad's pairs: where its pixels lie in gx
    QUAD_PAIR = 4 * TT_DOT_ROWS,      // bytes of one pair of output channels of four pixels
    TILE_PAIR = 4 * TILE_CHANNELS,
    FITTING_PAIRS = 254,              // 508 products of a scaled gradient and a weight fit 31 bits and a sign
    LARGEST_FACTORS = (1 << 24) - 1,  // and so do sums of any length, where the factors in them add up to no more
};

// Pixels (first_y + i stride, first_x + j stride) and the kernel positions they meet: position (iy, ix) sees output
// (base_y + i - iy, base_x + j - ix) with weight (first_ky + iy stride, first_kx + ix stride).
typedef struct phase {
    int32_t first_y, first_x, columns, pixels;
    int32_t first_ky, first_kx, position_rows, position_columns;
    int32_t base_y, base_x;
} phase;

typedef struct work {
    const tt_conv2d_input_gradient_args *args;
    uint32_t *gradients, *weights;  // packed
    int32_t channels;               // output channels, rounded up to whole steps of the inner loop
    int32_t fitting;                // pairs of a 32-bit sum
    phase phase;
    tt_rounding rounding;
    int32_t scale;                  // 2^(32 - right), or 0 where that is no factor
    tt_watch watch;
} work;

// Input channels that are worked on together.
typedef struct lanes {
    int32_t ci, count;
} lanes;

// --- packing ---

static uint32_t scaled_pair(uint32_t gy, int32_t first, int32_t second) {
    // factors of 15 fractional bits, << 2: the word above 2^16 keeps one more bit than the result, to round by
    const int32_t low = __smlawb(first * 4, (int32_t)gy, 1), high = __smlawt(second * 4, (int32_t)gy, 1);
    uint32_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #15" : "=r"(pair) : "r"(low >> 1), "r"(high));
    return pair;
}

// Channels first..last - 1 of one pixel's output, to every fourth word; `first` is even.
static void scale_one(const work *w, const int16_t *gy, int32_t first, int32_t last, uint32_t *out) {
    const int32_t *factors = w->args->factors, end = tt_min(last, w->args->y_channels);
    int32_t co = first;
    for (; gy != 0 && co + 1 < end; co += 2, out += TT_DOT_ROWS) {
        *out = scaled_pair(tt_load_bytes(gy + co), factors[co], factors[co + 1]);
    }
    for (; co < last; co += 2, out += TT_DOT_ROWS) {
        *out = gy != 0 && co < end ? scaled_pair((uint32_t)gy[co], factors[co], 0) : 0;
    }
}

// The same for four pixels; `last` is at most the number of channels, and even.
static void scale_four(const work *w, const int16_t *const *gy, int32_t first, int32_t last, uint32_t *out) {
    const int16_t *g0 = gy[0] + first, *g1 = gy[1] + first, *g2 = gy[2] + first, *g3 = gy[3] + first;
    const uint32_t *factors = (const uint32_t *)w->args->factors + first;
    for (int32_t pairs = (last - first) / 2; pairs > 0; pairs--) {
        uint32_t both[2];
        tt_take_two(&factors, &both[0], &both[1]);
        const int32_t even = (int32_t)both[0], odd = (int32_t)both[1];
        tt_put_two(&out, scaled_pair(tt_load_bytes(g0), even, odd), scaled_pair(tt_load_bytes(g1), even, odd));
        tt_put_two(&out, scaled_pair(tt_load_bytes(g2), even, odd), scaled_pair(tt_load_bytes(g3), even, odd));
        g0 += 2, g1 += 2, g2 += 2, g3 += 2;
    }
}

// Pixel n of the phase: where it lies in gx, in bytes. Beyond the last pixel it is repeated, all the way into gx.
static uint32_t place_of(const work *w, int32_t n) {
    const tt_window *win = &w->args->window;
    const phase *p = &w->phase;
    const int32_t held = tt_min(n, p->pixels - 1), i = held / p->columns, j = held - i * p->columns;
    const int32_t py = p->first_y + i * win->stride_height, px = p->first_x + j * win->stride_width;
    return (uint32_t)((py * win->x_width + px) * w->args->x_channels) * sizeof(int16_t);
}

static const int16_t *gradient_of(const work *w, int32_t n, int32_t iy, int32_t ix) {
    const tt_conv2d_input_gradient_args *a = w->args;
    const phase *p = &w->phase;
    const int32_t held = tt_min(n, p->pixels - 1), i = held / p->columns, j = held - i * p->columns;
    const int32_t oy = p->base_y + i - iy, ox = p->base_x + j - ix;
    if (oy < 0 || oy >= a->window.y_height || ox < 0 || ox >= a->window.y_width) { return 0; }
    return (const int16_t *)a->gy + (oy * a->window.y_width + ox) * a->y_channels;
}

// Scaled gradients of pixels n..n + 3 at a kernel position, output channels first..last - 1, both multiples of 4.
TT_INNER_LOOP static void pack_gradients(const work *w, int32_t n, int32_t position, int32_t first, int32_t last,
                                         uint32_t *out) {
    const int32_t iy = position / w->phase.position_columns, ix = position - iy * w->phase.position_columns;
    const int16_t *gy[TT_DOT_ROWS];
    int32_t known = 0;
    for (int32_t r = 0; r < TT_DOT_ROWS; r++) {
        gy[r] = gradient_of(w, n + r, iy, ix);
        known += gy[r] != 0 ? 1 : 0;
    }
    const int32_t even = known == TT_DOT_ROWS ? tt_max(first, tt_min(last, w->args->y_channels & ~1)) : first;
    if (even > first) { scale_four(w, gy, first, even, out); }
    for (int32_t r = 0; even < last && r < TT_DOT_ROWS; r++) {
        scale_one(w, gy[r], even, last, out + TT_DOT_ROWS / 2 * (even - first) + r);
    }
}

// Pairs of four input channels' weights: those of two output channels.
#define PACK_PAIR(first, second)          \
    "ldr    r2, " first "\n\t"            \
    "ldr    r3, " second "\n\t"           \
    "pkhbt  r4, r2, r3, lsl #16\n\t"      \
    "pkhtb  r5, r3, r2, asr #16\n\t"      \
    "sxtb16 r2, r4\n\t"                   \
    "sxtb16 r3, r4, ror #8\n\t"           \
    "sxtb16 r4, r5\n\t"                   \
    "sxtb16 r5, r5, ror #8\n\t"           \
    "stm    %[out]!, {r2, r3, r4, r5}\n\t"

#define PACK_TWO_PAIRS                                           \
    PACK_PAIR("[%[w]]", "[%[w], %[step]]")                       \
    PACK_PAIR("[%[w], %[step], lsl #1]", "[%[w], %[three]]")     \
    "add    %[w], %[w], %[step], lsl #2\n\t"

// Weights of four input channels; output channels, `step` bytes apart, in pairs.
static void pack_pairs(const int8_t *weights, int32_t step, int32_t pairs, uint32_t *out) {
    const int32_t three = 3 * step;
    for (const uint32_t *const end = out + TILE_CHANNELS * (pairs & ~3); out != end;) {
        __asm__ volatile(PACK_TWO_PAIRS PACK_TWO_PAIRS : [w] "+r"(weights), [out] "+r"(out)
                         : [step] "r"(step), [three] "r"(three) : "r2", "r3", "r4", "r5", "memory");
    }
    for (pairs &= 3; pairs > 0; pairs--, weights += 2 * step) {
        __asm__ volatile(PACK_PAIR("[%[w]]", "[%[w], %[step]]") : [out] "+r"(out)
                         : [w] "r"(weights), [step] "r"(step) : "r2", "r3", "r4", "r5", "memory");
    }
}

// The same of input channels 0 and 1 alone.
static void pack_pairs_of_two(const int8_t *weights, int32_t step, int32_t pairs, uint32_t *out) {
    for (; pairs > 0; pairs--, weights += 2 * step, out += TILE_CHANNELS) {
        const uint32_t both = tt_firsts(tt_half_at(weights), tt_half_at(weights + step));
        out[0] = tt_even_pair(both), out[1] = tt_odd_pair(both);
    }
}

// The same of one output channel: the first or second of the pairs at out.
static void pack_one(const int8_t *weights, int32_t lanes, int32_t second, uint32_t *out) {
    for (int32_t lane = 0; lane < lanes; lane++) {
        const int16_t weight = weights[lane];
        memcpy((char *)(out + lane) + 2 * second, &weight, sizeof weight);
    }
}

// Weights of 4, 2 or 1 input channels from ci on, which lie in the same blocks, at a kernel position; output channels
// first..last - 1, both multiples of 4. What is beyond y_channels stays as it is: the gradients there are 0.
TT_INNER_LOOP static void pack_weights(const work *w, const lanes *next, int32_t position, int32_t first, int32_t last,
                                       uint32_t *out) {
    const int32_t ci = next->ci, lanes = next->count;
    const tt_conv2d_input_gradient_args *a = w->args;
    const tt_window *win = &a->window;
    const int32_t iy = position / w->phase.position_columns, ix = position - iy * w->phase.position_columns;
    const int32_t ky = w->phase.first_ky + iy * win->stride_height, kx = w->phase.first_kx + ix * win->stride_width;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_weight_block *block = &a->blocks[i];
        if (ci < block->ci_start || ci >= block->ci_start + block->ci_count) { continue; }
        const int32_t step = win->kernel_height * win->kernel_width * block->ci_count;
        int32_t co = tt_max(first, block->co_start);
        const int32_t end = tt_min(last, block->co_start + block->co_count);
        const int8_t *weights = block->weights + (co - block->co_start) * step +
                                (ky * win->kernel_width + kx) * block->ci_count + ci - block->ci_start;
        const int32_t pairs = lanes == 1 ? 0 : (end - ((co + 1) & ~1)) >> 1;
        if (pairs > 0) {
            if (co & 1) {
                pack_one(weights, lanes, 1, out + 2 * (co - 1 - first));
                weights += step, co++;
            }
            if (lanes == TILE_CHANNELS) {
                pack_pairs(weights, step, pairs, out + 2 * (co - first));
            } else {
                pack_pairs_of_two(weights, step, pairs, out + 2 * (co - first));
            }
            weights += 2 * pairs * step, co += 2 * pairs;
        }
        for (; co < end; co++, weights += step) { pack_one(weights, lanes, co & 1, out + 2 * ((co & ~1) - first)); }
    }
}

// --- sums to mantissas ---

// Any sums of four pixels and one or two input channels.
TT_INNER_LOOP static void store_any(work *w, const int64_t *totals, const uint32_t *places, int32_t ci,
                                    int32_t lanes) {
    int16_t *gx = (int16_t *)w->args->gx + ci;
    for (int32_t r = 0; r < TT_DOT_ROWS; r++) {
        for (int32_t lane = 0; lane < lanes; lane++) {
            const int64_t total = totals[TT_DOT_COLUMNS * r + lane];
            const uint64_t magnitude = tt_magnitude(total);
            if (magnitude > w->watch.largest) { w->watch.largest = magnitude; }
            gx[places[r] / sizeof *gx + (uint32_t)lane] = tt_to_mantissa(&w->rounding, total, 0);
        }
    }
}

// --- loops ---

// Input channels that lie in the same blocks: those around `done`.
typedef struct range {
    int32_t start, end;
} range;

static range range_of(const tt_conv2d_input_gradient_args *a, int32_t done) {
    range r = {0, a->x_channels};
    for (int32_t i = 0; i < a->block_count; i++) {
        const int32_t first = a->blocks[i].ci_start, last = first + a->blocks[i].ci_count;
        if (first > done) { r.end = tt_min(r.end, first); } else { r.start = tt_max(r.start, first); }
        if (last > done) { r.end = tt_min(r.end, last); } else { r.start = tt_max(r.start, last); }
    }
    return r;
}

// The next 4 or 2 of them, when `done` are done. One that is left over takes one that is done with it; where it is
// alone in its blocks it stays alone.
static lanes next_lanes(range *r, const tt_conv2d_input_gradient_args *a, int32_t done) {
    if (done >= r->end) { *r = range_of(a, done); }
    const int32_t left = r->end - done;
    const lanes four = {done, TILE_CHANNELS}, two = {done, 2}, again = {done - 1, 2}, one = {done, 1};
    return left >= TILE_CHANNELS ? four : left >= 2 ? two : done > r->start ? again : one;
}

// All packed quads, where sums fit 32 bits and the scale is a factor.
TT_INNER_LOOP static void sum_narrow(work *w, tt_product_of *product) {
    while (product->rows < product->rows_end) {
        if (tt_multiply(product) < 0) { return; }
        tt_watch_sums(&w->watch, product->sums, TT_DOT_SUMS, w->rounding.right);
        product->minus_square = w->watch.minus_square;
    }
}

// Where not, or of one input channel.
TT_INNER_LOOP static void sum_wide(work *w, tt_product_of *product, int32_t ci, int32_t lanes) {
    for (; product->rows < product->rows_end; product->rows += TT_DOT_ROWS * (product->pairs + 1)) {
        int64_t totals[TT_DOT_SUMS] = {0};
        tt_multiply_wide(product, w->fitting, totals);
        store_any(w, totals, product->rows + TT_DOT_ROWS * product->pairs, ci, lanes);
    }
}

// Pixels first..first + 4 quads - 1 of the phase, packed, against all weights.
static void sum_tile(work *w, int32_t first, int32_t quads, int32_t positions) {
    const int32_t half = w->channels / 2, pairs = positions * half;
    uint32_t *quad = w->gradients;
    for (int32_t n = first; n < first + TT_DOT_ROWS * quads; n += TT_DOT_ROWS) {
        for (int32_t p = 0; p < positions; p++, quad += TT_DOT_ROWS * half) {
            pack_gradients(w, n, p, 0, w->channels, quad);
        }
        for (int32_t r = 0; r < TT_DOT_ROWS; r++) { *quad++ = place_of(w, n + r); }
    }
    const int narrow = w->fitting >= pairs && w->scale != 0;
    int32_t sums[TT_DOT_SUMS];
    tt_product_of product = {.rows_end = quad, .pairs = pairs, .sums = sums, .scale = w->scale,
                             .minus_square = w->watch.minus_square};
    range same = {0, 0};
    for (int32_t done = 0; done < w->args->x_channels;) {
        const lanes next = next_lanes(&same, w->args, done);
        for (int32_t p = 0; p < positions; p++) {
            pack_weights(w, &next, p, 0, w->channels, w->weights + TILE_CHANNELS * p * half);
        }
        done = next.ci + next.count;
        for (int32_t lane = 0; lane < next.count; lane += 2) {
            product.rows = w->gradients;
            product.columns = w->weights + lane;
            product.to = (int16_t *)w->args->gx + next.ci + lane;
            if (narrow && next.count > 1) {
                sum_narrow(w, &product);
            } else {
                sum_wide(w, &product, next.ci + lane, tt_min(next.count, 2));
            }
        }
    }
}

// Four pixels by up to four input channels, in chunks of `most` pairs.
static void sum_pieces(work *w, int32_t n, const lanes *next, int32_t positions, int32_t most) {
    uint32_t *weights = w->gradients + TT_DOT_ROWS * most;
    int64_t totals[TILE_CHANNELS / TT_DOT_COLUMNS][TT_DOT_SUMS] = {{0}};
    uint32_t places[TT_DOT_ROWS];
    for (int32_t r = 0; r < TT_DOT_ROWS; r++) { places[r] = place_of(w, n + r); }
    for (int32_t p = 0; p < positions; p++) {
        for (int32_t first = 0, last = 0; first < w->channels; first = last) {
            last = tt_min(w->channels, first + 2 * most);
            const int32_t pairs = (last - first) / 2;
            pack_gradients(w, n, p, first, last, w->gradients);
            pack_weights(w, next, p, first, last, weights);
            tt_product_of product = {.rows = w->gradients, .columns = weights, .pairs = pairs};
            for (int32_t half = 0; 2 * half < next->count; half++) {
                tt_multiply_wide(&product, pairs, totals[half]);
                product.columns += TT_DOT_COLUMNS;
            }
        }
    }
    for (int32_t lane = 0; lane < next->count; lane += 2) {
        store_any(w, totals[lane / 2], places, next->ci + lane, tt_min(next->count, 2));
    }
}

static void run_phase(work *w) {
    const tt_conv2d_input_gradient_args *a = w->args;
    const int32_t positions = w->phase.position_rows * w->phase.position_columns;
    for (int32_t n = 0; positions == 0 && n < w->phase.pixels; n++) {
        memset((char *)a->gx + place_of(w, n), 0, sizeof(int16_t) * (size_t)a->x_channels);
    }
    if (positions == 0) { return; }
    const int32_t pairs = positions * w->channels / 2, quads = (w->phase.pixels + TT_DOT_ROWS - 1) / TT_DOT_ROWS;
    const int32_t left = (a->scratch_bytes - TILE_PAIR * pairs) / (QUAD_PLACES + QUAD_PAIR * pairs);
    if (left > 0) {
        w->gradients = (uint32_t *)(void *)a->scratch;
        w->weights = w->gradients + tt_min(left, quads) * (QUAD_PLACES + QUAD_PAIR * pairs) / 4;
        for (int32_t q = 0; q < quads; q += left) { sum_tile(w, TT_DOT_ROWS * q, tt_min(left, quads - q), positions); }
        return;
    }
    const int32_t most = tt_min(FITTING_PAIRS, a->scratch_bytes / (QUAD_PAIR + TILE_PAIR) & ~1);
    w->gradients = (uint32_t *)(void *)a->scratch;
    for (int32_t n = 0; n < w->phase.pixels; n += TT_DOT_ROWS) {
        range same = {0, 0};
        for (int32_t done = 0; done < a->x_channels;) {
            const lanes next = next_lanes(&same, a, done);
            sum_pieces(w, n, &next, positions, most);
            done = next.ci + next.count;
        }
    }
}

// Which kernel positions (of `kernel`) see pixels first, first + stride, ...: the first of them, how many, and the
// output that the first pixel has there.
static int32_t positions_of(int32_t first, int32_t pad, int32_t stride, int32_t kernel, int32_t *position,
                            int32_t *output) {
    *position = (first + pad) % stride;
    *output = (first + pad) / stride;
    return *position < kernel ? (kernel - *position + stride - 1) / stride : 0;
}

void tt_conv2d_input_gradient_s16(const void *args) {
    const tt_conv2d_input_gradient_s16_args *a = args;
    const tt_window *win = &a->window;
    const int32_t sums_exponent = tt_exponent_of(a->gy_exponent, a->gy_exponent_offset);
    work w = {.args = a, .channels = (a->y_channels + 3) & ~3};
    w.rounding = tt_gradient_begin(a->gx_exponent, sums_exponent);
    const int32_t right = w.rounding.right;
    w.scale = right >= 2 && right <= 31 ? 1 << (32 - right) : 0;
    if (w.scale != 0) { tt_watch_from(&w.watch, tt_known_peak(a->gx_exponent, sums_exponent), right); }
    int64_t factors = 0;
    for (int32_t co = 0; co < a->y_channels; co++) { factors += a->factors[co]; }
    factors *= win->kernel_height * win->kernel_width;
    w.fitting = factors <= LARGEST_FACTORS ? INT32_MAX - 1 : FITTING_PAIRS;
    phase *p = &w.phase;
    for (p->first_y = 0; p->first_y < tt_min(win->stride_height, win->x_height); p->first_y++) {
        p->position_rows = positions_of(p->first_y, win->pad_top, win->stride_height, win->kernel_height,
                                        &p->first_ky, &p->base_y);
        for (p->first_x = 0; p->first_x < tt_min(win->stride_width, win->x_width); p->first_x++) {
            p->position_columns = positions_of(p->first_x, win->pad_left, win->stride_width, win->kernel_width,
                                               &p->first_kx, &p->base_x);
            p->columns = (win->x_width - p->first_x + win->stride_width - 1) / win->stride_width;
            p->pixels = p->columns * ((win->x_height - p->first_y + win->stride_height - 1) / win->stride_height);
            run_phase(&w);
        }
    }
    tt_exponent_end(a->gx_exponent, w.watch.largest, sums_exponent);
}
