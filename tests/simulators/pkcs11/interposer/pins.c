/* Open this file for PINs whose tries run out, which SoftHSM's never do, and for what is said of
 * PINs in CK_TOKEN_INFO.
 */

#include "interposer.h"

#include <stdlib.h>
#include <string.h>

static struct pins {
    CK_ULONG slot;
    long wrong[CKU_COUNT];
} pins[256];
static size_t pins_known;

static struct pins *pins_of(CK_ULONG slot) /* under lock() */
{
    for (size_t i = 0; i < pins_known; i++)
        if (pins[i].slot == slot)
            return &pins[i];
    if (pins_known == sizeof pins / sizeof *pins)
        abort();
    struct pins *made = &pins[pins_known++];
    *made = (struct pins){.slot = slot};
    for (int user = 0; user < CKU_COUNT; user++)
        made->wrong[user] = set(tries_used);
    return made;
}

static long tries_of(CK_ULONG user)
{
    switch (user) {
    case CKU_SO: return set(so_tries);
    case CKU_USER: return set(tries);
    case CKU_CONTEXT_SPECIFIC: return set(context_tries);
    default: return 0;
    }
}

static bool is_locked(CK_ULONG slot, CK_ULONG user)
{
    if (!tries_of(user))
        return false;
    lock();
    bool answer = pins_of(slot)->wrong[user] >= tries_of(user);
    unlock();
    return answer;
}

/* Count what the real module said of a PIN, and hand it on. */
static CK_RV tried(CK_ULONG slot, CK_ULONG user, CK_RV rv)
{
    if (user < CKU_COUNT && (rv == CKR_OK || rv == CKR_PIN_INCORRECT)) {
        lock();
        struct pins *state = pins_of(slot);
        state->wrong[user] = rv ? state->wrong[user] + 1 : 0;
        unlock();
    }
    return rv;
}

/* Every PIN of every token has all its tries again. */
EXPORTED void interposer_unlock(void)
{
    lock();
    memset(pins, 0, sizeof pins);
    pins_known = 0;
    set(tries_used) = 0;
    unlock();
}

static CK_ULONG pin_flags(CK_ULONG slot, CK_ULONG user)
{
    lock();
    long used = pins_of(slot)->wrong[user], left = tries_of(user) - used;
    unlock();
    return (used ? CKF_USER_PIN_COUNT_LOW : 0) | (left == 1 ? CKF_USER_PIN_FINAL_TRY : 0)
        | (left <= 0 ? CKF_USER_PIN_LOCKED : 0);
}

CK_RV own_C_GetTokenInfo(CK_ULONG slot, CK_TOKEN_INFO *info)
{
    const CK_ULONG counted = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    if (gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    CK_RV rv = real->C_GetTokenInfo(slot, info);
    if (rv)
        return rv;
    if (set(tries))
        info->flags = (info->flags & ~counted) | pin_flags(slot, CKU_USER);
    if (set(so_tries))
        info->flags = (info->flags & ~(counted << SO_PIN_FLAGS_SHIFT))
            | pin_flags(slot, CKU_SO) << SO_PIN_FLAGS_SHIFT;
    if (set(pin_to_be_changed))
        info->flags |= CKF_USER_PIN_TO_BE_CHANGED;
    if (set(protected_path))
        info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    if (set(session_limit) && set(session_limit_said))
        info->max_sessions = info->max_rw_sessions = (CK_ULONG)set(session_limit);
    return CKR_OK;
}

CK_RV own_C_Login(CK_ULONG session, CK_ULONG user, CK_BYTE *pin, CK_ULONG size)
{
    CK_ULONG slot = slot_of(session);
    if (is_locked(slot, user))
        return CKR_PIN_LOCKED;
    if (!pin && set(protected_path)) {
        pin = (CK_BYTE *)pinpad_pin;
        size = strlen(pinpad_pin);
    }
    return tried(slot, user, real->C_Login(session, user, pin, size));
}

CK_RV own_C_SetPIN(
    CK_ULONG session, CK_BYTE *old, CK_ULONG old_size, CK_BYTE *new, CK_ULONG new_size)
{
    CK_SESSION_INFO info;
    CK_ULONG slot = slot_of(session), user = CKU_USER;
    if (!real->C_GetSessionInfo(session, &info) && info.state == CKS_RW_SO)
        user = CKU_SO;
    if (is_locked(slot, user))
        return CKR_PIN_LOCKED;
    CK_RV rv = tried(slot, user, real->C_SetPIN(session, old, old_size, new, new_size));
    if (!rv && user == CKU_USER)
        set(pin_to_be_changed) = 0;
    return rv;
}

CK_RV own_C_InitPIN(CK_ULONG session, CK_BYTE *in, CK_ULONG in_size)
{
    CK_RV rv = real->C_InitPIN(session, in, in_size);
    return rv ? rv : tried(slot_of(session), CKU_USER, CKR_OK);
}

CK_RV own_C_InitToken(CK_ULONG slot, CK_BYTE *pin, CK_ULONG size, CK_BYTE *label)
{
    if (gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    if (is_locked(slot, CKU_SO))
        return CKR_PIN_LOCKED;
    CK_RV rv = tried(slot, CKU_SO, real->C_InitToken(slot, pin, size, label));
    return rv ? rv : tried(slot, CKU_USER, CKR_OK);
}
