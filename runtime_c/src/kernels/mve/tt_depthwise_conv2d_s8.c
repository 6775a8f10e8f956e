// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8 with VMLADAV, for kernels of up to eight rows and 16 words.
//
// For a row of outputs and 16 channels, what they read is laid out in cells, one per column of x: for every channel a
// word of the bytes of four rows; those of the next four rows are in cells of their own. Padding is the zero point. VST4 makes cells
// of contiguous loads. A kernel is words of four rows as well, so one of up to 4 x 4 is one vector, that meets four words
// of cells, 64 bytes apart: a window's sum is one VMLADAV. Larger kernels take up to four. Four channels of a pixel are
// requantized together.
//
// Cells and the kernels of 16 channels lie in scratch, in the part of y that is written later, or on the stack.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/mve.h"
#include "tinytrain/window.h"

enum {
    LANES = 16,
    CHANNELS = 4,       // requantized together: a group
    GROUPS = 4,         // in a cell
    WORDS = 4,          // of a vector
    CELL = 64,          // bytes of a cell, for four rows
    MOST_WORDS = 16,    // of a kernel, in four vectors
    OWN_BYTES = 352,    // of the stack
    MOST_CHANNELS = 65532
};

// Four channels and the vectors of their kernels, as many as there are.
typedef struct group {
    tt_quad quad;
    int8x16_t weights[CHANNELS * MOST_WORDS / WORDS];
} group;

// What rows of outputs need, but no register has room for.
typedef struct row_constants {
    int32_t zero_point, y_step;  // y_step: of two pixels
    uint32_t step;               // of the places of two pixels
    int32_t pixel;               // bytes of a pixel of y
    uint16x8_t places;           // of two pixels' four channels in y, each channel's pixels side by side
} row_constants;

typedef struct layer {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
    int32_t largest_bias;
    int32_t words;    // of a kernel
    int32_t vectors;  // 1, 3 or 4
    row_constants constants;
} layer;

// What is worked on at a time.
typedef struct part {
    int32_t rows, columns;  // of outputs
    int32_t groups;
    uint32x4_t *places;     // of the words of each vector in the cells of a window; groups and cells follow
} part;

static int32_t blocks_of(const layer *l) { return (l->args->window.kernel_height + 3) / 4; }

static int32_t cells_read(const layer *l, int32_t columns) {
    return (columns - 1) * l->args->window.stride_width + l->args->window.kernel_width;
}

static int32_t row_bytes(const layer *l, int32_t columns) { return cells_read(l, columns) * blocks_of(l) * CELL; }

static int32_t group_bytes(const layer *l) { return (int32_t)sizeof(tt_quad) + l->vectors * CHANNELS * LANES; }

static group *group_at(const layer *l, const part *p, int32_t i) {
    return (group *)(void *)((int8_t *)(p->places + l->vectors) + i * group_bytes(l));
}

static int8_t *cells_of(const layer *l, const part *p) { return (int8_t *)group_at(l, p, p->groups); }

// Of places and groups.
static int32_t fixed_bytes(const layer *l, int32_t groups) { return l->vectors * LANES + groups * group_bytes(l); }

static void find_places(const layer *l, const part *p) {
    const int32_t width = l->args->window.kernel_width, cells = cells_read(l, p->columns);
    uint32_t *place = (uint32_t *)(void *)p->places;
    for (int32_t i = 0; i < l->vectors * WORDS; i++) {  // words that a kernel does not have are some word, times 0
        place[i] = i < l->words ? (uint32_t)((i / width * cells + i % width) * CELL) : 0;
    }
}

// Rows of up to 16 neighbouring channels, to be woven four at a time.
typedef struct image {
    const int8_t *x;          // of row 0
    int32_t pitch, step;      // bytes from row to row and from column to column
    int32_t first, last;      // rows that there are
    const int8_t *outside;    // a column of the others
    uint8x16_t inputs;        // where `gathered`: which channels, from x on
    int32_t gathered;
    mve_pred16_t present;
} image;

// Cells of four rows. VST4 takes neighbouring registers. VPR changes, which no clobber can say: so this is inlined only
// into a function of its own.
#define WEAVE(predicate, load0, load1, load2, load3)                                                                              \
    __asm__ volatile(                                                                                                  \
        "vmsr p0, %[present]\n\t"                                                                                      \
        "dls lr, %[count]\n"                                                                                           \
        "1: " predicate load0 "\n\t" load1 "\n\t" load2 "\n\t" load3 "\n\t"                                          \
        "add %[x0], %[step0]\n\t"                                                                                     \
        "add %[x1], %[step1]\n\t"                                                                                     \
        "add %[x2], %[step2]\n\t"                                                                                     \
        "add %[x3], %[step3]\n\t"                                                                                     \
        "vst40.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                       \
        "vst41.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                       \
        "vst42.8 {q0, q1, q2, q3}, [%[to]]\n\t"                                                                       \
        "vst43.8 {q0, q1, q2, q3}, [%[to]]!\n\t"                                                                      \
        "le lr, 1b"                                                                                                    \
        : [x0] "+r"(x[0]), [x1] "+r"(x[1]), [x2] "+r"(x[2]), [x3] "+r"(x[3]), [to] "+r"(to)                            \
        : [step0] "r"(step[0]), [step1] "r"(step[1]), [step2] "r"(step[2]), [step3] "r"(step[3]),                      \
          [present] "r"(from->present), [count] "r"(count), [inputs] "w"(from->inputs)                                 \
        : "lr", "q0", "q1", "q2", "q3", "memory")

// Rows row..row + 3, of which those from `end` on are left out, `count` columns; the first lies `offset` bytes away.
TT_INNER_LOOP static void weave(const image *from, int32_t offset, int32_t row, int32_t end, int32_t count, int8_t *to) {
    const int8_t *x[4];
    int32_t step[4];
    end = tt_min(end, from->last);
#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; k++) {
        const int there = row + k >= from->first && row + k < end;
        x[k] = there ? from->x + offset + (row + k) * from->pitch : from->outside;
        step[k] = there ? from->step : 0;
    }
    if (from->gathered) {
        WEAVE("vpstttt\n\t", "vldrbt.u8 q0, [%[x0], %q[inputs]]", "vldrbt.u8 q1, [%[x1], %q[inputs]]",
              "vldrbt.u8 q2, [%[x2], %q[inputs]]", "vldrbt.u8 q3, [%[x3], %q[inputs]]");
    } else if (from->present == 0xFFFF) {
        WEAVE("", "vldrb.8 q0, [%[x0]]", "vldrb.8 q1, [%[x1]]", "vldrb.8 q2, [%[x2]]", "vldrb.8 q3, [%[x3]]");
    } else {
        WEAVE("vpstttt\n\t", "vldrbt.8 q0, [%[x0]]", "vldrbt.8 q1, [%[x1]]", "vldrbt.8 q2, [%[x2]]", "vldrbt.8 q3, [%[x3]]");
    }
}

// The vectors of four channels' kernels, from cells of the weight; returns the sums of the weights.
TT_INNER_LOOP static int32x4_t lay_out_weights(const layer *l, const int8_t *cells, int8x16_t *vectors) {
    uint32x4_t at = vaddq_n_u32(vmulq_n_u32(vidupq_n_u32(0, 1), CELL), (uint32_t)(uintptr_t)cells);
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    const int32_t step = l->vectors;
    for (int32_t i = 0; i < step; i++, vectors++, at = vaddq_n_u32(at, WORDS * CELL)) {
        const mve_pred16_t some = vctp32q((uint32_t)tt_max(l->words - i * WORDS, 0));
        const int8x16_t w0 = vreinterpretq_s8_s32(vldrwq_gather_base_z_s32(at, 0, some));
        const int8x16_t w1 = vreinterpretq_s8_s32(vldrwq_gather_base_z_s32(at, 4, some));
        const int8x16_t w2 = vreinterpretq_s8_s32(vldrwq_gather_base_z_s32(at, 8, some));
        const int8x16_t w3 = vreinterpretq_s8_s32(vldrwq_gather_base_z_s32(at, 12, some));
        s0 = vaddvaq_s8(s0, w0), s1 = vaddvaq_s8(s1, w1), s2 = vaddvaq_s8(s2, w2), s3 = vaddvaq_s8(s3, w3);
        vectors[0] = w0, vectors[step] = w1, vectors[2 * step] = w2, vectors[3 * step] = w3;
    }
    return tt_lanes(s0, s1, s2, s3);
}

// The kernels of channels `first` on of a block of the weight, group by group, of which `done` are done; returns the
// number of groups.
static int32_t lay_out_groups(const layer *l, const part *p, const tt_depthwise_block *block, int32_t first,
                              int32_t done) {
    static const int8_t zeros[LANES] = {0};
    const int32_t width = l->args->window.kernel_width, height = l->args->window.kernel_height;
    const int32_t together = tt_min(CHANNELS, block->count);
    const int whole_clamp = l->output.low == INT8_MIN && l->output.high == INT8_MAX;
    const image kernel = {block->weights + first, width * block->count, block->count, 0, height, zeros,
                          vdupq_n_u8(0), 0, vctp8q((uint32_t)(block->count - first))};
    int8_t *cells = cells_of(l, p);
    for (int32_t i = 0; i < blocks_of(l); i++) { weave(&kernel, 0, 4 * i, height, width, cells + i * width * CELL); }
    int32_t groups = 0;
    for (; groups < p->groups && done < block->count; groups++, done += together) {
        const int32_t c = tt_min(done, block->count - together);  // the last four may overlap the four before
        group *to = group_at(l, p, groups);
        const int32x4_t sums = lay_out_weights(l, cells + 4 * (c - first), to->weights);
        const int32x4_t zero_sums = vmulq_n_s32(sums, -l->args->x_zero_point);
        to->quad = tt_quad_of(&l->output, block->start + c, together, zero_sums, l->largest_bias);
        if (!whole_clamp) { to->quad.style = tt_max(to->quad.style, TT_STYLE_ANY); }  // the others know no clamp but this
    }
    return groups;
}

// The cells that outputs (oy, ox) on read.
static void lay_out_cells(const layer *l, const part *p, const image *from, int32_t oy, int32_t ox, int8_t *to) {
    const tt_window *win = &l->args->window;
    const int32_t y0 = oy * win->stride_height - win->pad_top, x0 = ox * win->stride_width - win->pad_left;
    const int32_t count = cells_read(l, p->columns);
    const int32_t before = tt_clamp(-x0, 0, count), end = tt_clamp(win->x_width - x0, before, count);
    const int32_t offset = (x0 + before) * from->step;
    for (int32_t row = y0; row < y0 + win->kernel_height; row += 4, to += count * CELL) {
        if (before > 0) { tt_fill_bytes(to, l->args->x_zero_point, before * CELL); }
        if (end > before) { weave(from, offset, row, y0 + win->kernel_height, end - before, to + before * CELL); }
        if (count > end) { tt_fill_bytes(to + end * CELL, l->args->x_zero_point, (count - end) * CELL); }
    }
}

// Neighbouring outputs of some groups.
typedef struct area {
    const layer *layer;
    const part *part;
    int8_t *y;
    int32_t rows, columns, y_pitch;
    uint32_t cells, pitch;  // where channel 0 would have its cells; bytes of a row of them
} area;

#define SIGN_FIX                                                                                                       \
    "vshr.s32 %q[other], %q[first], #31\n\t"                                                                           \
    "vadd.i32 %q[first], %q[first], %q[other]\n\t"                                                                     \
    "vshr.s32 %q[other], %q[second], #31\n\t"                                                                          \
    "vadd.i32 %q[second], %q[second], %q[other]\n\t"

// From sums of two pixels to their outputs, narrowed in 16-bit lanes. `sign`: what TT_STYLE_SIGNED does before the
// shift. Expects the zero point in r0.
#define STORE_TWO(sign)                                                                                                \
    "vldrw.32 %q[other], [%[quad], #32]\n\t"                                                                           \
    "vqrdmulh.s32 %q[first], %q[first], %q[other]\n\t"                                                                 \
    "vqrdmulh.s32 %q[second], %q[second], %q[other]\n\t" sign                                                          \
    "vldrw.32 %q[other], [%[quad], #48]\n\t"                                                                           \
    "vrshl.s32 %q[first], %q[first], %q[other]\n\t"                                                                    \
    "vrshl.s32 %q[second], %q[second], %q[other]\n\t"                                                                  \
    "vldrw.32 %q[other], [%[constants], #16]\n\t"                                                                      \
    "vqmovnb.s32 %q[first], %q[first]\n\t"                                                                             \
    "vqmovnt.s32 %q[first], %q[second]\n\t"                                                                            \
    "vqadd.s16 %q[first], %q[first], r0\n\t"                                                                           \
    "vqmovnb.s16 %q[first], %q[first]\n\t"                                                                             \
    "vstrb.16 %q[first], [%[y], %q[other]]\n\t"

// Sums of a pixel of kernels of one vector.
#define SUM_SMALL(sums)                                                                                                \
    "vldrw.u32 %q[" sums "], [%q[at]]\n\t"                                                                             \
    "vldrw.u32 %q[other], [%q[at], #4]\n\t"                                                                            \
    "vmladav.s8 r2, %q[" sums "], %q[w0]\n\t"                                                                          \
    "vldrw.u32 %q[" sums "], [%q[at], #8]\n\t"                                                                         \
    "vmladav.s8 r4, %q[other], %q[w1]\n\t"                                                                             \
    "vldrw.u32 %q[other], [%q[at], #12]\n\t"                                                                           \
    "vmladav.s8 r6, %q[" sums "], %q[w2]\n\t"                                                                          \
    "vadd.i32 %q[at], %q[at], %[step]\n\t"                                                                             \
    "vmladav.s8 r8, %q[other], %q[w3]\n\t"                                                                             \
    "vmov %q[" sums "][2], %q[" sums "][0], r2, r6\n\t"                                                                \
    "vmov %q[" sums "][3], %q[" sums "][1], r4, r8\n\t"

// `pairs` times two pixels, for kernels of one vector.
#define STORE_SMALL_PAIRS(sign)                                                                                        \
    __asm__ volatile(                                                                                                  \
        "ldrd r0, r10, [%[constants]]\n\t"                                                                             \
        "dls lr, %[pairs]\n"                                                                                           \
        "1:\n\t" SUM_SMALL("first") SUM_SMALL("second")                                                               \
        "vldrw.32 %q[other], [%[quad]]\n\t"                                                                            \
        "vadd.i32 %q[first], %q[first], %q[other]\n\t"                                                                 \
        "vadd.i32 %q[second], %q[second], %q[other]\n\t" STORE_TWO(sign)                                              \
        "add %[y], r10\n\t"                                                                                          \
        "le lr, 1b"                                                                                                    \
        : [first] "=&w"(first), [second] "=&w"(second), [other] "=&w"(other), [at] "+w"(at), [y] "+r"(to)              \
        : [w0] "w"(w0), [w1] "w"(w1), [w2] "w"(w2), [w3] "w"(w3), [pairs] "r"(pairs), [quad] "r"(&g->quad),            \
          [constants] "r"(&constants), [step] "r"(step)                                                                 \
        : "r0", "r2", "r4", "r6", "r8", "r10", "lr", "memory")

// Rows of at least two pixels. The last pixel of an odd number comes twice.
TT_ALWAYS_INLINE static inline void store_small(const area *r, const group *g, int32_t style) {
    const row_constants constants = r->layer->constants;
    const int32_t y_pitch = r->y_pitch;
    const uint32_t step = constants.step / 2, pitch = r->pitch;
    const int8x16_t w0 = g->weights[0], w1 = g->weights[1], w2 = g->weights[2], w3 = g->weights[3];
    const int32_t half = r->columns / 2, odd = r->columns % 2;
    uint32_t cells = r->cells + 4 * (uint32_t)g->quad.channel;
    int8_t *y = r->y + g->quad.channel;
    for (int32_t rows = r->rows; rows > 0; rows--, cells += pitch, y += y_pitch) {
        uint32x4_t at = vaddq_n_u32(r->part->places[0], cells);
        int8_t *to = y;
        for (int32_t pairs = half, again = odd;; pairs = 1, again = 0) {
            int32x4_t first, second, other;
            if (style == TT_STYLE_RELU) {
                STORE_SMALL_PAIRS("");
            } else {
                STORE_SMALL_PAIRS(SIGN_FIX);
            }
            if (!again) { break; }
            at = vsubq_n_u32(at, step), to -= constants.pixel;
        }
    }
}

// Sums of channel `at` of two pixels, which are `next` bytes apart, with one vector of weights.
#define ADD_TWO(place, at, next, sum0, sum1)                                                                           \
    "vldrb.8 %q[other], [r1], #16\n\t"                                                                                 \
    "vldrw.u32 %q[first], [%q[" place "], #" at "]\n\t"                                                                \
    "vldrw.u32 %q[second], [%q[" place "], #" next " + " at "]\n\t"                                                    \
    "vmladava.s8 " sum0 ", %q[first], %q[other]\n\t"                                                                   \
    "vmladava.s8 " sum1 ", %q[second], %q[other]\n\t"
#define SUM_THREE(at, next, s0, s1)                                                                                    \
    ADD_TWO("at0", at, next, s0, s1) ADD_TWO("at1", at, next, s0, s1) ADD_TWO("at2", at, next, s0, s1)
#define SUM_FOUR(at, next, s0, s1) SUM_THREE(at, next, s0, s1) ADD_TWO("at3", at, next, s0, s1)
#define MOVE_THREE                                                                                                     \
    "vadd.i32 %q[at0], %q[at0], r4\n\tvadd.i32 %q[at1], %q[at1], r4\n\tvadd.i32 %q[at2], %q[at2], r4\n\t"
#define MOVE_FOUR MOVE_THREE "vadd.i32 %q[at3], %q[at3], r4\n\t"

// Two pixels at a time, up to y_end. VMLADAVA adds to even registers, and all eight are in use.
#define STORE_LARGE_PAIRS(sum, move, next)                                                                             \
    __asm__ volatile(                                                                                                  \
        "1: ldm %[quad], {r0, r2, r4, r6}\n\t"                                                                         \
        "add r1, %[quad], %[weights]\n\t"                                                                             \
        "ldm %[quad], {r8, r10, r12, lr}\n\t" sum("0", next, "r0", "r8") sum("4", next, "r2", "r10")                  \
            sum("8", next, "r4", "r12") sum("12", next, "r6", "lr")                                                    \
        "vmov %q[first][2], %q[first][0], r0, r4\n\t"                                                                  \
        "vmov %q[first][3], %q[first][1], r2, r6\n\t"                                                                  \
        "vmov %q[second][2], %q[second][0], r8, r12\n\t"                                                               \
        "vmov %q[second][3], %q[second][1], r10, lr\n\t"                                                               \
        "ldm %[constants], {r0, r2, r4}\n\t" STORE_TWO(SIGN_FIX) move                                                 \
        "add %[y], r2\n\t"                                                                                            \
        "cmp %[y], %[y_end]\n\t"                                                                                      \
        "bne 1b"                                                                                                       \
        : [first] "=&w"(first), [second] "=&w"(second), [other] "=&w"(other), [at0] "+w"(at0), [at1] "+w"(at1),        \
          [at2] "+w"(at2), [at3] "+w"(at3), [y] "+r"(to)                                                               \
        : [quad] "r"(&g->quad), [constants] "r"(&constants), [y_end] "r"(y_end), [weights] "i"(sizeof(tt_quad))         \
        : "r0", "r1", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory")

// Rows of at least two pixels of kernels of three or four vectors; a stride of one or two.
TT_ALWAYS_INLINE static inline void store_large(const area *r, const group *g, int32_t vectors, int32_t stride) {
    const row_constants constants = r->layer->constants;
    const int32_t y_pitch = r->y_pitch;
    const uint32_t pitch = r->pitch;
    const uint32x4_t *places = r->part->places;
    uint32_t cells = r->cells + 4 * (uint32_t)g->quad.channel;
    int8_t *y = r->y + g->quad.channel;
    for (int32_t rows = r->rows; rows > 0; rows--, cells += pitch, y += y_pitch) {
        uint32_t from = cells;
        int8_t *to = y;
        for (int32_t i = 0, pairs = r->columns / 2; i <= r->columns % 2; i++, pairs = 1) {
            uint32x4_t at0 = vaddq_n_u32(places[0], from), at1 = vaddq_n_u32(places[1], from);
            uint32x4_t at2 = vaddq_n_u32(places[2], from), at3 = vectors > 3 ? vaddq_n_u32(places[3], from) : at2;
            const int8_t *y_end = to + pairs * constants.y_step;
            int32x4_t first, second, other;
            if (vectors == 3 && stride == 1) {
                STORE_LARGE_PAIRS(SUM_THREE, MOVE_THREE, "64");
            } else if (vectors == 3) {
                STORE_LARGE_PAIRS(SUM_THREE, MOVE_THREE, "128");
            } else if (stride == 1) {
                STORE_LARGE_PAIRS(SUM_FOUR, MOVE_FOUR, "64");
            } else {
                STORE_LARGE_PAIRS(SUM_FOUR, MOVE_FOUR, "128");
            }
            from += (uint32_t)(2 * pairs - 1) * (constants.step / 2), to -= constants.pixel;
        }
    }
}

// Any style, any row.
TT_INNER_LOOP static void store_any(const area *r, const group *g) {
    const layer *l = r->layer;
    const int32_t channels = l->args->y_channels, step = l->args->window.stride_width * CELL;
    uint32_t row = r->cells + 4 * (uint32_t)g->quad.channel;
    for (int32_t oy = 0; oy < r->rows; oy++, row += r->pitch) {
        int8_t *y = r->y + oy * r->y_pitch + g->quad.channel;
        uint32_t cells = row;
        for (int32_t ox = 0; ox < r->columns; ox++, cells += (uint32_t)step, y += channels) {
            int32_t s[CHANNELS] = {0};
            for (int32_t v = 0; v < l->vectors; v++) {
                const uint32x4_t at = vaddq_n_u32(r->part->places[v], cells);
                const int8x16_t *w = g->weights + v;
#define ADD_CELLS(channel)                                                                                             \
    s[channel] = vmladavaq_s8(s[channel], vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 4 * (channel))),             \
                              w[(channel) * l->vectors])
                ADD_CELLS(0), ADD_CELLS(1), ADD_CELLS(2), ADD_CELLS(3);
            }
            const int32x4_t sums = vaddq_s32(vld1q_s32(s), g->quad.start);
            if (l->output.single_rounding) {
                tt_store_single(&l->output, &g->quad, sums, y);
            } else {
                tt_store_any(l->output, g->quad, sums, y);
            }
        }
    }
}

#define STORE(name, store, ...)                                                                                        \
    TT_INNER_LOOP static void name(const area *r, const group *g) { store(r, g, __VA_ARGS__); }
STORE(small_relu, store_small, TT_STYLE_RELU)
STORE(small_signed, store_small, TT_STYLE_SIGNED)
STORE(three_by_one, store_large, 3, 1)
STORE(three_by_two, store_large, 3, 2)
STORE(four_by_one, store_large, 4, 1)
STORE(four_by_two, store_large, 4, 2)

static void store_group(const area *r, const group *g) {
    const int32_t style = g->quad.style, stride = r->layer->args->window.stride_width, vectors = r->layer->vectors;
    if (style >= TT_STYLE_ANY || r->columns < 2 || r->layer->args->y_channels > MOST_CHANNELS ||
        (vectors > 1 && stride > 2)) {
        store_any(r, g);
    } else if (vectors == 1) {
        style == TT_STYLE_RELU ? small_relu(r, g) : small_signed(r, g);
    } else if (vectors == 3) {
        stride == 1 ? three_by_one(r, g) : three_by_two(r, g);
    } else {
        stride == 1 ? four_by_one(r, g) : four_by_two(r, g);
    }
}

// Rows first..last - 1 of the outputs of some channels, whose inputs these are.
static void store_groups(const layer *l, const part *p, const image *from, int32_t first, int32_t last, int32_t channel,
                         int32_t groups) {
    const tt_window *win = &l->args->window;
    const int32_t pitch = row_bytes(l, p->columns);
    for (int32_t oy = first; oy < last; oy += p->rows) {
        for (int32_t ox = 0; ox < win->y_width; ox += p->columns) {
            int8_t *cells = cells_of(l, p);
            const area r = {l, p, l->args->y + (oy * win->y_width + ox) * l->args->y_channels, tt_min(p->rows, last - oy),
                            tt_min(p->columns, win->y_width - ox), win->y_width * l->args->y_channels,
                            (uint32_t)(uintptr_t)cells - 4 * (uint32_t)channel, (uint32_t)pitch};
            for (int32_t i = 0; i < r.rows; i++) { lay_out_cells(l, p, from, oy + i, ox, cells + i * pitch); }
            for (int32_t i = 0; i < groups; i++) { store_group(&r, group_at(l, p, i)); }
        }
    }
}

// Rows of outputs, up to 16 channels at a time.
static void store_rows(const layer *l, const part *p, int32_t first, int32_t last) {
    const tt_depthwise_conv2d_s8_args *a = l->args;
    const int32_t multiplier = a->channel_multiplier;
    int8_t outside[LANES];
    vst1q_s8(outside, vdupq_n_s8((int8_t)a->x_zero_point));
    find_places(l, p);
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t done = 0, groups; done < block->count; done += CHANNELS * groups) {
            const int32_t c = tt_min(done, tt_max(block->count - CHANNELS * p->groups, 0));
            const int32_t channel = block->start + c, ci = multiplier == 1 ? channel : channel / multiplier;
            uint8_t inputs[LANES] = {0};
            for (int32_t k = 0; k < LANES && multiplier > 1; k++) {
                inputs[k] = (uint8_t)((channel + k) / multiplier - ci);
            }
            const image x = {a->x + ci, a->window.x_width * a->x_channels, a->x_channels, 0, a->window.x_height, outside,
                             vld1q_u8(inputs), multiplier > 1, vctp8q((uint32_t)(block->count - c))};
            groups = lay_out_groups(l, p, block, c, done);
            store_groups(l, p, &x, first, last, channel, groups);
        }
    }
}

// One output of one channel, for other kernels, and where there is no room for cells.
static int8_t slow_output(const layer *l, const tt_depthwise_block *block, const tt_patch *at, int32_t c) {
    const tt_depthwise_conv2d_s8_args *a = l->args;
    const int32_t co = block->start + c, ci = co / a->channel_multiplier;
    int32_t sum = 0;
    for (int32_t ky = at->rows.first; ky < at->rows.last; ky++) {
        const int32_t first = at->columns.first;
        const int8_t *x = a->x + ((at->y0 + ky) * a->window.x_width + at->x0 + first) * a->x_channels + ci;
        const int8_t *w = block->weights + (ky * a->window.kernel_width + first) * block->count + c;
        for (int32_t kx = first; kx < at->columns.last; kx++, x += a->x_channels, w += block->count) {
            sum += (*x - a->x_zero_point) * *w;
        }
    }
    return tt_output_of(&l->output, sum, co);
}

static void store_slowly(const layer *l, int32_t first, int32_t last) {
    const tt_window *win = &l->args->window;
    int8_t *y = l->args->y + first * win->y_width * l->args->y_channels;
    for (int32_t oy = first; oy < last; oy++) {
        for (int32_t ox = 0; ox < win->y_width; ox++, y += l->args->y_channels) {
            const tt_patch at = tt_patch_of(win, oy, ox);
            for (int32_t i = 0; i < l->args->block_count; i++) {
                const tt_depthwise_block *block = &l->args->blocks[i];
                for (int32_t c = 0; c < block->count; c++) { y[block->start + c] = slow_output(l, block, &at, c); }
            }
        }
    }
}

// What fits in some bytes, of so many rows: all columns before more groups, both before more rows. 0 columns: nothing.
static part part_in(const layer *l, int32_t rows, void *memory, int32_t bytes) {
    const tt_window *win = &l->args->window;
    const int32_t few = tt_min(win->y_width, 8), column = win->stride_width * blocks_of(l) * CELL;
    part p = {1, win->y_width, GROUPS, memory};
    while (p.groups > 1 && fixed_bytes(l, p.groups) + row_bytes(l, few) > bytes) { p.groups /= 2; }
    const int32_t room = bytes - fixed_bytes(l, p.groups), over = row_bytes(l, p.columns) - room;
    if (over > 0) {
        p.columns = tt_max(p.columns - (over + column - 1) / column, 0);
    } else {
        p.rows = tt_min(rows, room / row_bytes(l, p.columns));
    }
    return p;
}

static void store_all(const layer *l, void *memory, int32_t bytes) {
    const tt_window *win = &l->args->window;
    const int32_t y_pitch = win->y_width * l->args->y_channels;
    for (int32_t first = 0, last; first < win->y_height; first = last) {
        const int32_t rows = win->y_height - first;
        part p = part_in(l, rows, memory, bytes);
        last = win->y_height;
        if (p.columns < win->y_width || p.groups < GROUPS) {  // the last rows of y may have more room
            const int32_t needed = fixed_bytes(l, GROUPS) + row_bytes(l, win->y_width) + 8;
            const int32_t taken = tt_min((needed + y_pitch - 1) / y_pitch, rows / 2);
            int8_t *later = l->args->y + (last - taken) * y_pitch;
            const int32_t skip = (int32_t)(-(uintptr_t)later & 7);
            const part other = part_in(l, rows - taken, later + skip, taken * y_pitch - skip);
            if (other.columns * other.groups > p.columns * p.groups) {
                p = other;
                last -= taken;
            }
        }
        if (p.columns > 0) {
            store_rows(l, &p, first, last);
        } else {
            store_slowly(l, first, last);
        }
    }
}

static row_constants row_constants_of(const tt_depthwise_conv2d_s8_args *a) {
    const int32_t pixel = a->y_channels;
    const uint16x8_t index = vidupq_n_u16(0, 1), second = vandq_u16(index, vdupq_n_u16(1));
    const row_constants r = {a->y_zero_point, 2 * pixel, 2 * (uint32_t)(a->window.stride_width * CELL), pixel,
                             vmlaq_n_u16(vshrq_n_u16(index, 1), second, (uint16_t)pixel)};
    return r;
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const tt_output output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                              a->single_rounding};
    const int32_t words = (win->kernel_height + 3) / 4 * win->kernel_width;
    const layer l = {a, output, tt_largest_bias(win->kernel_height * win->kernel_width), words,
                     words <= WORDS ? 1 : tt_max(3, (words + WORDS - 1) / WORDS), row_constants_of(a)};
    int64_t own[OWN_BYTES / 8];
    if (words > MOST_WORDS) {
        store_slowly(&l, 0, win->y_height);
    } else if (a->scratch_bytes > OWN_BYTES) {
        store_all(&l, a->scratch, a->scratch_bytes);
    } else {
        store_all(&l, own, OWN_BYTES);
    }
}
