// SPDX-License-Identifier: Apache-2.0
// Saving and loading what was learned.
#include "tinytrain/model.h"

enum { SAVED_REGIONS = TT_OPTIMIZER + 1 };

typedef struct header {
    uint32_t magic;
    uint32_t identity;
    uint32_t size;
    uint32_t crc;
} header;

#define MAGIC 0x31525474U  // "tTR1"

uint32_t tt_crc32(uint32_t crc, const uint8_t *bytes, uint32_t size) {
    crc = ~crc;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int32_t bit = 0; bit < 8; bit++) { crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U); }
    }
    return ~crc;
}

static uint32_t crc_of_regions(const tt_model *model, int32_t count) {
    uint32_t crc = 0;
    for (int32_t i = 0; i < count; i++) { crc = tt_crc32(crc, model->regions[i].memory, model->regions[i].size); }
    return crc;
}

uint32_t tt_model_crc32(const tt_model *model) { return crc_of_regions(model, TT_MASTERS + 1); }

static header header_of(const tt_model *model) {
    header h = {MAGIC, model->identity, 0, 0};
    for (int32_t i = 0; i < SAVED_REGIONS; i++) { h.size += model->regions[i].size; }
    h.crc = crc_of_regions(model, SAVED_REGIONS);
    return h;
}

tt_status tt_model_save(const tt_model *model, tt_write_fn write, void *context) {
    const header h = header_of(model);
    tt_status status = write(context, &h, sizeof h);
    for (int32_t i = 0; i < SAVED_REGIONS && status == TT_OK; i++) {
        status = write(context, model->regions[i].memory, model->regions[i].size);
    }
    return status;
}

tt_status tt_model_load(const tt_model *model, tt_read_fn read, void *context) {
    header saved;
    const header own = header_of(model);
    tt_status status = read(context, &saved, sizeof saved);
    if (status == TT_OK && (saved.magic != MAGIC || saved.identity != own.identity || saved.size != own.size)) {
        status = TT_BAD_STORE;
    }
    for (int32_t i = 0; i < SAVED_REGIONS && status == TT_OK; i++) {
        status = read(context, model->regions[i].memory, model->regions[i].size);
    }
    if (status == TT_OK && crc_of_regions(model, SAVED_REGIONS) != saved.crc) { status = TT_BAD_STORE; }
    if (status != TT_OK) { tt_model_init(model); }
    return status;
}
