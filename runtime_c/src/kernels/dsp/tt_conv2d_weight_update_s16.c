// SPDX-License-Identifier: Apache-2.0
// tt_conv2d_weight_update_s16 as a product of matrices, for each kernel position: gradients of four output channels by
// two input channels, summed over pixels that are packed in pairs. Rows of an odd number of pixels end with half a
// pair. Where scratch holds all input channels they are packed once, and the usual updates change weights while their
// sums are in registers; where not, both factors are packed in chunks of pixels.
#include "tinytrain/dsp_update.h"
#include "tinytrain/kernels/conv2d.h"
#include "tinytrain/weight_gradient.h"

enum {
    OUTPUTS_PAIR = 4 * TT_DOT_ROWS,    // bytes of a pair of pixels in four output channels
    INPUTS_PAIR = 4 * TT_DOT_COLUMNS,  // and in two input channels
    FITTING_PAIRS = TT_WEIGHT_GRADIENT_CHUNK / 2,
};

typedef struct work {
    const tt_conv2d_weight_update_args *args;
    tt_meeting meeting;    // of the kernel position
    int32_t positions, position;
    int32_t row_pairs;     // pairs of pixels in a row
    int32_t pairs;         // in all rows, or one of zeros
    int whole;             // whether scratch holds them all
    uint32_t *outputs;     // packed
    tt_quick_update quick;
    tt_clipping clipping;
} work;

// Which part of a row pairs first..last - 1 of all begin with.
typedef struct run {
    int32_t row, column, pairs;
} run;

static run run_of(const work *w, int32_t first, int32_t last) {
    const int32_t row = first / w->row_pairs, start = first - row * w->row_pairs;
    const run part = {row, 2 * start, tt_min(last - first, w->row_pairs - start)};
    return part;
}

static int32_t known_pairs(const work *w) { return w->meeting.rows * w->row_pairs; }

// Four output channels from co on (counted from the block's first), pairs first..last - 1.
TT_INNER_LOOP static void pack_outputs(const work *w, int32_t co, int32_t first, int32_t last, uint32_t *out) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t channels = a->y_channels, count = tt_min(TT_DOT_ROWS, a->co_count - co);
    const int32_t end = tt_min(last, known_pairs(w));
    for (run part; first < end; first += part.pairs) {
        part = run_of(w, first, end);
        const int32_t output = w->meeting.output + part.row * a->window.y_width + part.column;
        const int16_t *gy = (const int16_t *)a->gy + output * channels + a->co_start + co;
        const int32_t whole = count < TT_DOT_ROWS ? 0 : tt_min(part.pairs, (w->meeting.columns - part.column) / 2);
        for (int32_t pair = 0; pair < whole; pair++, gy += 2 * channels) {
            const uint32_t low = tt_load_bytes(gy), high = tt_load_bytes(gy + 2);
            const uint32_t next_low = tt_load_bytes(gy + channels), next_high = tt_load_bytes(gy + channels + 2);
            tt_put_two(&out, tt_firsts(low, next_low), tt_seconds(low, next_low));
            tt_put_two(&out, tt_firsts(high, next_high), tt_seconds(high, next_high));
        }
        for (int32_t pair = whole; pair < part.pairs; pair++, gy += 2 * channels) {
            const int32_t both = w->meeting.columns - part.column > 2 * pair + 1;
            for (int32_t r = 0; r < TT_DOT_ROWS; r++) {
                const uint32_t value = r < count ? tt_half_at(gy + r) : 0;
                *out++ = tt_firsts(value, both && r < count ? tt_half_at(gy + channels + r) : 0);
            }
        }
    }
    for (; first < last; first++) {
        tt_put_two(&out, 0, 0);
        tt_put_two(&out, 0, 0);
    }
}

// The first input channel of the tile that ci begins. Where there is no second one behind it the tile begins with one
// of an earlier tile.
static int32_t first_input(const work *w, int32_t ci) { return tt_max(0, tt_min(ci, w->args->x_channels - 2)); }

// The two input channels of a tile, pairs first..last - 1. What meets no gradient means nothing; a channel of an
// earlier tile is zeros, which change nothing.
TT_INNER_LOOP static void pack_inputs(const work *w, int32_t ci, int32_t first, int32_t last, uint32_t *out) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t step = a->window.stride_width * a->x_channels, end = tt_min(last, known_pairs(w));
    const int32_t start = first_input(w, ci);
    const uint32_t minus_zero = (uint32_t)(-a->x_zero_point & 0xFFFF) * 0x10001U, kept = start == ci ? UINT32_MAX : 0;
    for (run part; first < end; first += part.pairs) {
        part = run_of(w, first, end);
        const int32_t pixel = w->meeting.pixel + part.row * a->window.stride_height * a->window.x_width;
        const int8_t *x = a->x + pixel * a->x_channels + part.column * step + start;
        for (int32_t pair = 0; pair < part.pairs; pair++, x += 2 * step) {
            const int32_t next = w->meeting.columns - part.column > 2 * pair + 1 ? step : 0;
            const uint32_t even = a->x_channels > 1 ? tt_half_at(x) : (uint32_t)*x;
            const uint32_t odd = a->x_channels > 1 ? tt_half_at(x + next) : (uint32_t)x[next];
            const uint32_t both = tt_firsts(even, odd);
            tt_put_two(&out, tt_add_even_pair(minus_zero, both) & kept, tt_add_odd_pair(minus_zero, both));
        }
    }
}

// Four output channels by pairs of input channels, a tile each.
typedef struct product {
    const uint32_t *outputs, *inputs;
    int32_t pairs;               // one at least
    const tt_quick_rate *rates;  // of the outputs, whose weights change at once; NULL: the results are sums
    int8_t *weights, *masters;   // the first ones; 16-bit weights have no masters
    int32_t step;                // from one output's weights to the next one's, in bytes
    int32_t results[TT_DOT_SUMS];
} product;

#define TWO_INPUTS "ldrd   r2, r3, [r1], #8\n\t"
#define TWO_OUTPUTS "ldrd   r12, lr, [r0], #8\n\t"
#define ONE_PAIR(add, ...)                                                             \
    TWO_INPUTS TWO_OUTPUTS                                                             \
    add("r4, r12, r2", r4) add("r5, r12, r3", r5) add("r6, lr, r2", r6) add("r7, lr, r3", r7)       \
    TWO_OUTPUTS                                                                        \
    add("r8, r12, r2", r8) add("r9, r12, r3", r9) add("r10, lr, r2", r10) add("r11, lr, r3", r11)
#define FIRST(operands, sum) "smuad  " operands "\n\t"
#define NEXT(operands, sum) "smlad  " operands ", " #sum "\n\t"
#define FOUR_PAIRS ONE_PAIR(NEXT) ONE_PAIR(NEXT) ONE_PAIR(NEXT) ONE_PAIR(NEXT)
enum { PAIR_BYTES = 44, UNROLLED_PAIRS = 8 };  // of its instructions; of the loop

// Sums become changes: of a row, by the rate r0 points to.
#define CHANGES(first, second)                      \
    "ldm    r0!, {r2, r3, r12, lr}\n\t"             \
    "smmla  " #first ", " #first ", r2, r3\n\t"     \
    "smmla  " #second ", " #second ", r2, r3\n\t"   \
    "asr    " #first ", " #first ", r12\n\t"        \
    "asr    " #second ", " #second ", r12\n\t"

// One weight at r0, its master r1 behind it, as in tt_quick_master8.
#define WEIGHT(change, to)                          \
    "ldrsb  r12, [r0, r1]\n\t"                      \
    "ldrsb  r3, [r0]\n\t"                           \
    "sub    r12, r12, " #change "\n\t"              \
    "add    r12, r12, r3, lsl #8\n\t"               \
    "ssat   r12, #16, r12\n\t"                      \
    "qadd16 r12, r12, r2\n\t"                       \
    "qsub16 r12, r12, lr\n\t"                       \
    "strb   r12, [r0, r1]\n\t"                      \
    "add    r12, r12, #384\n\t"                     \
    "lsr    r12, r12, #8\n\t"                       \
    "strb   r12, " to "\n\t"
#define MASTERS(first, second) WEIGHT(first, "[r0], #1") WEIGHT(second, "[r0]")

// And as in tt_quick_weight16.
#define WEIGHT16(change, to)                        \
    "ldrsh  r12, [r0]\n\t"                          \
    "sub    r12, r12, " #change "\n\t"              \
    "ssat   r12, #16, r12\n\t"                      \
    "qadd16 r12, r12, r2\n\t"                       \
    "qsub16 r12, r12, lr\n\t"                       \
    "add    r12, r12, #256\n\t"                     \
    "strh   r12, " to "\n\t"
#define WEIGHTS(first, second) WEIGHT16(first, "[r0], #2") WEIGHT16(second, "[r0]")
#define NEXT_ROW "ldr    r3, %[step]\n\t" "add    r0, r3\n\t"
#define ROWS(row) row(r4, r5) NEXT_ROW row(r6, r7) NEXT_ROW row(r8, r9) NEXT_ROW row(r10, r11)

// 8 sums, 4 operands and 2 pointers are all registers there are. The first pair starts the sums; then a jump into the
// loop takes what is no whole round of it.
TT_INNER_LOOP static void multiply(product *p, int32_t tiles) {
    const uint32_t *const outputs = p->outputs, *const end = outputs + TT_DOT_ROWS * p->pairs;
    const uint32_t rest = PAIR_BYTES * ((uint32_t)(p->pairs - 1) % UNROLLED_PAIRS);
    const tt_quick_rate *const rates = p->rates;
    const int32_t bytes = p->masters != NULL ? 1 : 2, step = p->step - bytes, two = 2 * bytes;
    const int32_t to_master = p->masters != NULL ? (int32_t)(p->masters - p->weights) : 0;
    const uint32_t *inputs = p->inputs;
    int8_t *weights = p->weights;
    int32_t *const results = p->results;
    for (; tiles > 0; tiles--) {
        __asm__ volatile(
            "ldr    r0, %[outputs]\n\t"
            "ldr    r1, %[inputs]\n\t" ONE_PAIR(FIRST)
            "ldr    r3, %[rest]\n\t"
            "adr.w  r2, 2f\n\t"
            "subs   r2, r3\n\t"
            "mov    pc, r2\n"
            "1:\n\t" FOUR_PAIRS FOUR_PAIRS
            "2:\n\t"
            "ldr    r12, %[end]\n\t"
            "cmp    r0, r12\n\t"
            "bne.w  1b\n\t"
            "str    r1, %[inputs]\n\t"
            "ldr    r0, %[rates]\n\t"
            "cbnz   r0, 3f\n\t"
            "ldr    r0, %[results]\n\t"
            "stm    r0, {r4-r11}\n\t"
            "b.w    5f\n"
            "3:\n\t" CHANGES(r4, r5) CHANGES(r6, r7) CHANGES(r8, r9) CHANGES(r10, r11)
            "ldr    r0, %[weights]\n\t"
            "ldr    r1, %[two]\n\t"
            "add    r1, r0\n\t"
            "str    r1, %[weights]\n\t"
            "mov    r2, #32767 - 32512\n\t"
            "movw   lr, #32767 - 32512 + 32768 - 32512\n\t"
            "ldr    r1, %[to_master]\n\t"
            "cmp    r1, #0\n\t"
            "bne.w  4f\n\t" ROWS(WEIGHTS)
            "b.w    5f\n"
            "4:\n\t" ROWS(MASTERS)
            "5:\n\t"
            : [inputs] "+m"(inputs), [weights] "+m"(weights)
            : [outputs] "m"(outputs), [rest] "m"(rest), [end] "m"(end), [rates] "m"(rates), [results] "m"(results),
              [to_master] "m"(to_master), [step] "m"(step), [two] "m"(two)
            : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    }
}

// Up to four output channels from co on, of which `known` are done, and their rates.
typedef struct group {
    int32_t co, known, rows;
    int32_t raised;  // not 0: some sums are
    union {
        tt_quick_rate quick[TT_DOT_ROWS];
        tt_rate any[TT_DOT_ROWS];
    } rates;
} group;

TT_RARE static tt_rate any_rate(const tt_update *u, int32_t channel) { return tt_rate_of_channel(u, channel); }

// What is done stays as it is at a rate of 0.
static void set_rates(const work *w, group *g) {
    const tt_update *u = &w->args->update;
    g->raised = 0;
    for (int32_t r = 0; r < g->rows; r++) {
        if (!w->quick.possible) {
            g->rates.any[r] = any_rate(u, g->co + r);
            continue;
        }
        tt_quick_rate *rate = &g->rates.quick[r];
        tt_set_quick_rate(&w->quick, u, g->co + r, rate);
        if (r < g->known) { rate->mantissa = rate->up = 0; }
        g->raised |= rate->up;
    }
}

// The sums of a tile; where not all inputs are packed both factors are, in chunks.
TT_RARE static void sum_up(const work *w, int32_t co, int32_t ci, const uint32_t *inputs, int64_t *sums) {
    const int32_t fitting = w->args->scratch_bytes / (OUTPUTS_PAIR + INPUTS_PAIR);
    product p;
    p.rates = NULL, p.weights = p.masters = NULL, p.step = 0;
    for (int32_t i = 0; i < TT_DOT_SUMS; i++) { sums[i] = 0; }
    for (int32_t first = 0; first < w->pairs; first += p.pairs) {
        p.pairs = tt_min(FITTING_PAIRS, w->pairs - first);
        p.outputs = w->outputs + TT_DOT_ROWS * first, p.inputs = inputs + TT_DOT_COLUMNS * first;
        if (!w->whole) {
            p.pairs = tt_min(fitting, p.pairs);
            uint32_t *packed = w->outputs + TT_DOT_ROWS * p.pairs;
            pack_outputs(w, co, first, first + p.pairs, w->outputs);
            pack_inputs(w, ci, first, first + p.pairs, packed);
            p.outputs = w->outputs, p.inputs = packed;
        }
        multiply(&p, 1);
        for (int32_t i = 0; i < TT_DOT_SUMS; i++) { sums[i] += p.results[i]; }
    }
}

// Any update of a tile's new weights by their sums.
TT_RARE static void update_any(work *w, const group *g, int32_t ci, const int64_t *sums) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t start = first_input(w, ci), columns = tt_min(TT_DOT_COLUMNS, a->x_channels);
    for (int32_t r = g->known; r < g->rows; r++) {
        const uint32_t index = (uint32_t)(((g->co + r) * w->positions + w->position) * a->x_channels + start);
        for (int32_t c = ci - start; c < columns; c++) {
            tt_update_element(&a->update, &g->rates.any[r], index + (uint32_t)c,
                              tt_clipped(&w->clipping, sums[TT_DOT_COLUMNS * r + c]));
        }
    }
}

// A quick update of four output by two input channels, at least, where all that is needed is at hand.
static void update_at_once(const work *w, const group *g, const uint32_t *inputs) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t step = w->positions * a->x_channels, index = g->co * step + w->position * a->x_channels;
    const int32_t bytes = a->update.mode == TT_UPDATE_MASTER8 ? 1 : 2, tiles = a->x_channels / 2;
    product p;
    p.outputs = w->outputs, p.inputs = inputs, p.pairs = w->pairs, p.rates = g->rates.quick, p.step = bytes * step;
    p.weights = (int8_t *)a->update.parameter + bytes * index;
    p.masters = bytes == 1 ? (int8_t *)a->update.master + index : NULL;
    multiply(&p, tiles);
    if (a->x_channels % 2 != 0) {
        p.inputs += TT_DOT_COLUMNS * p.pairs * tiles, p.weights += bytes * (a->x_channels - 2);
        if (bytes == 1) { p.masters += a->x_channels - 2; }
        multiply(&p, 1);
    }
}

// Any group, tile by tile.
TT_RARE static void update_tiles(work *w, const group *g, const uint32_t *inputs) {
    const tt_conv2d_weight_update_args *a = w->args;
    const tt_update *u = &a->update;
    const int32_t step = w->positions * a->x_channels;
    for (int32_t ci = 0; ci < a->x_channels; ci += TT_DOT_COLUMNS) {
        int64_t sums[TT_DOT_SUMS];
        sum_up(w, g->co, ci, inputs + ci * w->pairs, sums);
        if (w->quick.possible) {
            const int32_t index = g->co * step + w->position * a->x_channels + first_input(w, ci);
            tt_quick_rows(u, g->rates.quick, g->rows, tt_min(TT_DOT_COLUMNS, a->x_channels), (uint32_t)index,
                          (uint32_t)step, sums);
        } else {
            update_any(w, g, ci, sums);
        }
    }
}

static void update_position(work *w) {
    const tt_conv2d_weight_update_args *a = w->args;
    const int32_t inputs = a->x_channels, columns = TT_DOT_COLUMNS * w->pairs;
    w->whole = (OUTPUTS_PAIR + (inputs + 1) / 2 * INPUTS_PAIR) * w->pairs <= a->scratch_bytes;
    w->outputs = a->scratch;
    uint32_t *packed = w->outputs + TT_DOT_ROWS * w->pairs;
    for (int32_t ci = 0; w->whole && ci < inputs; ci += 2) {
        pack_inputs(w, ci, 0, w->pairs, packed + ci / 2 * columns);
    }
    for (int32_t done = 0; done < a->co_count; done += TT_DOT_ROWS) {
        group g;
        g.co = tt_max(0, tt_min(done, a->co_count - TT_DOT_ROWS));
        g.known = done - g.co, g.rows = tt_min(TT_DOT_ROWS, a->co_count - g.co);
        set_rates(w, &g);
        if (w->whole) { pack_outputs(w, g.co, 0, w->pairs, w->outputs); }
        if (w->quick.possible && g.raised == 0 && w->whole && g.rows == TT_DOT_ROWS && inputs > 1) {
            update_at_once(w, &g, packed);
        } else {
            update_tiles(w, &g, packed);
        }
    }
}

// The outputs that meet a pixel at kernel position (ky, kx).
static tt_meeting rows_of(const tt_window *win, int32_t ky, int32_t kx) {
    tt_meeting meeting = tt_meeting_of(win, ky, kx);
    if (meeting.rows <= 0 || meeting.columns <= 0) { meeting.rows = 0, meeting.columns = 0; }
    const int dense = meeting.columns == win->y_width && meeting.columns == win->x_width;
    if (dense && win->stride_height == 1 && win->stride_width == 1) {  // all rows are one
        meeting.columns *= meeting.rows;
        meeting.rows = tt_min(1, meeting.rows);
    }
    return meeting;
}

void tt_conv2d_weight_update_s16(const void *args) {
    const tt_conv2d_weight_update_s16_args *a = args;
    work w = {.args = a, .quick = tt_quick_update_of(&a->update), .clipping = tt_clip_begin(&a->update)};
    w.positions = a->window.kernel_height * a->window.kernel_width;
    for (int32_t ky = 0; ky < a->window.kernel_height; ky++) {
        for (int32_t kx = 0; kx < a->window.kernel_width; kx++, w.position++) {
            w.meeting = rows_of(&a->window, ky, kx);
            w.row_pairs = tt_max(1, (w.meeting.columns + 1) / 2);
            w.pairs = tt_max(1, known_pairs(&w));
            update_position(&w);
        }
    }
    tt_clip_end(&a->update, &w.clipping);
}
