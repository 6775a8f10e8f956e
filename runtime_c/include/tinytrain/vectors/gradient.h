// SPDX-License-Identifier: Apache-2.0
// Mantissas in vectors.
#ifndef TINYTRAIN_VECTORS_GRADIENT_H
#define TINYTRAIN_VECTORS_GRADIENT_H

#include "tinytrain/gradient.h"
#include "tinytrain/vectors.h"

static inline tt_vector tt_load_mantissas(const tt_mantissa *from) {
#if TT_GRADIENT_BITS == 8
    return tt_load_s8(from);
#else
    return tt_load_s16(from);
#endif
}

#endif
