// SPDX-License-Identifier: Apache-2.0
// The four functions gcc may call whatever the source says. No libc is linked, so that the ledger knows every byte.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Else gcc recognises these loops and replaces each by a call to the function it stands in.
#pragma GCC optimize("no-tree-loop-distribute-patterns")

typedef uint32_t __attribute__((may_alias)) word;

// Ascending, a unit at a time: also right when the destination overlaps the source from below, as memmove needs.
static void copy_up(uint8_t *d, const uint8_t *s, size_t size) {
    if ((((uintptr_t)d | (uintptr_t)s) & 3u) == 0) {
        for (; size >= 4; size -= 4, d += 4, s += 4) {
            *(word *)(void *)d = *(const word *)(const void *)s;
        }
    }
    for (; size > 0; size--) {
        *d++ = *s++;
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    copy_up(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((uintptr_t)d - (uintptr_t)s >= size) { // also when d is below s: the difference wraps
        copy_up(d, s, size);
        return to;
    }
    while (size > 0) {
        size--;
        d[size] = s[size];
    }
    return to;
}

void *memset(void *to, int value, size_t size) {
    uint8_t *d = to;
    const uint8_t byte = (uint8_t)value;
    for (; size > 0 && ((uintptr_t)d & 3u) != 0; size--) {
        *d++ = byte;
    }
    for (; size >= 4; size -= 4, d += 4) {
        *(word *)(void *)d = byte * 0x01010101u;
    }
    for (; size > 0; size--) {
        *d++ = byte;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t size) {
    const uint8_t *a = left, *b = right;
    for (; size > 0; size--, a++, b++) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}
