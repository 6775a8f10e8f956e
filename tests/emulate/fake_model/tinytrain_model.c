// SPDX-License-Identifier: Apache-2.0
// logits = W x, hinge-like loss, W -= rate * gradient: three rows. Integers only, so every core gives the same bits.
// FAKE_* macros, put before this text by the tests, make it misbehave.
#include "tinytrain_model.h"

#include <string.h>

#define CLASSES TINYTRAIN_CLASSES
#define INPUTS TINYTRAIN_INPUT_BYTES

extern uint8_t tt_arena[], tt_parameters[];

#define ALIGNED __attribute__((aligned(16)))
ALIGNED uint8_t tt_arena[TINYTRAIN_ARENA_BYTES]; // input [64], logits int32 [3], loss int32, gradient int32 [3], unused
ALIGNED uint8_t tt_parameters[CLASSES * INPUTS * sizeof(int16_t)];

typedef struct {
    int32_t classes;
} fake_args;

static int32_t label, rate_shift;
static uint32_t seed;

static int8_t *input(void) { return (int8_t *)&tt_arena[0]; }
static int32_t *logits(void) { return (int32_t *)(void *)&tt_arena[64]; }
static int32_t *loss(void) { return (int32_t *)(void *)&tt_arena[76]; }
static int32_t *gradient(void) { return (int32_t *)(void *)&tt_arena[80]; }
static int16_t *weights(void) { return (int16_t *)(void *)tt_parameters; }

static void fake_forward(const void *args) {
    const fake_args *a = args;
    for (int32_t c = 0; c < a->classes; c++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < INPUTS; i++) {
            sum += weights()[c * INPUTS + i] * input()[i];
        }
        logits()[c] = sum;
    }
}

static void fake_loss(const void *args) {
#ifdef FAKE_LOOPS
    uint32_t n = FAKE_LOOPS; // two instructions each
    __asm__ volatile("1:\n\tsubs %0, %0, #1\n\tbne 1b" : "+l"(n) : : "cc");
#endif
    const fake_args *a = args;
    int32_t total = 0;
    for (int32_t c = 0; c < a->classes; c++) {
        const int32_t margin = logits()[c] - logits()[label] + (1 << 16);
        gradient()[c] = c != label && margin > 0 ? 1 : 0;
        total += gradient()[c] ? margin : 0;
    }
    gradient()[label] = -(gradient()[0] + gradient()[1] + gradient()[2]);
    loss()[0] = total;
#ifdef FAKE_ARENA_TOP
    tt_arena[TINYTRAIN_ARENA_BYTES - 1] = (uint8_t)seed;
#endif
}

static void fake_update(const void *args) {
    const fake_args *a = args;
    for (int32_t c = 0; c < a->classes; c++) {
        for (int32_t i = 0; i < INPUTS; i++) {
            const int32_t step = (gradient()[c] * input()[i]) / (1 << rate_shift);
            weights()[c * INPUTS + i] = (int16_t)(weights()[c * INPUTS + i] - step);
        }
    }
#ifdef FAKE_READ
    (void)*(volatile const int8_t *)FAKE_READ;
#endif
#ifdef FAKE_WRITE
    *(volatile int8_t *)FAKE_WRITE = 1;
#endif
#ifdef FAKE_RECURSE
    volatile uint8_t frame[64];
    frame[0] = 1;
    if (seed != 0xffffffffu) {
        fake_update(args);
    }
    (void)frame[0];
#endif
#ifdef FAKE_FRAME
    volatile uint8_t large[FAKE_FRAME];
    for (uint32_t i = 0; i < FAKE_FRAME; i++) {
        large[i] = (uint8_t)seed;
        (void)large[i];
    }
#endif
#ifdef FAKE_VARIABLE
    volatile uint8_t variable[seed + 1];
    variable[seed] = 1;
    (void)variable[seed];
#endif
#ifdef FAKE_HANG
    for (;;) {
        __asm__ volatile("");
    }
#endif
#ifdef FAKE_UNALIGNED
    uint32_t word;
    __asm__ volatile("ldr %0, [%1]" : "=l"(word) : "l"(tt_arena + 1)); // gcc would split it, knowing the alignment
    (void)word;
#endif
}

static const fake_args args = {CLASSES};
static const tt_row rows[] = {
    {fake_forward, &args, TT_PHASE_FORWARD},
    {fake_loss, &args, TT_PHASE_LOSS},
    {fake_update, &args, TT_PHASE_UPDATE},
};
const tt_program tinytrain_program = {rows, 3};

tt_status tinytrain_init(void) {
    rate_shift = 4;
    seed = 1;
    for (int32_t i = 0; i < CLASSES * INPUTS; i++) {
        weights()[i] = (int16_t)((i * 37) % 11 - 5);
    }
    return 0;
}

int8_t *tinytrain_input(void) {
#ifdef FAKE_INPUT
    return (int8_t *)FAKE_INPUT;
#else
    return input();
#endif
}

tt_status tinytrain_infer(void) {
    tt_run(&tinytrain_program, TT_RUN_INFER);
    return 0;
}

const int32_t *tinytrain_logits(void) { return logits(); }

int32_t tinytrain_predict(void) {
    int32_t best = 0;
    for (int32_t c = 1; c < CLASSES; c++) {
        best = logits()[c] > logits()[best] ? c : best;
    }
    return best;
}

tt_status tinytrain_train_step(int32_t wanted) {
    if (wanted < 0 || wanted >= CLASSES) {
        return 1;
    }
    label = wanted;
    tt_run(&tinytrain_program, TT_RUN_STEP);
    return 0;
}

tt_status tinytrain_apply(void) { return 0; }
int32_t tinytrain_loss(void) { return loss()[0]; }
int32_t tinytrain_trained_prediction(void) { return tinytrain_predict(); }

// 2^-n becomes a shift by n: the sign and the mantissa are ignored.
tt_status tinytrain_set_learning_rate(float lr) {
    uint32_t bits;
    memcpy(&bits, &lr, sizeof bits);
    rate_shift = 127 - (int32_t)((bits >> 23) & 255u);
    return rate_shift < 0 || rate_shift > 30 ? 1 : 0;
}

void tinytrain_set_seed(uint32_t value) { seed = value; }

uint32_t tinytrain_parameters_crc32(void) {
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < sizeof tt_parameters; i++) {
        crc ^= tt_parameters[i];
        for (int32_t bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xedb88320u : 0u);
        }
    }
    return ~crc;
}
