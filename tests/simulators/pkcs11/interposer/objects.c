/* Open this file for objects of a token of another make: made, found and read. */

#include "dialect.h"

#include <string.h>
#include <sys/random.h>

/* -- making ------------------------------------------------------------------------------------ */

struct own_id { CK_BYTE octets[8]; };

static CK_RV give_id(struct rewritten *to, struct own_id *id)
{
    return set(own_ids) ? put(to, CKA_ID, id->octets, sizeof id->octets) : CKR_OK;
}

static CK_RV may_make(CK_ULONG session, struct own_id *id)
{
    if (getrandom(id, sizeof *id, 0) != sizeof *id)
        return CKR_GENERAL_ERROR;
    return set(login_first) && !logged_in(session) ? CKR_USER_NOT_LOGGED_IN : CKR_OK;
}

CK_RV own_C_GenerateKeyPair(
    CK_ULONG session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public, CK_ULONG public_count,
    CK_ATTRIBUTE *private, CK_ULONG private_count, CK_ULONG *made, CK_ULONG *made2)
{
    const struct curve *curve = curve_in(public, public_count);
    struct rewritten public_rewritten, private_rewritten;
    struct own_id id;
    CK_MECHANISM spoken;
    CK_RV rv;
    if (!speaks_dialect() || !mechanism)
        return real->C_GenerateKeyPair(
            session, mechanism, public, public_count, private, private_count, made, made2);
    if ((rv = may_make(session, &id)) || (rv = may_have(curve, public, public_count)))
        return rv;
    if (lacks(mechanism->type))
        return CKR_MECHANISM_INVALID;
    spoken = *mechanism;
    if (curve && curve->family != NIST) {
        if (mechanism->type != generated_by(curve))
            return CKR_CURVE_NOT_SUPPORTED;
        spoken.type = CKM_EC_EDWARDS_KEY_PAIR_GEN;
    } else if (spoken.type == CKM_EC_MONTGOMERY_KEY_PAIR_GEN)
        return CKR_CURVE_NOT_SUPPORTED;
    if ((rv = rewrite(&public_rewritten, public, public_count, curve))
        || (rv = rewrite(&private_rewritten, private, private_count, curve))
        || (rv = give_id(&public_rewritten, &id)) || (rv = give_id(&private_rewritten, &id)))
        return rv;
    return real->C_GenerateKeyPair(
        session, &spoken, public_rewritten.items, public_rewritten.count,
        private_rewritten.items, private_rewritten.count, made, made2);
}

CK_RV own_C_CreateObject(CK_ULONG session, CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG *made)
{
    const struct curve *curve = curve_in(template, count);
    CK_ULONG class = number_in(template, count, CKA_CLASS);
    struct rewritten rewritten;
    struct own_id id;
    CK_RV rv;
    if (!speaks_dialect())
        return real->C_CreateObject(session, template, count, made);
    if ((rv = may_make(session, &id)) || (rv = may_have(curve, template, count))
        || (rv = rewrite(&rewritten, template, count, curve)))
        return rv;
    if (class >= CKO_PUBLIC_KEY && class <= CKO_SECRET_KEY && (rv = give_id(&rewritten, &id)))
        return rv;
    return real->C_CreateObject(session, rewritten.items, rewritten.count, made);
}

/* SoftHSM unwraps no Edwards or Montgomery key, so that there is no type to rewrite. */
CK_RV own_C_UnwrapKey(
    CK_ULONG session, CK_MECHANISM *mechanism, CK_ULONG wrapping, CK_BYTE *in, CK_ULONG in_size,
    CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG *made)
{
    struct rewritten rewritten;
    struct own_id id;
    CK_RV rv;
    if (!speaks_dialect())
        return real->C_UnwrapKey(
            session, mechanism, wrapping, in, in_size, template, count, made);
    if ((rv = may_make(session, &id))
        || (rv = rewrite(&rewritten, template, count, NULL))
        || (rv = give_id(&rewritten, &id)))
        return rv;
    return real->C_UnwrapKey(
        session, mechanism, wrapping, in, in_size, rewritten.items, rewritten.count, made);
}

CK_RV own_C_GenerateKey(
    CK_ULONG session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *template, CK_ULONG count,
    CK_ULONG *made)
{
    struct rewritten rewritten;
    struct own_id id;
    CK_RV rv;
    if (!speaks_dialect())
        return real->C_GenerateKey(session, mechanism, template, count, made);
    if ((rv = may_make(session, &id)) || (rv = rewrite(&rewritten, template, count, NULL))
        || (rv = give_id(&rewritten, &id)))
        return rv;
    return real->C_GenerateKey(session, mechanism, rewritten.items, rewritten.count, made);
}

CK_RV own_C_CopyObject(
    CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG *made)
{
    struct rewritten rewritten;
    CK_RV rv = speaks_dialect() ? rewrite(&rewritten, template, count, NULL) : CKR_OK;
    return rv ? rv : real->C_CopyObject(session, object, template, count, made);
}

CK_RV own_C_SetAttributeValue(
    CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct rewritten rewritten;
    CK_RV rv = speaks_dialect() ? rewrite(&rewritten, template, count, NULL) : CKR_OK;
    if (!rv && set(own_ids) && attribute_of(template, count, CKA_ID))
        rv = CKR_ATTRIBUTE_READ_ONLY;
    return rv ? rv : real->C_SetAttributeValue(session, object, template, count);
}

/* -- finding ----------------------------------------------------------------------------------- */

static CK_ULONG shown_key_type(CK_ULONG session, CK_ULONG object)
{
    CK_ULONG type = CK_UNAVAILABLE_INFORMATION, size = sizeof type;
    if (read_real(session, object, CKA_KEY_TYPE, (CK_BYTE *)&type, &size))
        return CK_UNAVAILABLE_INFORMATION;
    const struct curve *curve = type == CKK_EC_EDWARDS ? curve_of(session, object) : NULL;
    return curve ? key_type_of(curve) : type;
}

/* SoftHSM cannot tell Edwards from Montgomery keys, so the key type is looked at afterwards. */
CK_RV own_C_FindObjectsInit(CK_ULONG session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct rewritten rewritten;
    CK_ATTRIBUTE kept[MOST_ATTRIBUTES];
    CK_ULONG kept_count = 0, wanted = number_in(template, count, CKA_KEY_TYPE);
    const struct curve *curve = curve_in(template, count);
    lock();
    struct session *state = find_session(session);
    bool looks_later = state && (set(montgomery) || set(ec_type_x25519));
    if (state)
        state->wanted_type = looks_later ? wanted : CK_UNAVAILABLE_INFORMATION;
    unlock();
    if (!speaks_dialect() || count > MOST_ATTRIBUTES)
        return real->C_FindObjectsInit(session, template, count);
    for (CK_ULONG i = 0; i < count; i++) {
        if (looks_later && template[i].type == CKA_KEY_TYPE)
            continue;
        kept[kept_count++] = template[i];
        if (!curve && template[i].type == CKA_EC_POINT)
            curve = curve_with_point(template[i].size);
    }
    CK_RV rv = rewrite(&rewritten, kept, kept_count, curve);
    return rv ? rv : real->C_FindObjectsInit(session, rewritten.items, rewritten.count);
}

CK_RV own_C_FindObjects(CK_ULONG session, CK_ULONG *objects, CK_ULONG room, CK_ULONG *count)
{
    lock();
    struct session *state = find_session(session);
    CK_ULONG wanted = state ? state->wanted_type : CK_UNAVAILABLE_INFORMATION;
    unlock();
    if (wanted == CK_UNAVAILABLE_INFORMATION || !objects || !count)
        return real->C_FindObjects(session, objects, room, count);
    CK_ULONG kept = 0, found = 1;
    while (found && kept < room) {
        CK_RV rv = real->C_FindObjects(session, objects + kept, room - kept, &found);
        if (rv)
            return rv;
        CK_ULONG first = kept;
        for (CK_ULONG i = first; i < first + found; i++)
            if (shown_key_type(session, objects[i]) == wanted)
                objects[kept++] = objects[i];
    }
    *count = kept;
    return CKR_OK;
}

/* -- attributes, on the way out ---------------------------------------------------------------- */

static bool is_rewritten(CK_ULONG type)
{
    switch (type) {
    case CKA_KEY_TYPE:
    case CKA_EC_PARAMS:
    case CKA_EC_POINT: return true;
    case CKA_EXTRACTABLE:
    case CKA_NEVER_EXTRACTABLE: return set(extractable);
    case CKA_VALUE: return set(stripped_z);
    default: return false;
    }
}

/* What the token shows instead of `*value`, which may be changed or pointed elsewhere. */
static void show(CK_ULONG session, CK_ULONG object, CK_ULONG type, CK_BYTE **value, CK_ULONG *size)
{
    const struct curve *curve = curve_of(session, object);
    if (type == CKA_KEY_TYPE && *size == sizeof(CK_ULONG)) {
        CK_ULONG shown = shown_key_type(session, object);
        memcpy(*value, &shown, sizeof shown);
    } else if (type == CKA_EC_PARAMS && curve && name_of(curve).value) {
        *value = (CK_BYTE *)name_of(curve).value;
        *size = name_of(curve).size;
    } else if (type == CKA_EC_POINT && curve && has_bare_points(curve) && *size > curve->point) {
        *value += *size - curve->point;
        *size = curve->point;
    } else if (type == CKA_EXTRACTABLE || type == CKA_NEVER_EXTRACTABLE) {
        if (class_of(session, object) == CKO_PRIVATE_KEY)
            **value = type == CKA_EXTRACTABLE;
    } else if (type == CKA_VALUE && class_of(session, object) == CKO_SECRET_KEY) {
        for (; *size && !**value; ++*value)
            --*size;
    }
}

static CK_RV read_shown(CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *attribute)
{
    CK_BYTE buffer[4096], *value = buffer;
    CK_ULONG size = sizeof buffer;
    CK_RV rv = is_unknown(attribute->type) ? CKR_ATTRIBUTE_TYPE_INVALID : CKR_OK;
    if (!rv && !is_rewritten(attribute->type))
        return real->C_GetAttributeValue(session, object, attribute, 1);
    if (!rv)
        rv = read_real(session, object, attribute->type, buffer, &size);
    if (!rv) {
        show(session, object, attribute->type, &value, &size);
        if (attribute->value && attribute->size < size)
            rv = CKR_BUFFER_TOO_SMALL;
        else if (attribute->value)
            memcpy(attribute->value, value, size);
    }
    attribute->size = rv ? CK_UNAVAILABLE_INFORMATION : size;
    return rv;
}

CK_RV own_C_GetAttributeValue(
    CK_ULONG session, CK_ULONG object, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV answer = CKR_OK;
    if (!speaks_dialect() || !template)
        return real->C_GetAttributeValue(session, object, template, count);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV rv = read_shown(session, object, &template[i]);
        answer = rv ? rv : answer;
    }
    return answer;
}
