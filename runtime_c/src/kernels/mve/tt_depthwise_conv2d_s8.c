// SPDX-License-Identifier: Apache-2.0
// tt_depthwise_conv2d_s8 with VMLADAV, for kernels of up to eight rows and 16 words.
//
// What outputs of a row read of 16 channels is laid out in cells (mve_cells.h), words of the bytes of four rows;
// padding is the zero point. A kernel is such words as well, and a window is neighbouring cells: VMLADAV takes four
// words of it, 64 bytes apart. Four channels of two outputs are summed and requantized together.
//
// Where cells have room for the window of the output below as well, as 3 rows have in 4, the two are one above the
// other: the same cells meet the kernel, and the kernel moved down. Else they are side by side.
//
// Cells and the kernels of 16 channels lie in scratch, in the part of y that is written later, or on the stack.
#include "tinytrain/kernels/depthwise_conv2d.h"
#include "tinytrain/mve_cells.h"
#include "tinytrain/window.h"

enum {
    LANES = 16,
    CHANNELS = 4,       // requantized together: a group
    GROUPS = 4,         // in a cell
    WORDS = 4,          // of a vector
    MOST_WORDS = 16,    // of a kernel, in four vectors
    MIDDLE = 384,       // from a window's cells to where four vectors are within reach of a gather's offset
    OWN_BYTES = 352,    // of the stack
    MOST_STEP = 65532   // 16-bit offsets
};

// Four channels and the vectors of their kernels, as many as there are: of channel after channel, each followed by the
// one moved down where outputs are one above the other. Constants of the layer follow, where loops arrive.
typedef struct group {
    tt_quad quad;
    int8x16_t weights[2 * CHANNELS * MOST_WORDS / WORDS + 1];
} group;

typedef struct layer {
    const tt_depthwise_conv2d_s8_args *args;
    tt_output output;
    int32_t largest_bias;
    int32_t blocks;       // cells of a column
    int32_t words;        // of a kernel
    int32_t tall;         // outputs one above the other: 1, or 2 where memory has room for all columns
    int32_t vectors;      // 1, 4, or 3 of tall outputs
    int32x4_t constants;  // y's zero point; bytes from pair to pair, of y and of cells; 1
    uint32x4_t lanes;     // of the words of a vector
    uint16x8_t places;    // of a pair's four channels in y, each channel's outputs side by side
} layer;

// What is worked on at a time.
typedef struct part {
    int32_t strips, columns;  // rows of cells, and outputs in each
    int32_t groups;
    int8_t *memory;           // groups, then cells
} part;

static int32_t column_step(const layer *l) { return l->args->window.stride_width * l->blocks * TT_CELL; }

static int32_t cells_read(const layer *l, int32_t columns) {
    return (columns - 1) * l->args->window.stride_width + l->args->window.kernel_width;
}

static int32_t row_bytes(const layer *l, int32_t columns) { return cells_read(l, columns) * l->blocks * TT_CELL; }

static int32_t group_bytes(const layer *l) {
    return (int32_t)sizeof(tt_quad) + (l->tall * l->vectors * CHANNELS + 1) * LANES;
}

static group *group_at(const layer *l, const part *p, int32_t i) {
    return (group *)(void *)(p->memory + i * group_bytes(l));
}

static int8_t *cells_of(const layer *l, const part *p) { return (int8_t *)group_at(l, p, p->groups); }

// Of groups, and of cells that a kernel's last vector reaches beyond its words.
static int32_t fixed_bytes(const layer *l, int32_t groups) {
    return groups * group_bytes(l) + (l->vectors > 1 ? (l->vectors * WORDS - l->words) * TT_CELL : 0);
}

// The kernels of channels `first` on of a block of the weight, group by group, of which `done` are done; returns the
// number of groups.
static int32_t lay_out_groups(const layer *l, const part *p, const tt_depthwise_block *block, int32_t first,
                              int32_t done) {
    const int32_t width = l->args->window.kernel_width, height = l->args->window.kernel_height;
    const int32_t together = tt_min(CHANNELS, block->count);
    const int32_t down = l->tall > 1 ? l->args->window.stride_height : 0;
    const tt_image kernel = {.x = block->weights + first,
                             .pitch = width * block->count,
                             .step = block->count,
                             .rows = height,
                             .columns = width,
                             .present = vctp8q((uint32_t)(block->count - first))};
    int8_t *cells = cells_of(l, p);
    tt_lay_out_cells(&kernel, 0, 0, width, l->blocks, cells);
    int32_t groups = 0;
    for (; groups < p->groups && done < block->count; groups++, done += together) {
        const int32_t c = tt_min(done, block->count - together);  // the last four may overlap the four before
        group *to = group_at(l, p, groups);
        const int32x4_t sums = tt_take_vectors(cells + 4 * (c - first), l->words, l->vectors, down, to->weights);
        to->weights[l->tall * l->vectors * CHANNELS] = vreinterpretq_s8_s32(l->constants);
        const int32x4_t zero_sums = vmulq_n_s32(sums, -l->args->x_zero_point);
        to->quad = tt_quad_of(&l->output, block->start + c, together, zero_sums, l->largest_bias);
    }
    return groups;
}

// Neighbouring outputs of some groups.
typedef struct area {
    const layer *layer;
    int8_t *y;
    int32_t strips, columns, y_pitch;  // y_pitch: of strips
    uint32_t cells, pitch;             // where channel 0 would have its cells; bytes of a strip
} area;

// Sums of a channel of two outputs, with one vector of weights each or for both; `at` lies from MIDDLE.
#define ADD_ABOVE(at, sum0, sum1)                                                                                      \
    "vldrw.u32 %q[first], [%q[cells], #" at "]\n\t"                                                                    \
    "vldrb.8 %q[other], [r1], #16\n\t"                                                                                 \
    "vmladava.s8 " sum0 ", %q[first], %q[other]\n\t"                                                                   \
    "vldrb.8 %q[second], [r1], #16\n\t"                                                                                \
    "vmladava.s8 " sum1 ", %q[first], %q[second]\n\t"
#define ADD_BESIDE(at, sum0, sum1)                                                                                     \
    "vldrb.8 %q[other], [r1], #16\n\t"                                                                                 \
    "vldrw.u32 %q[first], [%q[cells], #" at "]\n\t"                                                                    \
    "vmladava.s8 " sum0 ", %q[first], %q[other]\n\t"                                                                   \
    "vldrw.u32 %q[second], [%q[next], #" at "]\n\t"                                                                    \
    "vmladava.s8 " sum1 ", %q[second], %q[other]\n\t"
#define ONE(ADD, channel, sum0, sum1) ADD("-384 + " channel, sum0, sum1)
#define THREE(ADD, channel, sum0, sum1)                                                                                \
    ONE(ADD, channel, sum0, sum1) ADD("-128 + " channel, sum0, sum1) ADD("128 + " channel, sum0, sum1)
#define FOUR(ADD, channel, sum0, sum1) THREE(ADD, channel, sum0, sum1) ADD("384 + " channel, sum0, sum1)

// All whole pairs. VMLADAVA adds to even registers, and all eight are in use: so the loop ends on an address, and
// constants are loaded.
#define STORE_PAIRS(name, VECTORS, ADD, sign, move)                                                                    \
    TT_INNER_LOOP static void name(const area *r, const group *g) {                                                    \
        const layer *l = r->layer;                                                                                     \
        const int32x4_t multiplier = g->quad.multiplier, shift = g->quad.shift;                                        \
        const uint16x8_t places = l->places;                                                                           \
        const int32_t width = r->columns / (3 - l->tall) * vgetq_lane_s32(l->constants, 1);                            \
        const uint32_t step = (uint32_t)column_step(l);                                                                \
        uint32x4_t row = vaddq_n_u32(l->lanes, r->cells + 4 * (uint32_t)g->quad.channel);                              \
        int8_t *y = r->y + g->quad.channel;                                                                            \
        for (int32_t strips = r->strips; strips > 0; strips--, row = vaddq_n_u32(row, r->pitch), y += r->y_pitch) {    \
            uint32x4_t cells = row, next = vaddq_n_u32(cells, step);                                                   \
            int32x4_t first, second, other;                                                                            \
            int8_t *to = y;                                                                                            \
            __asm__ volatile(                                                                                          \
                "1: mov r1, %[start]\n\t"                                                                              \
                "ldm r1!, {r0, r2, r4, r6, r8, r10, r12, lr}\n\t" VECTORS(ADD, "0", "r0", "r8")                        \
                    VECTORS(ADD, "4", "r2", "r10") VECTORS(ADD, "8", "r4", "r12") VECTORS(ADD, "12", "r6", "lr")       \
                "vmov %q[first][2], %q[first][0], r0, r4\n\t"                                                          \
                "vmov %q[first][3], %q[first][1], r2, r6\n\t"                                                          \
                "vmov %q[second][2], %q[second][0], r8, r12\n\t"                                                       \
                "vmov %q[second][3], %q[second][1], r10, lr\n\t"                                                       \
                "ldm r1, {r0, r2, r4, r6}\n\t"                                                                         \
                TT_NARROW("%q[first]", "%q[second]", "%q[multiplier]", "%q[shift]", "r0", sign)                        \
                "vstrb.16 %q[first], [%[y], %q[places]]\n\t" move                                                      \
                "add %[y], r2\n\t"                                                                                     \
                "cmp %[y], %[y_end]\n\t"                                                                               \
                "bne 1b"                                                                                               \
                : [first] "=&w"(first), [second] "=&w"(second), [other] "=&w"(other), [cells] "+w"(cells),             \
                  [next] "+w"(next), [y] "+r"(to)                                                                      \
                : [start] "r"(&g->quad.start), [y_end] "r"(y + width), [multiplier] "w"(multiplier),                   \
                  [shift] "w"(shift), [places] "w"(places)                                                             \
                : "r0", "r1", "r2", "r4", "r6", "r8", "r10", "r12", "lr", "cc", "memory");                             \
        }                                                                                                              \
    }
#define MOVE_ABOVE "vadd.i32 %q[cells], %q[cells], r4\n\t"
#define MOVE_BESIDE MOVE_ABOVE "vadd.i32 %q[next], %q[next], r4\n\t"

#define SIGN_FIX TT_SIGN_FIX("%q[first]", "%q[second]", "r6")

STORE_PAIRS(store_one_above_relu, ONE, ADD_ABOVE, "", MOVE_ABOVE)
STORE_PAIRS(store_one_above, ONE, ADD_ABOVE, SIGN_FIX, MOVE_ABOVE)
STORE_PAIRS(store_one_beside, ONE, ADD_BESIDE, SIGN_FIX, MOVE_BESIDE)
STORE_PAIRS(store_three_above, THREE, ADD_ABOVE, SIGN_FIX, MOVE_ABOVE)
STORE_PAIRS(store_four_above, FOUR, ADD_ABOVE, SIGN_FIX, MOVE_ABOVE)
STORE_PAIRS(store_four_beside, FOUR, ADD_BESIDE, SIGN_FIX, MOVE_BESIDE)

// One output of any style; w: the vectors of its kernel.
static void store_one(const layer *l, const tt_quad *quad, uint32_t cells, const int8x16_t *w, int8_t *y) {
    const uint32x4_t words = vaddq_n_u32(l->lanes, cells - MIDDLE);
    int32_t s[CHANNELS] = {0};
    for (int32_t c = 0; c < CHANNELS; c++) {
        uint32x4_t at = vaddq_n_u32(words, 4 * (uint32_t)c);
        for (int32_t v = 0; v < l->vectors; v++, w += l->tall, at = vaddq_n_u32(at, WORDS * TT_CELL)) {
            s[c] = vmladavaq_s8(s[c], vreinterpretq_s8_s32(vldrwq_gather_base_s32(at, 0)), *w);
        }
    }
    tt_store_quad(&l->output, quad, vld1q_s32(s), y);
}

TT_INNER_LOOP static void store_each(const area *r, const group *g) {
    const layer *l = r->layer;
    const int32_t channel = g->quad.channel, y_pitch = l->args->window.y_width * l->args->y_channels;
    for (int32_t i = 0; i < r->strips * l->tall; i++) {
        uint32_t cells = r->cells + 4 * (uint32_t)channel + (uint32_t)(i / l->tall) * r->pitch;
        int8_t *y = r->y + i * y_pitch + channel;
        for (int32_t ox = 0; ox < r->columns; ox++, cells += (uint32_t)column_step(l), y += l->args->y_channels) {
            store_one(l, &g->quad, cells, g->weights + i % l->tall, y);
        }
    }
}

static void store_beside(const area *r, const group *g) {
    r->layer->vectors == 1 ? store_one_beside(r, g) : store_four_beside(r, g);
}

static void store_group(const area *r, const group *g) {
    const layer *l = r->layer;
    const int saturates = l->output.low == INT8_MIN && l->output.high == INT8_MAX;  // as pairs do
    if (!saturates || g->quad.style >= TT_STYLE_ANY || l->args->y_channels > MOST_STEP ||
        (l->tall == 1 && r->columns < 2)) {
        store_each(r, g);
    } else if (l->tall == 1) {
        store_beside(r, g);
        if (r->columns % 2 != 0) {  // the last one comes with the one before
            area end = *r;
            end.y += (r->columns - 2) * l->args->y_channels;
            end.cells += (uint32_t)((r->columns - 2) * column_step(l));
            end.columns = 2;
            store_beside(&end, g);
        }
    } else if (l->vectors == 1) {
        g->quad.style == TT_STYLE_RELU ? store_one_above_relu(r, g) : store_one_above(r, g);
    } else {
        l->vectors == 3 ? store_three_above(r, g) : store_four_above(r, g);
    }
}

// Rows first..last - 1 of the outputs of some channels, whose inputs these are.
static void store_groups(const layer *l, const part *p, const tt_image *from, int32_t first, int32_t last,
                         int32_t channel, int32_t groups) {
    const tt_window *win = &l->args->window;
    const int32_t pitch = row_bytes(l, p->columns), y_pitch = win->y_width * l->args->y_channels;
    const int32_t tall = l->tall, count = cells_read(l, p->columns);
    int8_t *cells = cells_of(l, p);
    for (int32_t oy = first, strips; oy < last; oy += strips * tall) {
        oy = tt_min(oy, last - tall);  // an odd row comes with the one before
        strips = tt_min(p->strips, (last - oy) / tall);
        for (int32_t ox = 0; ox < win->y_width; ox += p->columns) {
            const area r = {l, l->args->y + oy * y_pitch + ox * l->args->y_channels, strips,
                            tt_min(p->columns, win->y_width - ox), tall * y_pitch,
                            (uint32_t)(uintptr_t)cells - 4 * (uint32_t)channel, (uint32_t)pitch};
            for (int32_t i = 0; i < strips; i++) {
                const int32_t y0 = (oy + i * tall) * win->stride_height - win->pad_top;
                tt_lay_out_cells(from, y0, ox * win->stride_width - win->pad_left, count, l->blocks, cells + i * pitch);
            }
            for (int32_t i = 0; i < groups; i++) { store_group(&r, group_at(l, p, i)); }
        }
    }
}

// Rows of outputs, up to 16 channels at a time.
static void store_rows(const layer *l, const part *p, int32_t first, int32_t last) {
    const tt_depthwise_conv2d_s8_args *a = l->args;
    const int32_t multiplier = a->channel_multiplier;
    for (int32_t i = 0; i < a->block_count; i++) {
        const tt_depthwise_block *block = &a->blocks[i];
        for (int32_t done = 0, groups; done < block->count; done += CHANNELS * groups) {
            const int32_t c = tt_min(done, tt_max(block->count - CHANNELS * p->groups, 0));
            const int32_t channel = block->start + c, ci = multiplier == 1 ? channel : channel / multiplier;
            uint8_t inputs[LANES] = {0};
            for (int32_t k = 0; k < LANES && multiplier > 1; k++) {
                inputs[k] = (uint8_t)((channel + k) / multiplier - ci);
            }
            const tt_image x = {.x = a->x + ci,
                                .pitch = a->window.x_width * a->x_channels,
                                .step = a->x_channels,
                                .rows = a->window.x_height,
                                .columns = a->window.x_width,
                                .outside = vdupq_n_s8((int8_t)a->x_zero_point),
                                .inputs = vld1q_u8(inputs),
                                .gathered = multiplier > 1,
                                .present = vctp8q((uint32_t)(block->count - c))};
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
    const int32_t few = tt_min(win->y_width, 8), column = column_step(l);
    part p = {1, win->y_width, GROUPS, memory};
    while (p.groups > 1 && fixed_bytes(l, p.groups) + row_bytes(l, few) > bytes) { p.groups /= 2; }
    const int32_t room = bytes - fixed_bytes(l, p.groups), over = row_bytes(l, p.columns) - room;
    if (over > 0) {
        p.columns = tt_max(p.columns - (over + column - 1) / column, 0);
    } else {
        p.strips = tt_min((rows + l->tall - 1) / l->tall, room / row_bytes(l, p.columns));
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

// Of outputs one above the other, if their cells have the rows, and the memory room for the kernels; else side by side.
static void choose_pairs(layer *l) {
    const tt_depthwise_conv2d_s8_args *a = l->args;
    const tt_window *win = &a->window;
    const int32_t height = win->kernel_height + win->stride_height, y_pitch = win->y_width * a->y_channels;
    l->tall = 2;
    l->vectors = l->words <= WORDS ? 1 : l->words <= 3 * WORDS ? 3 : 4;
    if (win->stride_height > 2 || height > 4 * l->blocks || win->y_height < 2 || y_pitch > MOST_STEP ||
        fixed_bytes(l, GROUPS) + row_bytes(l, win->y_width) > a->scratch_bytes) {
        l->tall = 1;
        l->vectors = l->vectors > 1 ? 4 : 1;
    }
    const int32_t columns = 3 - l->tall;  // of a pair
    l->constants = (int32x4_t){a->y_zero_point, columns * a->y_channels, columns * column_step(l), 1};
    l->places = tt_places_of(l->tall > 1 ? y_pitch : a->y_channels);
}

void tt_depthwise_conv2d_s8(const void *args) {
    const tt_depthwise_conv2d_s8_args *a = args;
    const tt_window *win = &a->window;
    const int32_t blocks = (win->kernel_height + 3) / 4, words = blocks * win->kernel_width;
    const uint32x4_t lane = vidupq_n_u32(0, 1);
    const uint32x4_t cell = words < WORDS ? vminq_u32(lane, vdupq_n_u32((uint32_t)words - 1)) : lane;
    layer l = {.args = a,
               .output = {a->bias, a->multiplier, a->shift, a->y_zero_point, a->clamp_low, a->clamp_high,
                          a->single_rounding},
               .largest_bias = tt_largest_bias(win->kernel_height * win->kernel_width),
               .blocks = blocks,
               .words = words,
               .lanes = vaddq_n_u32(vmulq_n_u32(cell, TT_CELL), MIDDLE)};
    choose_pairs(&l);
    int64_t own[OWN_BYTES / 8];
    if (words > MOST_WORDS) {
        store_slowly(&l, 0, win->y_height);
    } else if (a->scratch_bytes > OWN_BYTES) {
        store_all(&l, a->scratch, a->scratch_bytes);
    } else {
        store_all(&l, own, OWN_BYTES);
    }
}
