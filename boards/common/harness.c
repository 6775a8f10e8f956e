// SPDX-License-Identifier: Apache-2.0
// The program on the emulated board: carries out a stream of commands from the host and prints what happened.
// The other side, with the same numbers, is tinytrain/emulate/protocol.py.
//
// Input, two files in the emulator's directory:
//   commands.bin  12-byte records {operation, a, b} of little-endian uint32; the first must be BEGIN
//   samples.bin   the int8 samples one after the other; commands name them by index, so an epoch costs 12 bytes a step
//
//   BEGIN    a = bytes of a sample, b = print progress every b samples (0: only when a pass ends)
//   RATE     a = bits of a float: the learning rate from here on; b = samples of a batch
//   SEED     a = seed of the random numbers
//   TRAIN    a = sample, b = label: one training step
//   APPLY    applies accumulated gradients
//   EVALUATE a = sample, b = label: inference, and whether it is right
//            (an auto-encoder ignores labels, and nothing is right)
//   LOGITS   a = sample: inference, and its logits
//   COUNT    a = sample, b = label: counts the instructions of an inference and of a step, whole and row by row
//   REPORT   prints the parameters' CRC and the high-water marks
//   END      ends the emulation
//
// Output, one line each, values in hexadecimal:
//   @begin input= arena= outputs=          what the firmware was built for
//   @train count= loss= correct= last=     since the line before; last=1 when the pass is over. loss: Q16, summed
//   @eval count= correct= last=
//   @logit class= value=                   class: the index of an output
//   @report crc= arena= stack= handler_stack=
//   @clock pair= empty= loop= loop_wraps=  ticks of nothing, of an empty call and of a known loop (the host's check)
//   @total index= phase=0 ticks= wraps=    index: 0 inference, 1 train_step, 2 apply
//   @row index= phase= ticks= wraps=
//   @end      and, instead of it, @error TEXT value=  or  @fault ... (fault.c)
//
// Statics: none. Samples are read by semihosting straight into the model's input.
#include <string.h>

#include "board.h"
#include "semihost.h"
#include "tinytrain_model.h"

enum { END, BEGIN, RATE, SEED, TRAIN, APPLY, EVALUATE, LOGITS, COUNT, REPORT };
enum { TOTAL_INFERENCE, TOTAL_TRAIN_STEP, TOTAL_APPLY };

// 2 instructions each. Long enough to wrap the 24-bit counter on every board.
#define CLOCK_LOOPS 0x400000u
#define ARENA_PAINT 0xa6u

extern uint8_t tt_arena[];

typedef struct {
    uint32_t operation, a, b;
} command;

typedef struct {
    int32_t commands, samples; // open files
    uint32_t progress;
    uint32_t arena_used; // high-water mark so far
    uint32_t pass;       // TRAIN or EVALUATE while such a pass is on, else END
    uint32_t count, correct;
    int64_t loss;
} session;

static void check(tt_status status, const char *text) {
    if (status != 0) {
        board_fail(text, (uint32_t)status);
    }
}

// A step, and an inference: each returns 1 where the label was predicted.
#if TINYTRAIN_CLASSES > 0
static uint32_t train_step(uint32_t label) {
    check(tinytrain_train_step((int32_t)label), "tinytrain_train_step refused");
    return tinytrain_trained_prediction() == (int32_t)label ? 1u : 0u;
}

static uint32_t infer(uint32_t label) {
    check(tinytrain_infer(), "tinytrain_infer refused");
    return tinytrain_predict() == (int32_t)label ? 1u : 0u;
}
#else
static uint32_t train_step(uint32_t label) {
#if TINYTRAIN_TARGETS > 0
    board_fail("the commands carry no targets, which this model is trained on", label);
#else
    (void)label;
    check(tinytrain_train_reconstruct(), "tinytrain_train_reconstruct refused");
    return 0;
#endif
}

static uint32_t infer(uint32_t label) {
    (void)label;
    check(tinytrain_infer(), "tinytrain_infer refused");
    return 0;
}
#endif

// Looked at after every step: a byte that happens to hold the paint once will hardly do so each time.
static void mark_arena(session *s) {
    uint32_t top = TINYTRAIN_ARENA_BYTES;
    while (top > s->arena_used && tt_arena[top - 1] == ARENA_PAINT) {
        top--;
    }
    s->arena_used = top;
}

static void load_sample(const session *s, uint32_t index) {
    int8_t *input = tinytrain_input();
    const uint8_t *first = (const uint8_t *)input;
    if (first < board_sram_start || first + TINYTRAIN_INPUT_BYTES > board_sram_end) {
        board_fail("tinytrain_input() lies outside SRAM", (uint32_t)(uintptr_t)input);
    }
    if (board_seek(s->samples, index * TINYTRAIN_INPUT_BYTES) != 0 ||
        board_read(s->samples, input, TINYTRAIN_INPUT_BYTES) != 0) {
        board_fail("no such sample", index);
    }
}

static void print_progress(session *s, uint32_t last) {
    board_put(s->pass == TRAIN ? "@train" : "@eval");
    board_put_field("count", s->count);
    if (s->pass == TRAIN) {
        board_put_field("loss", (uint64_t)s->loss);
    }
    board_put_field("correct", s->correct);
    board_put_field("last", last);
    board_put("\n");
    s->count = 0;
    s->correct = 0;
    s->loss = 0;
}

static void end_pass(session *s) {
    if (s->pass != END) {
        print_progress(s, 1);
    }
    s->pass = END;
}

static void one_sample(session *s, const command *c) {
    if (s->pass != c->operation) {
        end_pass(s);
        s->pass = c->operation;
    } else if (s->progress != 0 && s->count == s->progress) {
        print_progress(s, 0);
    }
    load_sample(s, c->a);
    if (c->operation == TRAIN) {
        s->correct += train_step(c->b);
        s->loss += tinytrain_loss();
    } else {
        s->correct += infer(c->b);
    }
    s->count++;
    mark_arena(s);
}

static void print_logits(session *s, uint32_t sample) {
    load_sample(s, sample);
    check(tinytrain_infer(), "tinytrain_infer refused");
    for (uint32_t i = 0; i < TINYTRAIN_OUTPUTS; i++) {
        board_put("@logit");
        board_put_field("class", i);
        board_put_field("value", (uint32_t)tinytrain_logits()[i]);
        board_put("\n");
    }
    mark_arena(s);
}

static void print_report(const session *s) {
    board_put("@report");
    board_put_field("crc", tinytrain_parameters_crc32());
    board_put_field("arena", s->arena_used);
    board_put_field("stack", board_stack_used(board_stack_start, board_stack_end));
    board_put_field("handler_stack", board_stack_used(board_handler_stack_start, board_handler_stack_end));
    board_put("\n");
}

static void call_nothing(const void *argument) { (void)argument; }

static void call_loop(const void *argument) {
    (void)argument;
    uint32_t n = CLOCK_LOOPS;
    __asm__ volatile("1:\n\tsubs %0, %0, #1\n\tbne 1b" : "+l"(n) : : "cc");
}

static void print_spent(const char *kind, uint32_t which, uint32_t phase, board_count spent) {
    board_put(kind);
    board_put_field("index", which);
    board_put_field("phase", phase);
    board_put_field("ticks", spent.ticks);
    board_put_field("wraps", spent.wraps);
    board_put("\n");
}

static void count_totals(session *s, const command *c) {
    load_sample(s, c->a);
    board_count begin = board_count_now();
    check(tinytrain_infer(), "tinytrain_infer refused");
    print_spent("@total", TOTAL_INFERENCE, 0, board_count_since(begin));
    mark_arena(s);
    load_sample(s, c->a);
    begin = board_count_now();
    train_step(c->b);
    print_spent("@total", TOTAL_TRAIN_STEP, 0, board_count_since(begin));
    mark_arena(s);
    begin = board_count_now();
    check(tinytrain_apply(), "tinytrain_apply refused");
    print_spent("@total", TOTAL_APPLY, 0, board_count_since(begin));
}

// The rows are run on their own, after a whole step has set the label: the same calls, measured one by one.
static void count_rows(session *s, const command *c) {
    load_sample(s, c->a);
    for (int32_t i = 0; i < tinytrain_program.row_count; i++) {
        const tt_row *row = &tinytrain_program.rows[i];
        print_spent("@row", (uint32_t)i, (uint32_t)row->phase, board_count_call(row->kernel, row->args));
    }
    mark_arena(s);
}

static void count_instructions(session *s, const command *c) {
    board_count_start();
    const board_count empty = board_count_call(call_nothing, c);
    const board_count loop = board_count_call(call_loop, c);
    const board_count pair = board_count_since(board_count_now());
    board_put("@clock");
    board_put_field("pair", pair.ticks);
    board_put_field("empty", empty.ticks);
    board_put_field("loop", loop.ticks);
    board_put_field("loop_wraps", loop.wraps);
    board_put("\n");
    count_totals(s, c);
    count_rows(s, c);
}

static tt_status set_learning_rate(uint32_t bits, uint32_t samples) {
    float rate;
    memcpy(&rate, &bits, sizeof rate);
#if TINYTRAIN_ACCUMULATES
    return tinytrain_set_batch_rate(rate, samples);
#else
    (void)samples;
    return tinytrain_set_learning_rate(rate);
#endif
}

static void next_command(const session *s, command *c) {
    if (board_read(s->commands, c, sizeof *c) != 0) {
        board_fail("the command stream ended without END", 0);
    }
}

static void begin(session *s) {
    command c;
    s->commands = board_open("commands.bin", 12);
    s->samples = board_open("samples.bin", 11);
    if (s->commands < 0 || s->samples < 0) {
        board_fail("commands.bin or samples.bin cannot be opened", 0);
    }
    next_command(s, &c);
    if (c.operation != BEGIN) {
        board_fail("the command stream does not start with BEGIN", c.operation);
    }
    board_put("@begin");
    board_put_field("input", TINYTRAIN_INPUT_BYTES);
    board_put_field("arena", TINYTRAIN_ARENA_BYTES);
    board_put_field("outputs", TINYTRAIN_OUTPUTS);
    board_put("\n");
    if (c.a != TINYTRAIN_INPUT_BYTES) {
        board_fail("samples of the wrong size", c.a);
    }
    s->progress = c.b;
    memset(tt_arena, ARENA_PAINT, TINYTRAIN_ARENA_BYTES);
    check(tinytrain_init(), "tinytrain_init refused");
}

static void run(session *s, const command *c) {
    switch (c->operation) {
    case RATE: check(set_learning_rate(c->a, c->b), "tinytrain_set_learning_rate refused"); return;
    case SEED: tinytrain_set_seed(c->a); return;
    case APPLY: check(tinytrain_apply(), "tinytrain_apply refused"); return;
    case TRAIN:
    case EVALUATE: one_sample(s, c); return;
    default: break;
    }
    end_pass(s);
    switch (c->operation) {
    case LOGITS: print_logits(s, c->a); return;
    case COUNT: count_instructions(s, c); return;
    case REPORT: print_report(s); return;
    default: board_fail("unknown command", c->operation);
    }
}

int main(void) {
    session s = {.pass = END};
    command c;
    begin(&s);
    for (next_command(&s, &c); c.operation != END; next_command(&s, &c)) {
        run(&s, &c);
    }
    end_pass(&s);
    board_put("@end\n");
    board_exit(0);
}
