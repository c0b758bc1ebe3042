/* What the interposer needs of PKCS #11 v2.40 and v3.0, so that no header need be installed.
 *
 * Every handle, type, flag and length of the interface is an unsigned long, and is called so here.
 */

#ifndef CRYPTOKI_H
#define CRYPTOKI_H

typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

typedef struct { CK_ULONG type; void *value; CK_ULONG size; } CK_ATTRIBUTE;
typedef struct { CK_ULONG type; void *parameter; CK_ULONG size; } CK_MECHANISM;
typedef struct { CK_ULONG slot, state, flags, error; } CK_SESSION_INFO;
typedef struct { CK_BYTE description[64], manufacturer[32]; CK_ULONG flags; CK_BYTE versions[4]; }
    CK_SLOT_INFO;
typedef struct {
    CK_BYTE label[32], manufacturer[32], model[16], serial[16];
    CK_ULONG flags, max_sessions, sessions, max_rw_sessions, rw_sessions, max_pin, min_pin;
    CK_ULONG memory[4];
    CK_BYTE versions[4], time[16];
} CK_TOKEN_INFO;
typedef struct { void *mutex_functions[4]; CK_ULONG flags; void *reserved; } CK_C_INITIALIZE_ARGS;
typedef struct {
    CK_ULONG kdf, shared_size; CK_BYTE *shared; CK_ULONG public_size; CK_BYTE *public_data;
} CK_ECDH1_DERIVE_PARAMS;

#define CK_UNAVAILABLE_INFORMATION (~0UL)

enum { CKU_SO, CKU_USER, CKU_CONTEXT_SPECIFIC, CKU_COUNT };
enum { CKS_RO_USER = 1, CKS_RW_USER = 3, CKS_RW_SO };
enum { CKO_PUBLIC_KEY = 2, CKO_PRIVATE_KEY, CKO_SECRET_KEY };
enum { CKK_EC = 3, CKK_EC_EDWARDS = 0x40, CKK_EC_MONTGOMERY };
enum { CKD_NULL = 1 };
enum {
    CKM_EC_KEY_PAIR_GEN = 0x1040, CKM_ECDSA, CKM_ECDSA_SHA512 = 0x1046,
    CKM_ECDH1_DERIVE = 0x1050, CKM_ECDH1_COFACTOR_DERIVE,
    CKM_EC_EDWARDS_KEY_PAIR_GEN = 0x1055, CKM_EC_MONTGOMERY_KEY_PAIR_GEN, CKM_EDDSA,
};
enum {
    CKA_CLASS = 0, CKA_VALUE = 0x11, CKA_KEY_TYPE = 0x100, CKA_ID = 0x102, CKA_SENSITIVE,
    CKA_VALUE_LEN = 0x161, CKA_EXTRACTABLE, CKA_LOCAL, CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE,
    CKA_MODIFIABLE = 0x170, CKA_COPYABLE, CKA_DESTROYABLE, CKA_EC_PARAMS = 0x180, CKA_EC_POINT,
    CKA_ALLOWED_MECHANISMS = 0x40000600,
};
enum {
    CKF_TOKEN_PRESENT = 1, CKF_OS_LOCKING_OK = 2, CKF_PROTECTED_AUTHENTICATION_PATH = 0x100,
    CKF_USER_PIN_COUNT_LOW = 0x10000, CKF_USER_PIN_FINAL_TRY = 0x20000,
    CKF_USER_PIN_LOCKED = 0x40000, CKF_USER_PIN_TO_BE_CHANGED = 0x80000,
};
enum { SO_PIN_FLAGS_SHIFT = 4 }; /* the SO's PIN flags are the user's, four bits further up */
enum {
    CKR_OK = 0, CKR_SLOT_ID_INVALID = 3, CKR_GENERAL_ERROR = 5, CKR_FUNCTION_FAILED = 6,
    CKR_ARGUMENTS_BAD = 7, CKR_CANT_LOCK = 0xA, CKR_ATTRIBUTE_READ_ONLY = 0x10,
    CKR_ATTRIBUTE_TYPE_INVALID = 0x12, CKR_ATTRIBUTE_VALUE_INVALID = 0x13,
    CKR_DATA_LEN_RANGE = 0x21, CKR_DEVICE_REMOVED = 0x32, CKR_FUNCTION_NOT_SUPPORTED = 0x54,
    CKR_KEY_HANDLE_INVALID = 0x60, CKR_MECHANISM_INVALID = 0x70,
    CKR_MECHANISM_PARAM_INVALID = 0x71, CKR_OBJECT_HANDLE_INVALID = 0x82, CKR_PIN_INCORRECT = 0xA0,
    CKR_PIN_LOCKED = 0xA4, CKR_SESSION_CLOSED = 0xB0, CKR_SESSION_COUNT = 0xB1,
    CKR_SESSION_HANDLE_INVALID = 0xB3, CKR_TEMPLATE_INCOMPLETE = 0xD0,
    CKR_TEMPLATE_INCONSISTENT = 0xD1, CKR_TOKEN_NOT_PRESENT = 0xE0, CKR_USER_NOT_LOGGED_IN = 0x101,
    CKR_DOMAIN_PARAMS_INVALID = 0x130, CKR_CURVE_NOT_SUPPORTED = 0x140,
    CKR_BUFFER_TOO_SMALL = 0x150, CKR_CRYPTOKI_NOT_INITIALIZED = 0x190,
    CKR_CRYPTOKI_ALREADY_INITIALIZED,
};

/* The parameter lists, each with the arguments that hand it on. */
#define S CK_ULONG session
#define T CK_ATTRIBUTE *template, CK_ULONG count
#define IN CK_BYTE *in, CK_ULONG in_size
#define OUT CK_BYTE *out, CK_ULONG *out_size
#define M CK_MECHANISM *mechanism

#define TAKES_POINTER (void *pointer)
#define GIVES_POINTER (pointer)
#define TAKES_LIST (CK_FUNCTION_LIST **list)
#define GIVES_LIST (list)
#define TAKES_SLOTS (CK_BYTE present, CK_ULONG *slots, CK_ULONG *count)
#define GIVES_SLOTS (present, slots, count)
#define TAKES_SLOT_INFO (CK_ULONG slot, CK_SLOT_INFO *info)
#define GIVES_SLOT_INFO (slot, info)
#define TAKES_TOKEN_INFO (CK_ULONG slot, CK_TOKEN_INFO *info)
#define GIVES_TOKEN_INFO (slot, info)
#define TAKES_MECHANISMS (CK_ULONG slot, CK_ULONG *mechanisms, CK_ULONG *count)
#define GIVES_MECHANISMS (slot, mechanisms, count)
#define TAKES_MECHANISM_INFO (CK_ULONG slot, CK_ULONG type, void *info)
#define GIVES_MECHANISM_INFO (slot, type, info)
#define TAKES_INIT_TOKEN (CK_ULONG slot, CK_BYTE *pin, CK_ULONG size, CK_BYTE *label)
#define GIVES_INIT_TOKEN (slot, pin, size, label)
#define TAKES_TWO_PINS (S, CK_BYTE *old, CK_ULONG old_size, CK_BYTE *new, CK_ULONG new_size)
#define GIVES_TWO_PINS (session, old, old_size, new, new_size)
#define TAKES_OPEN \
    (CK_ULONG slot, CK_ULONG flags, void *application, void *notify, CK_ULONG *opened)
#define GIVES_OPEN (slot, flags, application, notify, opened)
#define TAKES_SLOT (CK_ULONG slot)
#define GIVES_SLOT (slot)
#define TAKES_SESSION (S)
#define GIVES_SESSION (session)
#define TAKES_SESSION_INFO (S, CK_SESSION_INFO *info)
#define GIVES_SESSION_INFO (session, info)
#define TAKES_STATE (S, IN, CK_ULONG cipher_key, CK_ULONG mac_key)
#define GIVES_STATE (session, in, in_size, cipher_key, mac_key)
#define TAKES_LOGIN (S, CK_ULONG user, CK_BYTE *pin, CK_ULONG size)
#define GIVES_LOGIN (session, user, pin, size)
#define TAKES_TEMPLATE (S, T)
#define GIVES_TEMPLATE (session, template, count)
#define TAKES_CREATE (S, T, CK_ULONG *made)
#define GIVES_CREATE (session, template, count, made)
#define TAKES_COPY (S, CK_ULONG object, T, CK_ULONG *made)
#define GIVES_COPY (session, object, template, count, made)
#define TAKES_OBJECT (S, CK_ULONG object)
#define GIVES_OBJECT (session, object)
#define TAKES_OBJECT_SIZE (S, CK_ULONG object, CK_ULONG *size)
#define GIVES_OBJECT_SIZE (session, object, size)
#define TAKES_ATTRIBUTES (S, CK_ULONG object, T)
#define GIVES_ATTRIBUTES (session, object, template, count)
#define TAKES_FIND (S, CK_ULONG *objects, CK_ULONG room, CK_ULONG *count)
#define GIVES_FIND (session, objects, room, count)
#define TAKES_MECHANISM (S, M)
#define GIVES_MECHANISM (session, mechanism)
#define TAKES_INIT (S, M, CK_ULONG key)
#define GIVES_INIT (session, mechanism, key)
#define TAKES_FEED (S, IN)
#define GIVES_FEED (session, in, in_size)
#define TAKES_CONVERT (S, IN, OUT)
#define GIVES_CONVERT (session, in, in_size, out, out_size)
#define TAKES_FINAL (S, OUT)
#define GIVES_FINAL (session, out, out_size)
#define TAKES_VERIFY (S, IN, CK_BYTE *signature, CK_ULONG size)
#define GIVES_VERIFY (session, in, in_size, signature, size)
#define TAKES_KEY (S, M, T, CK_ULONG *made)
#define GIVES_KEY (session, mechanism, template, count, made)
#define TAKES_PAIR (S, M, CK_ATTRIBUTE *public, CK_ULONG public_count, \
                    CK_ATTRIBUTE *private, CK_ULONG private_count, CK_ULONG *made, CK_ULONG *made2)
#define GIVES_PAIR (session, mechanism, public, public_count, private, private_count, made, made2)
#define TAKES_WRAP (S, M, CK_ULONG wrapping, CK_ULONG key, OUT)
#define GIVES_WRAP (session, mechanism, wrapping, key, out, out_size)
#define TAKES_UNWRAP (S, M, CK_ULONG wrapping, IN, T, CK_ULONG *made)
#define GIVES_UNWRAP (session, mechanism, wrapping, in, in_size, template, count, made)
#define TAKES_DERIVE (S, M, CK_ULONG base, T, CK_ULONG *made)
#define GIVES_DERIVE (session, mechanism, base, template, count, made)
#define TAKES_WAIT (CK_ULONG flags, CK_ULONG *slot, void *reserved)
#define GIVES_WAIT (flags, slot, reserved)

/* F(name, who does it, its session or 0, parameter list), in the order of CK_FUNCTION_LIST.
 * `own` is a function own_NAME of the interposer, `real` the module's. */
#define EACH_FUNCTION(F) \
    F(C_Initialize, own, 0, POINTER) F(C_Finalize, own, 0, POINTER) \
    F(C_GetInfo, real, 0, POINTER) F(C_GetFunctionList, own, 0, LIST) \
    F(C_GetSlotList, own, 0, SLOTS) F(C_GetSlotInfo, own, 0, SLOT_INFO) \
    F(C_GetTokenInfo, own, 0, TOKEN_INFO) F(C_GetMechanismList, own, 0, MECHANISMS) \
    F(C_GetMechanismInfo, own, 0, MECHANISM_INFO) F(C_InitToken, own, 0, INIT_TOKEN) \
    F(C_InitPIN, own, session, FEED) F(C_SetPIN, own, session, TWO_PINS) \
    F(C_OpenSession, own, 0, OPEN) F(C_CloseSession, own, session, SESSION) \
    F(C_CloseAllSessions, own, 0, SLOT) F(C_GetSessionInfo, real, session, SESSION_INFO) \
    F(C_GetOperationState, real, session, FINAL) F(C_SetOperationState, real, session, STATE) \
    F(C_Login, own, session, LOGIN) F(C_Logout, real, session, SESSION) \
    F(C_CreateObject, own, session, CREATE) F(C_CopyObject, own, session, COPY) \
    F(C_DestroyObject, real, session, OBJECT) F(C_GetObjectSize, real, session, OBJECT_SIZE) \
    F(C_GetAttributeValue, own, session, ATTRIBUTES) \
    F(C_SetAttributeValue, own, session, ATTRIBUTES) \
    F(C_FindObjectsInit, own, session, TEMPLATE) F(C_FindObjects, own, session, FIND) \
    F(C_FindObjectsFinal, real, session, SESSION) \
    F(C_EncryptInit, real, session, INIT) F(C_Encrypt, real, session, CONVERT) \
    F(C_EncryptUpdate, real, session, CONVERT) F(C_EncryptFinal, real, session, FINAL) \
    F(C_DecryptInit, real, session, INIT) F(C_Decrypt, real, session, CONVERT) \
    F(C_DecryptUpdate, real, session, CONVERT) F(C_DecryptFinal, real, session, FINAL) \
    F(C_DigestInit, real, session, MECHANISM) F(C_Digest, real, session, CONVERT) \
    F(C_DigestUpdate, real, session, FEED) F(C_DigestKey, real, session, OBJECT) \
    F(C_DigestFinal, real, session, FINAL) \
    F(C_SignInit, own, session, INIT) F(C_Sign, own, session, CONVERT) \
    F(C_SignUpdate, real, session, FEED) F(C_SignFinal, real, session, FINAL) \
    F(C_SignRecoverInit, real, session, INIT) F(C_SignRecover, real, session, CONVERT) \
    F(C_VerifyInit, real, session, INIT) F(C_Verify, real, session, VERIFY) \
    F(C_VerifyUpdate, real, session, FEED) F(C_VerifyFinal, real, session, FEED) \
    F(C_VerifyRecoverInit, real, session, INIT) F(C_VerifyRecover, real, session, CONVERT) \
    F(C_DigestEncryptUpdate, real, session, CONVERT) \
    F(C_DecryptDigestUpdate, real, session, CONVERT) \
    F(C_SignEncryptUpdate, real, session, CONVERT) \
    F(C_DecryptVerifyUpdate, real, session, CONVERT) \
    F(C_GenerateKey, own, session, KEY) F(C_GenerateKeyPair, own, session, PAIR) \
    F(C_WrapKey, real, session, WRAP) F(C_UnwrapKey, own, session, UNWRAP) \
    F(C_DeriveKey, own, session, DERIVE) \
    F(C_SeedRandom, real, session, FEED) F(C_GenerateRandom, real, session, FEED) \
    F(C_GetFunctionStatus, real, session, SESSION) F(C_CancelFunction, real, session, SESSION) \
    F(C_WaitForSlotEvent, real, 0, WAIT)

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;
#define MEMBER(name, way, session, shape) CK_RV (*name) TAKES_##shape;
struct CK_FUNCTION_LIST { CK_BYTE version[2]; EACH_FUNCTION(MEMBER) };

#define NUMBER(name, way, session, shape) FUNCTION_##name,
enum function { EACH_FUNCTION(NUMBER) FUNCTIONS };

#endif
