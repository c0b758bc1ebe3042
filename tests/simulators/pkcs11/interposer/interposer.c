/* A PKCS #11 module that stands before a real one, counts what passes and misbehaves on demand.
 *
 * Open this file to see which features there are, and how a call is counted, failed or killed;
 * token.c has sessions and removal, pins.c PIN tries; dialect.c, objects.c and operations.c
 * what a token of another make would say.
 * Python drives it through interposer.py. Without settings every call passes unchanged.
 *
 * Features of a dialect (any combination):
 *   raw_points             EC_POINT of Edwards and Montgomery keys is the bare point, both ways
 *   raw_points_all         the same for every curve
 *   montgomery             X25519 and X448 are EC_MONTGOMERY keys made by mechanism 0x1056, and
 *                          refused as EC_EDWARDS (PKCS #11 v3.0)
 *   ec_type_x25519         X25519 is an EC key made by EC_KEY_PAIR_GEN with the identifier
 *                          1.3.6.1.4.1.11591.15.1, its point bare (NSS); X448 stays as it is
 *   oids                   curves are read as object identifiers; printable names are refused
 *   printable_only         Edwards and Montgomery curves are refused as object identifiers
 *   no_edwards             mechanisms 0x1055 and EDDSA do not exist
 *   no_ed448               Ed448 does not exist
 *   no_derive              ECDH1_DERIVE does not exist
 *   raw_peer_only          ECDH1_DERIVE takes bare points only
 *   der_peer_only          ECDH1_DERIVE takes points in a DER OCTET STRING only
 *   no_null_kdf            ECDH1_DERIVE refuses CKD_NULL
 *   sensitive_derived      a readable derived secret is refused
 *   silently_sensitive     a derived secret is made sensitive, whatever the template says
 *   stripped_z             the leading zeros of a secret's value are lost
 *   ecdsa_der              an ECDSA signature is a DER SEQUENCE (C_Sign alone; C_Verify takes r||s)
 *   extractable            private keys say EXTRACTABLE true, NEVER_EXTRACTABLE false
 *   no_history             LOCAL, NEVER_EXTRACTABLE, ALWAYS_SENSITIVE are unknown attributes
 *   no_modifiable, no_copyable, no_destroyable, no_allowed_mechanisms
 *                          that attribute is unknown, in templates and on reading
 *   no_value_len           VALUE_LEN is refused in the template of a derived secret
 *   login_first            no object is made before login, a public one neither
 *   own_ids                the token gives keys an ID of its own, which cannot be changed
 *   other_codes            other error codes for the same failures, as some module gives them
 *   cannot_lock            C_Initialize refuses CKF_OS_LOCKING_OK
 * Quantities:
 *   tries, so_tries, context_tries   PIN tries of the user, the SO, CKU_CONTEXT_SPECIFIC; 0: as is
 *   tries_used             tries of each kind used up already
 *   session_limit          sessions at most per token; 0: no limit. session_limit_said: it says so
 *   removed_code           what calls in a session of a removed token return; 0: CKR_DEVICE_REMOVED
 *   pin_to_be_changed      CKF_USER_PIN_TO_BE_CHANGED until a PIN is set
 *   protected_path         CKF_PROTECTED_AUTHENTICATION_PATH; interposer_pinpad types there
 * Rules make the n-th call of some functions fail, before or after the real call, or kill the
 * process there; see interposer_rule.
 *
 * Read once, when loaded: INTERPOSER_MODULE, the real module's path (otherwise it is the file
 * real.so beside this one); INTERPOSER_SETTINGS, "name=value,name,..."; INTERPOSER_RULES,
 * "functions|nth|action|code;..."; INTERPOSER_PINPAD, the PIN typed there; INTERPOSER_LOG, a file
 * for the names of calls.
 */

#define _GNU_SOURCE
#include "interposer.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

long settings[SETTINGS];
char pinpad_pin[256];
const CK_FUNCTION_LIST *real;

#define NAME(name) #name,
static const char *const setting_names[] = {EACH_FEATURE(NAME) EACH_QUANTITY(NAME)};
#define FUNCTION_NAME(name, way, session, shape) #name,
/* One more than there are functions: a step that the test takes, see interposer_step. */
static const char *const function_names[] = {EACH_FUNCTION(FUNCTION_NAME) "step"};
enum { STEP = FUNCTIONS, COUNTED };

/* -- state ------------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void lock(void) { pthread_mutex_lock(&mutex); }
void unlock(void) { pthread_mutex_unlock(&mutex); }

bool speaks_dialect(void)
{
    for (int feature = 0; feature < FEATURES; feature++)
        if (settings[feature])
            return true;
    return false;
}

static unsigned char *calls; /* function numbers, in order */
static size_t calls_made, calls_room;
static int log_file = -1;

static void record(int function)
{
    if (calls_made == calls_room) {
        calls_room = calls_room ? 2 * calls_room : 1024;
        calls = realloc(calls, calls_room);
        if (!calls)
            abort();
    }
    calls[calls_made++] = (unsigned char)function;
    if (log_file >= 0)
        dprintf(log_file, "%s\n", function_names[function]);
}

/* -- rules ------------------------------------------------------------------------------------- */

enum action { FAIL, FAIL_AFTER, KILL, KILL_AFTER, ACTIONS };
static const char *const action_names[] = {"fail", "fail_after", "kill", "kill_after"};
enum { ALWAYS = 0, SPENT = -1 };

static struct rule {
    bool matches[COUNTED];
    long nth; /* the call that it waits for, 1 being the next; ALWAYS; SPENT */
    enum action action;
    CK_RV rv;
} rules[32];
static int rules_made;
static long rules_fired;

static CK_RV verdict(int function, bool after) /* under lock() */
{
    for (struct rule *rule = rules; rule < rules + rules_made; rule++) {
        bool acts_after = rule->action == FAIL_AFTER || rule->action == KILL_AFTER;
        if (!rule->matches[function] || rule->nth == SPENT || acts_after != after)
            continue;
        if (rule->nth != ALWAYS) {
            if (--rule->nth > 0)
                continue;
            rule->nth = SPENT;
        }
        rules_fired++;
        if (rule->action == KILL || rule->action == KILL_AFTER)
            kill(getpid(), SIGKILL);
        return rule->rv;
    }
    return CKR_OK;
}

static int number_of(const char *name, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(name, names[i]))
            return i;
    return -1;
}

/* Functions are names with commas between; "*" stands for all, "-NAME" takes one out again. */
EXPORTED int interposer_rule(const char *functions, long nth, const char *action, CK_RV rv)
{
    struct rule rule = {.nth = nth, .rv = rv};
    char names[4096], *rest = names;
    int number = number_of(action, action_names, ACTIONS);
    if (number < 0 || nth < 0 || strlen(functions) >= sizeof names)
        return 0;
    rule.action = (enum action)number;
    strcpy(names, functions);
    for (char *name; (name = strsep(&rest, ","));) {
        bool wanted = *name != '-';
        if (!strcmp(name, "*")) {
            memset(rule.matches, true, sizeof rule.matches);
            continue;
        }
        if ((number = number_of(name + !wanted, function_names, COUNTED)) < 0)
            return 0;
        rule.matches[number] = wanted;
    }
    lock();
    bool room = rules_made < (int)(sizeof rules / sizeof *rules);
    if (room)
        rules[rules_made++] = rule;
    unlock();
    return room;
}

EXPORTED void interposer_clear_rules(void)
{
    lock();
    rules_made = 0;
    unlock();
}

/* A step of the test's own, counted by the rules for "*" or "step": whether it is to fail. */
EXPORTED CK_RV interposer_step(void)
{
    lock();
    CK_RV rv = verdict(STEP, false);
    if (!rv)
        rv = verdict(STEP, true);
    unlock();
    return rv;
}

/* -- settings and counts ----------------------------------------------------------------------- */

EXPORTED int interposer_set(const char *name, long value)
{
    int number = number_of(name, setting_names, SETTINGS);
    if (number < 0)
        return 0;
    settings[number] = value;
    return 1;
}

EXPORTED int interposer_pinpad(const char *pin)
{
    if (strlen(pin) >= sizeof pinpad_pin)
        return 0;
    strcpy(pinpad_pin, pin);
    return 1;
}

EXPORTED long interposer_fired(void) { return rules_fired; }
EXPORTED size_t interposer_count(void) { return calls_made; }

EXPORTED const char *interposer_call(size_t index)
{
    lock();
    const char *name = index < calls_made ? function_names[calls[index]] : NULL;
    unlock();
    return name;
}

/* As it was when loaded without any variables: no rules, no settings, every token in its place. */
EXPORTED void interposer_reset(void)
{
    interposer_clear_rules();
    memset(settings, 0, sizeof settings);
    interposer_unlock();
    insert_all();
}

/* -- the way through --------------------------------------------------------------------------- */

static CK_RV enter(enum function function, CK_ULONG session)
{
    lock();
    record(function);
    CK_RV rv = verdict(function, false);
    unlock();
    bool any_time = function == FUNCTION_C_Initialize || function == FUNCTION_C_GetFunctionList;
    if (!rv && !any_time && !is_initialised())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return rv || !session ? rv : enter_device(session);
}

static CK_RV leave(enum function function, CK_ULONG session, CK_RV rv)
{
    if (rv && set(other_codes))
        rv = other_code(function, session, rv);
    if (session)
        leave_device();
    lock();
    CK_RV answer = verdict(function, true);
    unlock();
    return answer ? answer : rv;
}

#define VIA_real(name) real->name
#define VIA_own(name) own_##name
#define PASS(name, way, session, shape) \
    static CK_RV pass_##name TAKES_##shape \
    { \
        CK_RV refused = enter(FUNCTION_##name, session); \
        if (refused) \
            return refused; \
        return leave(FUNCTION_##name, session, VIA_##way(name) GIVES_##shape); \
    }
EACH_FUNCTION(PASS)

#define ENTRY(name, way, session, shape) .name = pass_##name,
static CK_FUNCTION_LIST passing = {.version = {2, 40}, EACH_FUNCTION(ENTRY)};

CK_RV own_C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (!list)
        return CKR_ARGUMENTS_BAD;
    *list = &passing;
    return CKR_OK;
}

EXPORTED CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    return real ? own_C_GetFunctionList(list) : CKR_GENERAL_ERROR;
}

/* -- loading ----------------------------------------------------------------------------------- */

static void complain(const char *what, const char *which)
{
    fprintf(stderr, "interposer: %s: %s\n", what, which);
}

static void read_settings(const char *text)
{
    char copy[4096], *rest = copy;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *name; (name = strsep(&rest, ","));) {
        char *value = strchr(name, '=');
        if (value)
            *value++ = 0;
        if (*name && !interposer_set(name, value ? strtol(value, NULL, 0) : 1))
            complain("unknown setting", name);
    }
}

static void read_rules(const char *text)
{
    char copy[8192], *rest = copy;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *rule; (rule = strsep(&rest, ";"));) {
        char *functions = strsep(&rule, "|"), *nth = strsep(&rule, "|");
        char *action = strsep(&rule, "|");
        if (*functions
            && (!rule
                || !interposer_rule(
                    functions, strtol(nth, NULL, 0), action, strtoul(rule, NULL, 0))))
            complain("bad rule for", functions);
    }
}

static void load_real(void)
{
    char path[4096];
    const char *named = getenv("INTERPOSER_MODULE");
    Dl_info self;
    if (named)
        snprintf(path, sizeof path, "%s", named);
    else if (dladdr((void *)load_real, &self)) {
        const char *slash = strrchr(self.dli_fname, '/');
        int folder = slash ? (int)(slash - self.dli_fname) : 0;
        snprintf(path, sizeof path, "%.*s/real.so", folder, self.dli_fname);
    } else
        return;
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_RV (*list_of)(const CK_FUNCTION_LIST **);
    *(void **)&list_of = module ? dlsym(module, "C_GetFunctionList") : NULL;
    if (!list_of || list_of(&real))
        complain("no module", dlerror());
}

static void in_child(void)
{
    static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    mutex = fresh;
    new_device_locks();
}

__attribute__((constructor)) static void start(void)
{
    const char *text;
    load_real();
    pthread_atfork(NULL, NULL, in_child);
    if ((text = getenv("INTERPOSER_SETTINGS")))
        read_settings(text);
    if ((text = getenv("INTERPOSER_RULES")))
        read_rules(text);
    if ((text = getenv("INTERPOSER_PINPAD")) && !interposer_pinpad(text))
        complain("too long", "INTERPOSER_PINPAD");
    if ((text = getenv("INTERPOSER_LOG")))
        log_file = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}
