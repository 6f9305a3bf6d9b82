/* A game that does with the SDK what no game should, and says what came of it; test_c.py tells it what to do.
 *
 * It counts every allocation of the whole process (malloc and friends are its own, in front of glibc's), and
 * notes how long the longest agent_poll took. `game idle` measures what a poll costs, and ends.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long allocations = 0, polls = 0;
static double longest_s = 0;
static agent_ticket kept[8], stale;
static int kept_count = 0;
static const char *info_json = "{\"players\": 1}";

#ifdef COUNT_ALLOCATIONS
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    allocations++;
    return __libc_realloc(block, size);
}
#endif

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void timed_poll(agent *a)
{
    double from = now_s(), took;
    agent_poll(a);
    took = now_s() - from;
    polls++;
    if (took > longest_s) longest_s = took;
}

static void on_keep(agent_request *request, void *user)
{
    (void)user;
    kept[kept_count++ % 8] = agent_later(request);
}

/* Answers what `keep` kept, each twice; the second must find nobody. */
static void on_release(agent_request *request, void *user)
{
    agent *a = agent_of(request);
    int first = 0, second = 0, i;
    (void)user;
    for (i = 0; i < kept_count; i++) {
        first += agent_answer_laterf(a, kept[i], "{\"kept\": %d}", i);
        second += agent_answer_later(a, kept[i], "\"twice\"") + agent_refuse_later(a, kept[i], "twice");
    }
    second += agent_answer_later(a, 0, "1") + agent_answer_later(a, 4711, "1");
    second += agent_answer_later(a, UINT64_MAX, "1");
    stale = kept[0];
    kept_count = 0;
    agent_answerf(request, "[%d, %d]", first, second);
}

/* A ticket of long ago, whose place is another command's by now. */
static void on_stale(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request, "%d", agent_answer_later(agent_of(request), stale, "\"somebody else's\""));
}

static void on_say(agent_request *request, void *user)
{
    size_t length;
    const char *text = agent_str_bytes(request, "json", &length);
    (void)user;
    agent_answer(request, text);
}

static char *filled(const char *begin, size_t count, const char *end)
{
    static char text[100000];
    size_t n = strlen(begin);
    strcpy(text, begin);
    memset(text + n, 'x', count);
    strcpy(text + n + count, end);
    return text;
}

static void on_wrong(agent_request *request, void *user)
{
    const char *how = agent_str(request, "how");
    (void)user;
    if (strcmp(how, "utf8") == 0) {
        agent_answer(request, "\"\xC3\"");
    } else if (strcmp(how, "null") == 0) {
        agent_answer(request, NULL);
    } else if (strcmp(how, "longest") == 0) {
        agent_answer(request, filled("\"", 65534, "\""));
    } else if (strcmp(how, "long") == 0) {
        agent_answer(request, filled("\"", 65535, "\""));
    } else if (strcmp(how, "longer") == 0) {
        agent_answerf(request, "%s", filled("\"", 70000, "\""));
    } else if (strcmp(how, "twice") == 0) {
        agent_answer(request, "1");
        agent_answer(request, "2");
        agent_refuse(request, "3");
        if (agent_later(request) != 0) abort();
    } else if (strcmp(how, "reason") == 0) {
        agent_refuse(request, filled("\xFF", 5000, "\xE5\xA4\xA7"));
    } else if (strcmp(how, "no reason") == 0) {
        agent_refuse(request, NULL);
    } else if (strcmp(how, "types") == 0) {
        long long whole = agent_int(request, "how");
        double number = agent_float(request, "how");
        const char *text = agent_str(request, "number");
        int flag = agent_bool(request, "how"), is_null = agent_is_null(request, "none");
        agent_answerf(request, "[%lld, %g, %d, %s, %d, %d]", whole, number, flag,
                      agent_quote(agent_of(request), text), is_null, agent_is_null(request, "how"));
    }
}

static void on_error(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request, "%s", agent_quote(agent_of(request), agent_error(agent_of(request))));
}

static void on_facts(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request,
                  "{\"allocations\": %ld, \"polls\": %ld, \"longest_s\": %.6f, \"user\": %s, \"left_s\": %s}",
                  allocations, polls, longest_s, agent_quote(agent_of(request), agent_operator(request)),
                  agent_number(agent_of(request), agent_left_s(request)));
    longest_s = 0;
}

static void on_event(agent_request *request, void *user)
{
    agent *a = agent_of(request);
    int sent = agent_event(a, agent_str(request, "name"), agent_str(request, "json"));
    (void)user;
    agent_answerf(request, "%d", sent);
}

/* Events until no more is taken. */
static void on_flood(agent_request *request, void *user)
{
    agent *a = agent_of(request);
    const char *data = filled("\"", 8000, "\"");
    int sent = 0;
    (void)user;
    while (agent_event(a, "flood", data) && sent < 10000) sent++;
    agent_answerf(request, "%d", sent);
}

static void on_info(agent_request *request, void *user)
{
    static char json[1000];
    (void)user;
    snprintf(json, sizeof json, "%s", agent_str(request, "json"));
    info_json = json;
    agent_answer(request, "true");
}

/* A command that takes 1.2 s and polls: it must come to no harm, and the record must go on. */
static void on_block(agent_request *request, void *user)
{
    double end = now_s() + 1.2;
    (void)user;
    while (now_s() < end) {
        agent_poll(agent_of(request));
        usleep(1000);
    }
    agent_answer(request, "\"blocked\"");
}

static void on_fork(agent_request *request, void *user)
{
    agent *a = agent_of(request);
    pid_t child = fork();
    int i, status;
    (void)user;
    if (child == 0) {
        int says = agent_event(a, "child", "1") + agent_joined(a);
        says += agent_answer_later(a, kept[0], "\"child\"");
        for (i = 0; i < 20; i++) {
            agent_poll(a);
            usleep(2000);
        }
        agent_close(a);
        _exit(says);
    }
    waitpid(child, &status, 0);
    agent_answerf(request, "%d", status);
}

static void on_late(agent_request *request, void *user)
{
    static const agent_spec LATE = { "late", NULL, NULL, NULL, AGENT_NO_ARGUMENTS };
    (void)user;
    agent_answerf(request, "%d", agent_command(agent_of(request), &LATE, on_error, NULL));
}

static void on_close(agent_request *request, void *user)
{
    (void)user;
    agent_answer(request, "\"closed\"");
    agent_close(agent_of(request));
    *(int *)user = 1;
}

static const char *info(agent *a, void *user)
{
    (void)user;
    agent_poll(a); /* must not come back here */
    return info_json;
}

static const char *on_entry(agent *a, int open, const char *reason, void *user)
{
    (void)a;
    (void)user;
    (void)reason;
    return open ? NULL : "\xFF shut";
}

/* Saves all in one go: 1.2 s in which the main loop does not run. */
static void on_save(agent *a, const char *reason, void *user)
{
    int i;
    (void)user;
    for (i = 1; i <= 1200; i++) {
        agent_save_progress(a, i, 1200, reason);
        usleep(1000);
    }
    agent_saved(a, "all");
    if (agent_saved(a, "again") || agent_save_declined(a, "again")) abort();
}

static void on_trouble(agent *a, const char *text, void *user)
{
    (void)user;
    printf("trouble: %s\n", text);
    agent_poll(a);
}

static void one_turn(agent *a, struct pollfd *fds, int is_bare)
{
    if (is_bare) {
        poll(fds, 2, 0);
    } else {
        agent_poll(a);
    }
}

/* The best of many batches in a loop that spins. */
static double busy_us(agent *a, struct pollfd *fds, int is_bare)
{
    double best = 1e9, from, took;
    int batch, i;
    for (batch = 0; batch < 50; batch++) {
        from = now_s();
        for (i = 0; i < 200; i++) one_turn(a, fds, is_bare);
        took = (now_s() - from) / 200 * 1e6;
        best = took < best ? took : best;
    }
    return best;
}

/* The median of turns that come slower than one a millisecond: each agent_poll looks at its sockets. */
static double step_us(agent *a, struct pollfd *fds, int is_bare)
{
    double all[300], from, took;
    int i, k;
    for (i = 0; i < 300; i++) {
        usleep(1100);
        from = now_s();
        one_turn(a, fds, is_bare);
        took = (now_s() - from) * 1e6;
        for (k = i; k > 0 && all[k - 1] > took; k--) all[k] = all[k - 1];
        all[k] = took;
    }
    return all[150];
}

static void measure(agent *a)
{
    struct pollfd fds[2];
    double until = now_s() + 1.0;
    while (!agent_joined(a) || now_s() < until) {
        agent_poll(a);
        usleep(1000);
    }
    memset(fds, 0, sizeof fds);
    printf("fds %d\n", (int)agent_fds(a, fds, 2));
    printf("busy %.3f us, bare poll(2) %.3f us\n", busy_us(a, fds, 0), busy_us(a, fds, 1));
    printf("step %.3f us, bare poll(2) %.3f us\n", step_us(a, fds, 0), step_us(a, fds, 1));
}

/* A loop that waits as one with its own event loop does. */
static void wait_for_more(agent *a)
{
    struct pollfd fds[2];
    size_t count = agent_fds(a, fds, 2);
    int wait = agent_wait_ms(a);
    poll(fds, (nfds_t)count, wait < 50 ? wait : 50);
}

int main(int count, char **words)
{
    static const agent_argument HOW[] = { { "how", "str", NULL, 0, NULL },
                                          { "number", "int", "7", 0, NULL },
                                          { "none", "json", "null", 0, NULL } };
    static const agent_argument JSON[] = { { "json", "str", NULL, 0, NULL } };
    static const agent_argument EVENT[] = { { "name", "str", NULL, 0, NULL },
                                            { "json", "str", NULL, 0, NULL } };
    static const struct {
        agent_spec spec;
        agent_handler handler;
    } COMMANDS[] = {
        { { "keep", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_keep },
        { { "release", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_release },
        { { "stale", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_stale },
        { { "say", NULL, NULL, NULL, AGENT_ARGUMENTS(JSON) }, on_say },
        { { "wrong", NULL, NULL, NULL, AGENT_ARGUMENTS(HOW) }, on_wrong },
        { { "error", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_error },
        { { "facts", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_facts },
        { { "event", NULL, NULL, NULL, AGENT_ARGUMENTS(EVENT) }, on_event },
        { { "flood", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_flood },
        { { "info", NULL, NULL, NULL, AGENT_ARGUMENTS(JSON) }, on_info },
        { { "block", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_block },
        { { "fork", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_fork },
        { { "declare", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_late },
        { { "close", NULL, NULL, NULL, AGENT_NO_ARGUMENTS }, on_close },
    };
    agent_options options = AGENT_OPTIONS;
    int is_closed = 0;
    size_t i;
    agent *a;

    setvbuf(stdout, NULL, _IONBF, 0);
    options.info = info;
    options.on_save = on_save;
    options.on_entry = on_entry;
    options.on_trouble = on_trouble;
    a = agent_open(&options);
    for (i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (!agent_command(a, &COMMANDS[i].spec, COMMANDS[i].handler, &is_closed)) abort();
    }
    if (count > 1 && strcmp(words[1], "idle") == 0) {
        measure(a);
        return 0;
    }
    allocations = 0;
    while (!is_closed) {
        timed_poll(a);
        if (!is_closed) wait_for_more(a);
    }
    puts("closed");
    return 0;
}
