// The hooks of steering/slot.h and ending.h as declarations only: what check_headers.py puts in front of the
// headers of steering/ that a plane includes after its own hooks.
#ifndef GODWIT_TOOLS_PLANE_HOOKS_H
#define GODWIT_TOOLS_PLANE_HOOKS_H

#include "steering/parse.h"
#include "steering/slot.h"

struct steer_plane {
    uint32_t port;
};

struct steer_line *steer_line(struct steer_plane *plane, enum steer_table table, uint32_t index);
const struct steer_config *steer_config(struct steer_plane *plane);
uint32_t steer_tick(struct steer_plane *plane);
struct vm_record *steer_vm(struct steer_plane *plane, uint32_t vm);
const struct steer_address *steer_hosted(struct steer_plane *plane, const struct steer_packet *p,
                                         const uint32_t *be);
const struct steer_identity *steer_sender(struct steer_plane *plane, const uint8_t *source_mac);
const struct steer_translation *steer_translation_of(struct steer_plane *plane, uint32_t vm, uint32_t slot);
uint32_t *steer_direct(struct steer_plane *plane, const struct steer_key *key, bool make);
void steer_drained(struct steer_plane *plane, struct vm_record *vm, uint32_t epoch);
bool steer_resets_unused(struct steer_plane *plane);
bool steer_reset_known(struct steer_plane *plane, const struct steer_key *key);
void steer_reset_add(struct steer_plane *plane, const struct steer_key *key);
void steer_reset_remove(struct steer_plane *plane, const struct steer_key *key);

#endif
