// SPDX-License-Identifier: Apache-2.0
// Windows of an image, each of them gathered in a row of bytes. On cores that load words from any address.
#ifndef TINYTRAIN_DSP_GATHER_H
#define TINYTRAIN_DSP_GATHER_H

#include "tinytrain/dsp.h"
#include "tinytrain/window.h"

// An image [x_height, x_width, channels] and the windows on it.
typedef struct tt_image {
    const int8_t *x;
    const tt_window *window;
    int32_t channels, zero_point;
} tt_image;

static void tt_fill_bytes(int8_t *to, int8_t value, int32_t count) {
    for (int8_t *end = to + count; to != end;) { *to++ = value; }
}

// The last of its words may overlap the one before.
TT_ALWAYS_INLINE static inline void tt_copy_bytes(int8_t *to, const int8_t *from, int32_t count) {
    if (count < 4) {
        for (int8_t *end = to + count; to != end;) { *to++ = *from++; }
        return;
    }
    int8_t *last = to + count - 4;
    memcpy(last, from + count - 4, 4);
    for (; to < last; from += 4, to += 4) { memcpy(to, from, 4); }
}

// A window at the image's border: padded cells are zero points.
TT_INNER_LOOP static void tt_gather_at_border(const tt_image *image, int32_t y0, int32_t x0, int8_t *to) {
    const tt_window *win = image->window;
    const tt_range rows = tt_inside(y0, win->kernel_height, win->x_height);
    const tt_range columns = tt_inside(x0, win->kernel_width, win->x_width);
    const int32_t width = win->kernel_width * image->channels, first = columns.first * image->channels;
    tt_fill_bytes(to, (int8_t)image->zero_point, win->kernel_height * width);
    for (int32_t ky = rows.first; ky < rows.last; ky++) {
        const int8_t *from = image->x + ((y0 + ky) * win->x_width + x0) * image->channels + first;
        tt_copy_bytes(to + ky * width + first, from, tt_max(0, columns.last * image->channels - first));
    }
}

// `rows` rows of a window inside the image. Three words, two of which may overlap, hold three cells of three or four
// channels.
TT_ALWAYS_INLINE static inline void tt_copy_rows(int8_t *to, const int8_t *from, int32_t pitch, int32_t width,
                                                 int32_t rows) {
    if (width < 8 || width > 12) {
        for (; rows > 0; rows--, from += pitch, to += width) { tt_copy_bytes(to, from, width); }
        return;
    }
    for (; rows > 0; rows--, from += pitch, to += width) {
        const uint32_t first = tt_load_bytes(from), second = tt_load_bytes(from + 4);
        const uint32_t last = tt_load_bytes(from + width - 4);
        memcpy(to, &first, 4);
        memcpy(to + 4, &second, 4);
        memcpy(to + width - 4, &last, 4);
    }
}

// Windows inside the image: `count` neighbours, the first of them from `from` on.
TT_INNER_LOOP static void tt_gather_row(const tt_image *image, const int8_t *from, int32_t count, int32_t row,
                                        int8_t *to) {
    const tt_window *win = image->window;
    const int32_t channels = image->channels, step = win->stride_width * channels, rows = win->kernel_height;
    const int32_t pitch = win->x_width * channels, width = win->kernel_width * channels;
    for (; count > 0; count--, from += step, to += row) { tt_copy_rows(to, from, pitch, width, rows); }
}

// The inputs of `count` output pixels, of each one after the other, `row` bytes from one pixel to the next.
TT_INNER_LOOP static void tt_gather(const tt_image *image, int32_t pixel, int32_t count, int32_t row, int8_t *to) {
    const tt_window *win = image->window;
    const int32_t last_x = win->x_width - win->kernel_width, last_y = win->x_height - win->kernel_height;
    int32_t oy = pixel / win->y_width, ox = pixel - oy * win->y_width;
    for (int32_t run = 0; count > 0; count -= run, to += run * row) {
        const int32_t y0 = oy * win->stride_height - win->pad_top, x0 = ox * win->stride_width - win->pad_left;
        if (y0 >= 0 && y0 <= last_y && x0 >= 0 && x0 <= last_x) {
            run = tt_min(tt_min(count, win->y_width - ox), (last_x - x0) / win->stride_width + 1);
            tt_gather_row(image, image->x + (y0 * win->x_width + x0) * image->channels, run, row, to);
        } else {
            run = 1;
            tt_gather_at_border(image, y0, x0, to);
        }
        ox += run;
        if (ox == win->y_width) { ox = 0, oy++; }
    }
}

#endif
