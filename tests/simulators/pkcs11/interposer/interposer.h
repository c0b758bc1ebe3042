/* What the interposer's files share: settings, the real module, and the functions with own code. */

#ifndef INTERPOSER_H
#define INTERPOSER_H

#include <stdbool.h>
#include <stddef.h>

#include "cryptoki.h"

/* A dialect's features: 0 or 1. What each does is told at the top of interposer.c. */
#define EACH_FEATURE(F) \
    F(raw_points) F(raw_points_all) F(montgomery) F(ec_type_x25519) F(oids) F(printable_only) \
    F(no_edwards) F(no_ed448) F(no_derive) F(raw_peer_only) F(der_peer_only) F(no_null_kdf) \
    F(sensitive_derived) F(silently_sensitive) F(stripped_z) F(ecdsa_der) F(extractable) \
    F(no_history) F(no_modifiable) F(no_copyable) F(no_destroyable) F(no_allowed_mechanisms) \
    F(no_value_len) F(login_first) F(own_ids) F(other_codes) F(cannot_lock)

/* Numbers and switches that belong to the token, not to its dialect. */
#define EACH_QUANTITY(F) \
    F(tries) F(so_tries) F(context_tries) F(tries_used) F(session_limit) F(session_limit_said) \
    F(removed_code) F(pin_to_be_changed) F(protected_path)

#define SETTING(name) SETTING_##name,
enum setting { EACH_FEATURE(SETTING) FEATURES, _ = FEATURES - 1, EACH_QUANTITY(SETTING) SETTINGS };

extern long settings[SETTINGS];
#define set(name) (settings[SETTING_##name])
bool speaks_dialect(void); /* any feature at all */

extern const CK_FUNCTION_LIST *real;
extern char pinpad_pin[256];

/* The interposer's own state, never held during a call of the real module. */
void lock(void);
void unlock(void);

#define EXPORTED __attribute__((visibility("default")))

/* token.c */
struct session {
    CK_ULONG handle, slot;
    CK_ULONG wanted_type; /* the key type that a search asked for, or CK_UNAVAILABLE_INFORMATION */
    bool signs_der;
};
struct session *find_session(CK_ULONG handle); /* under lock(); NULL if it is none of ours */
CK_ULONG slot_of(CK_ULONG session);
bool logged_in(CK_ULONG session);
bool is_initialised(void);
bool gone(CK_ULONG slot); /* its token has been removed */
CK_RV enter_device(CK_ULONG session); /* refuses where the token is gone; else leave_device() */
void leave_device(void);
void insert_all(void);
void new_device_locks(void); /* in a forked child, whose other threads are gone */

/* pins.c */
void interposer_unlock(void);

/* dialect.c */
CK_RV other_code(enum function function, CK_ULONG session, CK_RV rv);

#define OWN_real(name, shape)
#define OWN_own(name, shape) CK_RV own_##name TAKES_##shape;
#define OWN(name, way, session, shape) OWN_##way(name, shape)
EACH_FUNCTION(OWN)

#endif
