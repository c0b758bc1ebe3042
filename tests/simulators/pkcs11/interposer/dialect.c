/* Open this file for what a token of another make would say and take, where SoftHSM is the token.
 *
 * SoftHSM keeps Edwards and Montgomery keys alike as EC_EDWARDS, and hands out points in a DER
 * OCTET STRING. Templates are rewritten on the way in (objects.c, operations.c), attributes on the
 * way out (objects.c); no object is remembered, its curve is read from the real token.
 */

#include "dialect.h"

#include <string.h>

/* -- curves ------------------------------------------------------------------------------------ */

#define OCTETS(text) {sizeof(text) - 1, text}

static const struct curve curves[] = {
    {NIST, 65, OCTETS("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), {0, NULL}},
    {NIST, 97, OCTETS("\x06\x05\x2b\x81\x04\x00\x22"), {0, NULL}},
    {NIST, 133, OCTETS("\x06\x05\x2b\x81\x04\x00\x23"), {0, NULL}},
    {EDWARDS, 32, OCTETS("\x06\x03\x2b\x65\x70"), OCTETS("\x13\x0c" "edwards25519")},
    {EDWARDS, 57, OCTETS("\x06\x03\x2b\x65\x71"), OCTETS("\x13\x0a" "edwards448")},
    {MONTGOMERY, 32, OCTETS("\x06\x03\x2b\x65\x6e"), OCTETS("\x13\x0a" "curve25519")},
    {MONTGOMERY, 56, OCTETS("\x06\x03\x2b\x65\x6f"), OCTETS("\x13\x08" "curve448")},
};
#define ED448 (&curves[4])
#define X25519 (&curves[5])
#define CURVES (sizeof curves / sizeof *curves)
static const struct octets nss_x25519 = OCTETS("\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01");

static bool equal(const CK_BYTE *value, CK_ULONG size, struct octets to)
{
    return to.value && size == to.size && !memcmp(value, to.value, size);
}

const struct curve *curve_named(const CK_BYTE *value, CK_ULONG size)
{
    if (equal(value, size, nss_x25519))
        return X25519;
    for (size_t i = 0; i < CURVES; i++)
        if (equal(value, size, curves[i].oid) || equal(value, size, curves[i].printable))
            return &curves[i];
    return NULL;
}

CK_ULONG key_type_of(const struct curve *curve)
{
    if (curve->family == NIST || (curve == X25519 && set(ec_type_x25519)))
        return CKK_EC;
    return curve->family == MONTGOMERY && set(montgomery) ? CKK_EC_MONTGOMERY : CKK_EC_EDWARDS;
}

CK_ULONG generated_by(const struct curve *curve)
{
    switch (key_type_of(curve)) {
    case CKK_EC: return CKM_EC_KEY_PAIR_GEN;
    case CKK_EC_EDWARDS: return CKM_EC_EDWARDS_KEY_PAIR_GEN;
    default: return CKM_EC_MONTGOMERY_KEY_PAIR_GEN;
    }
}

/* What CKA_EC_PARAMS shows; nothing: SoftHSM's own, which is the form it was made by. */
struct octets name_of(const struct curve *curve)
{
    if (curve == X25519 && set(ec_type_x25519))
        return nss_x25519;
    if (set(oids))
        return curve->oid;
    return set(printable_only) ? curve->printable : (struct octets){0, NULL};
}

static bool takes_name(const struct curve *curve, const CK_BYTE *value, CK_ULONG size)
{
    if (curve->family == NIST)
        return true;
    if (curve == X25519 && set(ec_type_x25519))
        return equal(value, size, nss_x25519);
    return !equal(value, size, nss_x25519) && !(set(oids) && equal(value, size, curve->printable))
        && !(set(printable_only) && equal(value, size, curve->oid));
}

bool has_bare_points(const struct curve *curve)
{
    return set(raw_points_all) || (set(raw_points) && curve->family != NIST)
        || (curve == X25519 && set(ec_type_x25519));
}

const struct curve *curve_with_point(CK_ULONG size)
{
    for (size_t i = 0; i < CURVES; i++)
        if (curves[i].point == size && has_bare_points(&curves[i]))
            return &curves[i];
    return NULL;
}

/* Whether the token has this curve, by this name. */
CK_RV may_have(const struct curve *curve, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    const CK_ATTRIBUTE *name = attribute_of(template, count, CKA_EC_PARAMS);
    if (!curve)
        return CKR_OK; /* the real module knows what to say */
    if ((curve == ED448 && set(no_ed448)) || !takes_name(curve, name->value, name->size)
        || (set(no_edwards) && key_type_of(curve) == CKK_EC_EDWARDS))
        return CKR_CURVE_NOT_SUPPORTED;
    return CKR_OK;
}

bool lacks(CK_ULONG mechanism)
{
    switch (mechanism) {
    case CKM_ECDH1_DERIVE:
    case CKM_ECDH1_COFACTOR_DERIVE: return set(no_derive);
    case CKM_EDDSA:
    case CKM_EC_EDWARDS_KEY_PAIR_GEN: return set(no_edwards);
    case CKM_EC_MONTGOMERY_KEY_PAIR_GEN: return !set(montgomery);
    default: return false;
    }
}

/* -- attributes of real objects and of templates ----------------------------------------------- */

CK_RV read_real(CK_ULONG session, CK_ULONG object, CK_ULONG type, CK_BYTE *to, CK_ULONG *size)
{
    CK_ATTRIBUTE attribute = {type, to, *size};
    CK_RV rv = real->C_GetAttributeValue(session, object, &attribute, 1);
    *size = attribute.size;
    return rv;
}

const struct curve *curve_of(CK_ULONG session, CK_ULONG object)
{
    CK_BYTE name[64];
    CK_ULONG size = sizeof name;
    return read_real(session, object, CKA_EC_PARAMS, name, &size) ? NULL : curve_named(name, size);
}

CK_ULONG class_of(CK_ULONG session, CK_ULONG object)
{
    CK_ULONG class = CK_UNAVAILABLE_INFORMATION, size = sizeof class;
    read_real(session, object, CKA_CLASS, (CK_BYTE *)&class, &size);
    return class;
}

const CK_ATTRIBUTE *attribute_of(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type)
{
    for (CK_ULONG i = 0; template && i < count; i++)
        if (template[i].type == type)
            return &template[i];
    return NULL;
}

const struct curve *curve_in(const CK_ATTRIBUTE *template, CK_ULONG count)
{
    const CK_ATTRIBUTE *name = attribute_of(template, count, CKA_EC_PARAMS);
    return name && name->value ? curve_named(name->value, name->size) : NULL;
}

CK_ULONG number_in(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type)
{
    const CK_ATTRIBUTE *attribute = attribute_of(template, count, type);
    CK_ULONG number = CK_UNAVAILABLE_INFORMATION;
    if (attribute && attribute->value && attribute->size == sizeof number)
        memcpy(&number, attribute->value, sizeof number);
    return number;
}

bool says(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type, CK_BYTE value)
{
    const CK_ATTRIBUTE *attribute = attribute_of(template, count, type);
    return attribute && attribute->size == 1 && !*(CK_BYTE *)attribute->value == !value;
}

bool is_unknown(CK_ULONG type)
{
    switch (type) {
    case CKA_MODIFIABLE: return set(no_modifiable);
    case CKA_COPYABLE: return set(no_copyable);
    case CKA_DESTROYABLE: return set(no_destroyable);
    case CKA_ALLOWED_MECHANISMS: return set(no_allowed_mechanisms);
    case CKA_LOCAL:
    case CKA_NEVER_EXTRACTABLE:
    case CKA_ALWAYS_SENSITIVE: return set(no_history);
    default: return false;
    }
}

/* -- templates, on the way in ------------------------------------------------------------------ */

static CK_ULONG wrap_point(CK_BYTE *to, const CK_BYTE *point, CK_ULONG size)
{
    CK_ULONG head = 0;
    to[head++] = 0x04;
    if (size > 127)
        to[head++] = 0x81;
    to[head++] = (CK_BYTE)size;
    memcpy(to + head, point, size);
    return head + size;
}

/* The template in SoftHSM's words. `curve` is that of the key, NULL if it has none. */
CK_RV rewrite(struct rewritten *to, const CK_ATTRIBUTE *from, CK_ULONG count,
                     const struct curve *curve)
{
    to->count = 0;
    to->edwards = CKK_EC_EDWARDS;
    if (count > MOST_ATTRIBUTES || (count && !from))
        return CKR_ARGUMENTS_BAD;
    for (CK_ULONG i = 0; i < count; i++) {
        CK_ATTRIBUTE *item = &to->items[to->count++];
        *item = from[i];
        if (is_unknown(item->type))
            return CKR_ATTRIBUTE_TYPE_INVALID;
        if (!curve)
            continue;
        if (item->type == CKA_KEY_TYPE && curve->family != NIST) {
            if (number_in(item, 1, CKA_KEY_TYPE) != key_type_of(curve))
                return CKR_TEMPLATE_INCONSISTENT;
            item->value = &to->edwards;
        } else if (item->type == CKA_EC_PARAMS && curve->family != NIST) {
            item->value = (void *)curve->printable.value;
            item->size = curve->printable.size;
        } else if (item->type == CKA_EC_POINT && has_bare_points(curve)) {
            if (item->size != curve->point)
                return CKR_ATTRIBUTE_VALUE_INVALID;
            item->size = wrap_point(to->point, item->value, item->size);
            item->value = to->point;
        }
    }
    return CKR_OK;
}

/* One attribute more, or in the place of the one that is there. */
CK_RV put(struct rewritten *to, CK_ULONG type, const void *value, CK_ULONG size)
{
    CK_ATTRIBUTE *item = (CK_ATTRIBUTE *)attribute_of(to->items, to->count, type);
    if (!item && to->count == MOST_ATTRIBUTES)
        return CKR_ARGUMENTS_BAD;
    if (!item)
        item = &to->items[to->count++];
    *item = (CK_ATTRIBUTE){type, (void *)value, size};
    return CKR_OK;
}

/* -- error codes ------------------------------------------------------------------------------- */

enum { ANY = FUNCTIONS };
static const struct { int function; CK_RV usual, other; } other_codes[] = {
    {FUNCTION_C_DeriveKey, CKR_GENERAL_ERROR, CKR_ARGUMENTS_BAD},
    {FUNCTION_C_DeriveKey, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD},
    {FUNCTION_C_DeriveKey, CKR_MECHANISM_PARAM_INVALID, CKR_DOMAIN_PARAMS_INVALID},
    {FUNCTION_C_DeriveKey, CKR_MECHANISM_INVALID, CKR_FUNCTION_NOT_SUPPORTED},
    {FUNCTION_C_DeriveKey, CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID},
    {FUNCTION_C_DeriveKey, CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID},
    {FUNCTION_C_SignInit, CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID},
    {FUNCTION_C_SignInit, CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID},
    {FUNCTION_C_Sign, CKR_DATA_LEN_RANGE, CKR_ARGUMENTS_BAD},
    {FUNCTION_C_GenerateKeyPair, CKR_GENERAL_ERROR, CKR_DOMAIN_PARAMS_INVALID},
    {FUNCTION_C_GetAttributeValue, CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_TYPE_INVALID},
    {ANY, CKR_CURVE_NOT_SUPPORTED, CKR_DOMAIN_PARAMS_INVALID},
    {ANY, CKR_ATTRIBUTE_TYPE_INVALID, CKR_TEMPLATE_INCONSISTENT},
    {ANY, CKR_ATTRIBUTE_VALUE_INVALID, CKR_TEMPLATE_INCONSISTENT},
    {ANY, CKR_TEMPLATE_INCOMPLETE, CKR_ARGUMENTS_BAD},
    {ANY, CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED},
    {ANY, CKR_TOKEN_NOT_PRESENT, CKR_SLOT_ID_INVALID},
};

CK_RV other_code(enum function function, CK_ULONG session, CK_RV rv)
{
    bool key = rv == CKR_OBJECT_HANDLE_INVALID || rv == CKR_KEY_HANDLE_INVALID;
    if (key && session && !logged_in(session))
        return CKR_USER_NOT_LOGGED_IN;
    for (size_t i = 0; i < sizeof other_codes / sizeof *other_codes; i++)
        if (other_codes[i].usual == rv
            && (other_codes[i].function == (int)function || other_codes[i].function == ANY))
            return other_codes[i].other;
    return rv;
}
