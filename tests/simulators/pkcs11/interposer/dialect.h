/* A token of another make: which curves it has and how it names them, and templates in its words
 * turned into SoftHSM's.
 */

#ifndef DIALECT_H
#define DIALECT_H

#include "interposer.h"

enum family { NIST, EDWARDS, MONTGOMERY };
struct octets { CK_ULONG size; const char *value; };
struct curve {
    enum family family;
    CK_ULONG point; /* octets of a bare point */
    struct octets oid, printable;
};

const struct curve *curve_named(const CK_BYTE *value, CK_ULONG size);
const struct curve *curve_with_point(CK_ULONG size); /* among those whose points are bare */
CK_ULONG key_type_of(const struct curve *curve);
CK_ULONG generated_by(const struct curve *curve);
struct octets name_of(const struct curve *curve);
bool has_bare_points(const struct curve *curve);
CK_RV may_have(const struct curve *curve, const CK_ATTRIBUTE *template, CK_ULONG count);
bool lacks(CK_ULONG mechanism);
bool is_unknown(CK_ULONG attribute);

/* Of the real token's objects. */
CK_RV read_real(CK_ULONG session, CK_ULONG object, CK_ULONG type, CK_BYTE *to, CK_ULONG *size);
const struct curve *curve_of(CK_ULONG session, CK_ULONG object);
CK_ULONG class_of(CK_ULONG session, CK_ULONG object);

/* Of templates. */
enum { MOST_ATTRIBUTES = 64 };
struct rewritten {
    CK_ATTRIBUTE items[MOST_ATTRIBUTES];
    CK_ULONG count, edwards;
    CK_BYTE point[256];
};
const CK_ATTRIBUTE *attribute_of(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type);
const struct curve *curve_in(const CK_ATTRIBUTE *template, CK_ULONG count);
CK_ULONG number_in(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type);
bool says(const CK_ATTRIBUTE *template, CK_ULONG count, CK_ULONG type, CK_BYTE value);
CK_RV rewrite(struct rewritten *to, const CK_ATTRIBUTE *from, CK_ULONG count,
              const struct curve *curve);
CK_RV put(struct rewritten *to, CK_ULONG type, const void *value, CK_ULONG size);

#endif
