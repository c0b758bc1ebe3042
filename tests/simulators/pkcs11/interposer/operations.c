/* Open this file for the mechanisms of a token of another make, and how it signs and agrees. */

#include "dialect.h"

#include <string.h>

/* -- mechanisms -------------------------------------------------------------------------------- */

CK_RV own_C_GetMechanismList(CK_ULONG slot, CK_ULONG *mechanisms, CK_ULONG *count)
{
    CK_ULONG all[512], found = sizeof all / sizeof *all - 1, kept = 0;
    if (gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    if (!speaks_dialect() || !count)
        return real->C_GetMechanismList(slot, mechanisms, count);
    CK_RV rv = real->C_GetMechanismList(slot, all, &found);
    if (rv)
        return rv;
    for (CK_ULONG i = 0; i < found; i++)
        if (!lacks(all[i]))
            all[kept++] = all[i];
    if (set(montgomery))
        all[kept++] = CKM_EC_MONTGOMERY_KEY_PAIR_GEN;
    bool fits = kept <= *count;
    *count = kept;
    if (mechanisms && fits)
        memcpy(mechanisms, all, kept * sizeof *all);
    return mechanisms && !fits ? CKR_BUFFER_TOO_SMALL : CKR_OK;
}

CK_RV own_C_GetMechanismInfo(CK_ULONG slot, CK_ULONG type, void *info)
{
    if (gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    if (speaks_dialect() && lacks(type))
        return CKR_MECHANISM_INVALID;
    if (type == CKM_EC_MONTGOMERY_KEY_PAIR_GEN && set(montgomery))
        type = CKM_EC_EDWARDS_KEY_PAIR_GEN;
    return real->C_GetMechanismInfo(slot, type, info);
}

/* -- signing ----------------------------------------------------------------------------------- */

CK_RV own_C_SignInit(CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG key)
{
    if (mechanism && lacks(mechanism->type))
        return CKR_MECHANISM_INVALID;
    CK_RV rv = real->C_SignInit(session, mechanism, key);
    lock();
    struct session *state = find_session(session);
    if (!rv && state)
        state->signs_der = set(ecdsa_der) && mechanism->type >= CKM_ECDSA
            && mechanism->type <= CKM_ECDSA_SHA512;
    unlock();
    return rv;
}

static CK_ULONG put_integer(CK_BYTE *to, const CK_BYTE *number, CK_ULONG size)
{
    for (; size > 1 && !*number; number++)
        size--;
    CK_ULONG sign = *number >> 7;
    to[0] = 0x02;
    to[1] = (CK_BYTE)(size + sign);
    to[2] = 0;
    memcpy(to + 2 + sign, number, size);
    return 2 + sign + size;
}

static CK_ULONG put_sequence(CK_BYTE *to, const CK_BYTE *raw, CK_ULONG size)
{
    CK_BYTE numbers[256];
    CK_ULONG length = put_integer(numbers, raw, size / 2);
    length += put_integer(numbers + length, raw + size / 2, size / 2);
    CK_ULONG head = 0;
    to[head++] = 0x30;
    if (length > 127)
        to[head++] = 0x81;
    to[head++] = (CK_BYTE)length;
    memcpy(to + head, numbers, length);
    return head + length;
}

CK_RV own_C_Sign(CK_ULONG session, CK_BYTE *in, CK_ULONG in_size, CK_BYTE *out, CK_ULONG *out_size)
{
    CK_BYTE raw[192];
    CK_ULONG size = sizeof raw;
    lock();
    struct session *state = find_session(session);
    bool der = state && state->signs_der;
    unlock();
    if (!der || !out_size)
        return real->C_Sign(session, in, in_size, out, out_size);
    CK_RV rv = real->C_Sign(session, in, in_size, NULL, &size);
    CK_ULONG room = size + 9; /* two heads of two octets, two signs, one head of three */
    if (rv || !out || *out_size < room) {
        *out_size = room;
        return rv ? rv : out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
    }
    size = sizeof raw;
    if ((rv = real->C_Sign(session, in, in_size, raw, &size)))
        return rv;
    *out_size = put_sequence(out, raw, size);
    return CKR_OK;
}

/* -- agreement --------------------------------------------------------------------------------- */

static CK_RV may_agree(CK_ULONG session, const CK_MECHANISM *mechanism, CK_ULONG base)
{
    const CK_ECDH1_DERIVE_PARAMS *parameters = mechanism->parameter;
    const struct curve *curve = curve_of(session, base);
    bool ecdh = mechanism->type == CKM_ECDH1_DERIVE || mechanism->type == CKM_ECDH1_COFACTOR_DERIVE;
    if (lacks(mechanism->type))
        return CKR_MECHANISM_INVALID;
    if (!ecdh || !parameters || mechanism->size != sizeof *parameters || !curve)
        return CKR_OK;
    bool bare = parameters->public_size == curve->point;
    if ((set(no_null_kdf) && parameters->kdf == CKD_NULL) || (set(raw_peer_only) && !bare)
        || (set(der_peer_only) && bare))
        return CKR_MECHANISM_PARAM_INVALID;
    return CKR_OK;
}

CK_RV own_C_DeriveKey(
    CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG base, CK_ATTRIBUTE *template,
    CK_ULONG count, CK_ULONG *made)
{
    static const CK_BYTE no = 0, yes = 1;
    struct rewritten rewritten;
    CK_RV rv;
    if (!speaks_dialect() || !mechanism)
        return real->C_DeriveKey(session, mechanism, base, template, count, made);
    if ((rv = may_agree(session, mechanism, base))
        || (rv = rewrite(&rewritten, template, count, NULL)))
        return rv;
    bool readable =
        says(template, count, CKA_SENSITIVE, 0) || says(template, count, CKA_EXTRACTABLE, 1);
    if ((set(no_value_len) && attribute_of(template, count, CKA_VALUE_LEN))
        || (set(sensitive_derived) && readable))
        return CKR_TEMPLATE_INCONSISTENT;
    if (set(silently_sensitive)
        && ((rv = put(&rewritten, CKA_SENSITIVE, &yes, 1))
            || (rv = put(&rewritten, CKA_EXTRACTABLE, &no, 1))))
        return rv;
    return real->C_DeriveKey(session, mechanism, base, rewritten.items, rewritten.count, made);
}
