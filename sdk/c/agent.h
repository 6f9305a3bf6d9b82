/* What a game server in C or C++ needs to be run by `agent`: a record in globaldb, and a link to its daemon.
 *
 *     agent_options options = AGENT_OPTIONS;              // .info, .on_save, .on_entry: see below
 *     agent *a = agent_open(&options);
 *     agent_command(a, &spec, handler, user);             // as many as you like
 *     for (;;) { tick(); agent_poll(a); }
 *
 * Copy agent.h and agent.c into your project. C99 or C++11, POSIX, nothing else. How to use it: README.md
 * beside this file. What goes over the wire: docs/sdk.md.
 *
 * What holds for all of it:
 * - Nothing here waits for anybody. The one exception: agent_open looks up a host name in AGENT_GLOBALDB (or
 *   AGENT_DAEMON), as a server that is started by hand may have one; the address is kept for good. A daemon
 *   tells numbers.
 * - No threads, no signals, no memory but the one block that agent_open takes: 4.5 MiB of address space,
 *   of which only what is used becomes real.
 * - One thread: call everything from the one that calls agent_poll. Callbacks run inside agent_poll.
 * - Text is UTF-8, ends with a zero byte, and is copied: what you hand over may go as soon as the call
 *   returns. What you are handed lives until your callback returns, unless it is said otherwise.
 * - Outside of an agent (no AGENT_PROCESS in the environment) all of it quietly does nothing, and a NULL
 *   agent is one that does nothing, so no call needs to be checked for the game's sake.
 * - Functions that return int say 1 for yes and 0 for no; after a no, agent_error says why.
 */
#ifndef AGENT_H
#define AGENT_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AGENT_VERSION "0.1.0"

#define AGENT_MAX_COMMANDS 200
#define AGENT_MAX_ARGUMENTS 32
#define AGENT_MAX_DECLARED_BYTES (64 * 1024) /* of all declarations together, as JSON */
#define AGENT_MAX_ANSWER_BYTES (64 * 1024)
#define AGENT_MAX_INFO_BYTES (64 * 1024)
#define AGENT_MAX_EVENT_BYTES (8 * 1024)
#define AGENT_MAX_TEXT_BYTES 1024 /* of reasons and other words for operators; longer ones are cut */
#define AGENT_KEPT_IDS 1024
#define AGENT_KEPT_ANSWER_BYTES (4 * 1024)
#define AGENT_KEPT_BYTES (512 * 1024) /* of all of them; with more, the oldest go before their ids */

#if defined(__GNUC__)
#define AGENT_PRINTF(words, first) __attribute__((format(printf, words, first)))
#else
#define AGENT_PRINTF(words, first)
#endif

typedef struct agent agent;
typedef struct agent_request agent_request;

/* ---- joining ------------------------------------------------------------------------------------------- */

/* Every field may be NULL. `user` is handed to all these callbacks. */
typedef struct {
    void *user;

    /* Called at each heartbeat: a JSON object, at most 64 KiB; "players" in it is known to the agent. The
     * text must live until the next call (a static buffer). Instead of it, or beside it: agent_info. */
    const char *(*info)(agent *a, void *user);

    /* Save everything: the process is to be stopped (`reason` is "stop" or "restart"). Here or at any time
     * later, agent_saved or agent_save_declined, and at least every 10 s agent_save_progress. It is not
     * called again while a save runs. NULL: this process cannot save; it is stopped without. */
    void (*on_save)(agent *a, const char *reason, void *user);

    /* open 0: let nobody in any more (who is in stays); 1: let them in again. The text (or NULL) goes to
     * operators. NULL in place of the callback: this process has no entry to close. */
    const char *(*on_entry)(agent *a, int open, const char *reason, void *user);

    /* What agent_error will return, once each time that something new goes wrong. For your log. */
    void (*on_trouble)(agent *a, const char *text, void *user);

    /* Instead of AGENT_PROCESS: `region.ip.name` of a server started by hand, with AGENT_GLOBALDB set. */
    const char *process;
} agent_options;

#define AGENT_OPTIONS { NULL, NULL, NULL, NULL, NULL, NULL }

/* Reads the environment and takes all memory. NULL only where there is no memory. `options` may be NULL. */
agent *agent_open(const agent_options *options);

/* Call it in every turn of the main loop. Microseconds where there is nothing to do, and it looks at its
 * sockets at most once a millisecond. Runs your callbacks; at most 100 requests of the daemon in one call.
 * Inside a callback it only refreshes the record and sends what waits: call it there in a save that takes
 * long. */
void agent_poll(agent *a);

/* Sends what can be sent at once, hangs up, frees. Optional at the end of a program. Allowed in any
 * callback but on_trouble. */
void agent_close(agent *a);

/* Whether there is a link to the daemon, and it has let us in. */
int agent_joined(const agent *a);

/* What went wrong last, "" if nothing ever did. Lives until the next call of anything. Has no passwords in
 * it. */
const char *agent_error(const agent *a);

/* For a program with an event loop of its own: what to wait for (at most 2; returns how many), and for how
 * long at most before agent_poll is to be called, in ms. Ask anew after each agent_poll. */
size_t agent_fds(const agent *a, struct pollfd *fds, size_t size);
int agent_wait_ms(const agent *a);

/* ---- telling ------------------------------------------------------------------------------------------- */

/* The record's `info` from now on: a JSON object. One that is not valid changes nothing. */
int agent_info(agent *a, const char *json);
int agent_infof(agent *a, const char *format, ...) AGENT_PRINTF(2, 3);

/* Something has happened: `name` of 1 to 64 bytes, `json` any JSON of at most 8 KiB. 0: not sent, because
 * there is no link (agent_joined), or the daemon does not read, or it is not valid. */
int agent_event(agent *a, const char *name, const char *json);
int agent_eventf(agent *a, const char *name, const char *format, ...) AGENT_PRINTF(3, 4);

/* The functions that end in f format as printf does, but always with a decimal point, whatever setlocale was
 * told. Strings in JSON are %s with agent_quote:  agent_eventf(a, "said", "{\"who\": %s}", agent_quote(a,
 * name)); agent_quote writes the quotes too, escapes what must be, and puts U+FFFD where it is not UTF-8. At
 * most 64 KiB; the results of at least the last 64 KiB of calls stay as they are. */
const char *agent_quote(agent *a, const char *text);
const char *agent_quote_bytes(agent *a, const char *text, size_t length);

/* A double as JSON, the shortest text that reads back as the same; "null" where it is not finite. Lives as
 * long as that of agent_quote. */
const char *agent_number(agent *a, double value);

/* ---- GM commands --------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    const char *type;          /* "str" (also NULL), "int", "float", "bool", "json" */
    const char *default_value; /* as JSON: "1", "\"gold\"", "null"; NULL: required */
    int secret;                /* 1: masked in audit, history and logs */
    const char *help;          /* one line, or NULL */
} agent_argument;

typedef struct {
    const char *name;   /* letters, digits, _, -, begins with a letter, at most 64; not "help" */
    const char *help;   /* one line of at most 200 characters, or NULL */
    const char *danger; /* "read", "write" (also NULL) or "red" */
    const char *answer; /* one line: what the answer looks like, or NULL */
    const agent_argument *arguments;
    size_t count; /* of arguments */
} agent_spec;

#define AGENT_ARGUMENTS(array) (array), sizeof(array) / sizeof *(array)
#define AGENT_NO_ARGUMENTS NULL, 0

/* Runs once for each request of an operator, inside agent_poll. Before it returns it calls one of
 * agent_answer, agent_refuse or agent_later. `request` is gone when it has returned. */
typedef void (*agent_handler)(agent_request *request, void *user);

/* Declares a command, at any time. 0: the declaration breaks the rules, and agent_error names the place. */
int agent_command(agent *a, const agent_spec *spec, agent_handler handler, void *user);

/* Arguments. All declared ones are there, of their types, with defaults filled in. One that is null, not
 * there, or of another type is 0 and ""; the latter two are a trouble (agent_error) as well. */
int64_t agent_int(agent_request *request, const char *name);
double agent_float(agent_request *request, const char *name);
int agent_bool(agent_request *request, const char *name);
const char *agent_str(agent_request *request, const char *name);
const char *agent_str_bytes(agent_request *request, const char *name, size_t *length); /* with zero bytes */

/* Any argument as the JSON text that came, not ended by a zero byte: printf's "%.*s", (int)length. */
const char *agent_json(agent_request *request, const char *name, size_t *length);
int agent_is_null(agent_request *request, const char *name);

agent *agent_of(agent_request *request);
const char *agent_operator(agent_request *request); /* who typed it */
double agent_left_s(agent_request *request);        /* how long he still waits; 0 where nobody says */

/* One answer per request; a second one is not sent. An answer that is not valid JSON, or longer than 64 KiB,
 * is not sent: the operator reads that the command failed, and agent_error says why. A reason is plain text,
 * not JSON. */
int agent_answer(agent_request *request, const char *json);
int agent_answerf(agent_request *request, const char *format, ...) AGENT_PRINTF(2, 3);
int agent_refuse(agent_request *request, const char *reason);

/* The answer comes later: a number that is good for one answer, never 0 and never used again. It survives a
 * lost link: the answer is kept, and the daemon asks for it. 0 from these two: that number has been answered,
 * or never was. */
typedef uint64_t agent_ticket;
agent_ticket agent_later(agent_request *request);
int agent_answer_later(agent *a, agent_ticket ticket, const char *json);
int agent_answer_laterf(agent *a, agent_ticket ticket, const char *format, ...) AGENT_PRINTF(3, 4);
int agent_refuse_later(agent *a, agent_ticket ticket, const char *reason);

/* ---- saving -------------------------------------------------------------------------------------------- */

/* "saving 812/2000 players". Sent at once, at most 20 a second (the last one always), and refreshes the
 * record as agent_poll does inside a callback. `text` may be NULL. */
void agent_save_progress(agent *a, int64_t done, int64_t total, const char *text);

/* The save is done; SIGTERM follows, or end by yourself. Or it is not done, and the process goes on. 0: none
 * runs. */
int agent_saved(agent *a, const char *text);
int agent_save_declined(agent *a, const char *reason);

#ifdef __cplusplus
}
#endif

#endif
