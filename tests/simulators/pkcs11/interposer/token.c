/* Open this file for what a token does with sessions, whatever its dialect: the limit on them, the
 * token's removal and re-insertion. SoftHSM knows neither.
 */

#define _GNU_SOURCE
#include "interposer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* -- sessions ---------------------------------------------------------------------------------- */

static struct session *sessions;
static size_t sessions_open, sessions_room;

struct session *find_session(CK_ULONG handle)
{
    for (size_t i = sessions_open; i-- > 0;)
        if (sessions[i].handle == handle)
            return &sessions[i];
    return NULL;
}

CK_ULONG slot_of(CK_ULONG handle)
{
    lock();
    struct session *session = find_session(handle);
    CK_ULONG slot = session ? session->slot : CK_UNAVAILABLE_INFORMATION;
    unlock();
    return slot;
}

static void remember(CK_ULONG handle, CK_ULONG slot)
{
    if (sessions_open == sessions_room) {
        sessions_room = sessions_room ? 2 * sessions_room : 64;
        sessions = realloc(sessions, sessions_room * sizeof *sessions);
        if (!sessions)
            abort();
    }
    sessions[sessions_open++] =
        (struct session){.handle = handle, .slot = slot, .wanted_type = CK_UNAVAILABLE_INFORMATION};
}

static void forget_slot(CK_ULONG slot)
{
    size_t kept = 0;
    for (size_t i = 0; i < sessions_open; i++)
        if (sessions[i].slot != slot)
            sessions[kept++] = sessions[i];
    sessions_open = kept;
}

static long open_in(CK_ULONG slot)
{
    long count = 0;
    for (size_t i = 0; i < sessions_open; i++)
        count += sessions[i].slot == slot;
    return count;
}

bool logged_in(CK_ULONG session)
{
    CK_SESSION_INFO info;
    return real->C_GetSessionInfo(session, &info) == CKR_OK
        && (info.state == CKS_RO_USER || info.state == CKS_RW_USER);
}

/* -- removal ----------------------------------------------------------------------------------- */

/* Held shared by every call in a session, so that none is under way when the token goes. */
static pthread_rwlock_t device = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static CK_ULONG removed[64];
static size_t removed_count;

static bool is_removed(CK_ULONG slot) /* under lock() */
{
    for (size_t i = 0; i < removed_count; i++)
        if (removed[i] == slot)
            return true;
    return false;
}

bool gone(CK_ULONG slot)
{
    lock();
    bool answer = is_removed(slot);
    unlock();
    return answer;
}

CK_RV enter_device(CK_ULONG handle)
{
    pthread_rwlock_rdlock(&device);
    lock();
    /* The sessions of a removed token are forgotten, so which token's it was is not known. */
    bool lost = removed_count && !find_session(handle);
    unlock();
    if (!lost)
        return CKR_OK;
    pthread_rwlock_unlock(&device);
    return set(removed_code) ? (CK_RV)set(removed_code) : CKR_DEVICE_REMOVED;
}

void leave_device(void) { pthread_rwlock_unlock(&device); }

void new_device_locks(void)
{
    static const pthread_rwlock_t fresh = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    device = fresh;
}

/* Pull the token out of one slot; its sessions, session objects and login are gone for good. */
EXPORTED int interposer_remove(CK_ULONG slot)
{
    pthread_rwlock_wrlock(&device);
    real->C_CloseAllSessions(slot);
    lock();
    forget_slot(slot);
    bool room = removed_count < sizeof removed / sizeof *removed;
    if (room && !is_removed(slot))
        removed[removed_count++] = slot;
    unlock();
    pthread_rwlock_unlock(&device);
    return room;
}

EXPORTED void interposer_insert(CK_ULONG slot)
{
    lock();
    for (size_t i = 0; i < removed_count; i++)
        if (removed[i] == slot)
            removed[i--] = removed[--removed_count];
    unlock();
}

void insert_all(void)
{
    lock();
    removed_count = 0;
    unlock();
}

CK_RV own_C_GetSlotList(CK_BYTE present, CK_ULONG *slots, CK_ULONG *count)
{
    CK_ULONG all[256], found = sizeof all / sizeof *all, kept = 0;
    lock();
    bool passes = !present || !removed_count || !count;
    unlock();
    if (passes)
        return real->C_GetSlotList(present, slots, count);
    CK_RV rv = real->C_GetSlotList(present, all, &found);
    if (rv)
        return rv;
    for (CK_ULONG i = 0; i < found; i++)
        if (!gone(all[i]))
            all[kept++] = all[i];
    bool fits = kept <= *count;
    *count = kept;
    if (!slots)
        return CKR_OK;
    if (!fits)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(slots, all, kept * sizeof *all);
    return CKR_OK;
}

CK_RV own_C_GetSlotInfo(CK_ULONG slot, CK_SLOT_INFO *info)
{
    CK_RV rv = real->C_GetSlotInfo(slot, info);
    if (!rv && gone(slot))
        info->flags &= ~(CK_ULONG)CKF_TOKEN_PRESENT;
    return rv;
}

/* -- opening and closing ----------------------------------------------------------------------- */

/* The real module may be loaded, and be initialised, besides us; then it starts anew for us, and
 * nobody who still knows us once we are finalised can finalise it under others' feet. */
static bool initialised;

bool is_initialised(void) { return initialised; }

CK_RV own_C_Initialize(void *pointer)
{
    const CK_C_INITIALIZE_ARGS *arguments = pointer;
    if (set(cannot_lock) && arguments && arguments->flags & CKF_OS_LOCKING_OK)
        return CKR_CANT_LOCK;
    CK_RV rv = real->C_Initialize(pointer);
    if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED && !initialised) {
        real->C_Finalize(NULL);
        rv = real->C_Initialize(pointer);
    }
    initialised = initialised || !rv;
    return rv;
}

CK_RV own_C_Finalize(void *pointer)
{
    CK_RV rv = real->C_Finalize(pointer);
    if (rv && rv != CKR_CRYPTOKI_NOT_INITIALIZED)
        return rv;
    lock();
    initialised = false;
    sessions_open = 0;
    unlock();
    return rv;
}

EXPORTED void interposer_finalise(void)
{
    if (initialised)
        own_C_Finalize(NULL);
}

CK_RV own_C_OpenSession(
    CK_ULONG slot, CK_ULONG flags, void *application, void *notify, CK_ULONG *opened)
{
    pthread_rwlock_rdlock(&device);
    CK_RV rv = gone(slot) ? CKR_TOKEN_NOT_PRESENT
                          : real->C_OpenSession(slot, flags, application, notify, opened);
    if (!rv) {
        lock();
        bool full = set(session_limit) && open_in(slot) >= set(session_limit);
        if (!full)
            remember(*opened, slot);
        unlock();
        if (full) {
            real->C_CloseSession(*opened);
            rv = CKR_SESSION_COUNT;
        }
    }
    pthread_rwlock_unlock(&device);
    return rv;
}

CK_RV own_C_CloseSession(CK_ULONG handle)
{
    CK_RV rv = real->C_CloseSession(handle);
    lock();
    struct session *session = find_session(handle);
    if (!rv && session)
        *session = sessions[--sessions_open];
    unlock();
    return rv;
}

CK_RV own_C_CloseAllSessions(CK_ULONG slot)
{
    if (gone(slot))
        return CKR_TOKEN_NOT_PRESENT;
    CK_RV rv = real->C_CloseAllSessions(slot);
    lock();
    if (!rv)
        forget_slot(slot);
    unlock();
    return rv;
}
