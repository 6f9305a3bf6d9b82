/* The example server of every SDK (../README.md), in C; it is C++ as well.
 *
 *     cc -std=c99 example.c agent.c -o example && AGENT_DAEMON=127.0.0.1:8889 AGENT_PROCESS=... ./example
 *
 * One thread, one loop of 50 ms: everything below runs inside of it, handlers too; there is nothing to lock.
 */
#define _POSIX_C_SOURCE 200809L

#include "agent.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_S 0.05
#define STEP_S 0.1  /* of saving */
#define LEAVE_S 0.2 /* one player, while nobody may come in */
#define MAX_SLOW 64

static int64_t players[] = { 1001, 1002, 1003 };
static int player_count = 3, is_open = 1, executed = 0;
static double leave_at = 0;
static const char *save_mode = "";
static int save_step = 0, save_steps = 0; /* save_step 0: no save runs */
static double save_at = 0;
static volatile sig_atomic_t stopping = 0;

/* `slow` commands that wait for their time. */
static struct {
    agent_ticket ticket; /* 0: free */
    double at, seconds;
} slow[MAX_SLOW];

static double monotonic_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- what is reported, saving, entry ---- */

static const char *info(agent *a, void *user)
{
    static char json[64];
    (void)a;
    (void)user;
    snprintf(json, sizeof json, "{\"players\": %d, \"map\": \"plains\"}", player_count);
    return json;
}

static void on_save(agent *a, const char *reason, void *user)
{
    (void)reason;
    (void)user;
    if (strcmp(save_mode, "decline") == 0) {
        agent_save_declined(a, "a match is running");
    } else if (strcmp(save_mode, "silent") != 0) {
        save_steps = atoi(save_mode) > 0 ? atoi(save_mode) : 5;
        save_step = 1;
        save_at = monotonic_s() + STEP_S;
    }
}

static void save_some(agent *a)
{
    if (save_step == 0 || monotonic_s() < save_at) return;
    agent_save_progress(a, save_step, save_steps, "players");
    if (strcmp(save_mode, "die") == 0 && save_step == 2) _exit(4);
    save_at = monotonic_s() + STEP_S;
    if (save_step++ == save_steps) {
        char text[64];
        snprintf(text, sizeof text, "%d players saved", player_count);
        save_step = 0;
        agent_saved(a, text);
    }
}

static const char *on_entry(agent *a, int open, const char *reason, void *user)
{
    static char text[256];
    (void)a;
    (void)user;
    is_open = open;
    leave_at = monotonic_s() + LEAVE_S;
    snprintf(text, sizeof text, "nobody may come in: %.200s", reason);
    return open ? "everybody may come in" : text;
}

static void on_trouble(agent *a, const char *text, void *user)
{
    (void)a;
    (void)user;
    printf("agent: %s\n", text);
}

/* ---- GM commands ---- */

static void status(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request, "{\"players\": %d, \"map\": \"plains\", \"open\": %s, \"executed\": %d}",
                  player_count, is_open ? "true" : "false", executed);
}

static const agent_argument KICK[] = {
    { "player", "int", NULL, 0, "player id" },
    { "reason", "str", "\"no reason given\"", 0, NULL },
};

static void kick(agent_request *request, void *user)
{
    int64_t player = agent_int(request, "player");
    size_t length;
    const char *reason = agent_json(request, "reason", &length); /* as it came: it goes back as it is */
    char refusal[64];
    int i;
    (void)user;
    executed++;
    for (i = 0; i < player_count; i++) {
        if (players[i] == player) {
            memmove(&players[i], &players[i + 1], (size_t)(--player_count - i) * sizeof players[0]);
            agent_eventf(agent_of(request), "player_left", "{\"player\": %lld}", (long long)player);
            agent_answerf(request, "{\"kicked\": %lld, \"reason\": %.*s}",
                          (long long)player, (int)length, reason);
            return;
        }
    }
    snprintf(refusal, sizeof refusal, "no player %lld", (long long)player);
    agent_refuse(request, refusal);
}

static const agent_argument BROADCAST[] = { { "text", "str", NULL, 0, NULL } };

static void broadcast(agent_request *request, void *user)
{
    size_t length;
    const char *text = agent_str_bytes(request, "text", &length);
    (void)user;
    executed++;
    printf("broadcast: %s\n", text);
    fflush(stdout);
    agent_answerf(request, "{\"heard\": %d, \"text\": %s}", player_count,
                  agent_quote_bytes(agent_of(request), text, length));
}

static const agent_argument GIVE[] = {
    { "player", "int", NULL, 0, NULL },       { "item", "str", NULL, 0, NULL },
    { "count", "int", "1", 0, NULL },         { "rate", "float", "1.0", 0, NULL },
    { "silent", "bool", "false", 0, NULL },   { "extra", "json", "null", 0, "whatever else there is to say" },
};

static void give(agent_request *request, void *user)
{
    agent *a = agent_of(request);
    size_t length;
    const char *extra = agent_json(request, "extra", &length);
    (void)user;
    executed++;
    agent_answerf(request,
                  "{\"player\": %lld, \"item\": %s, \"count\": %lld,"
                  " \"rate\": %s, \"silent\": %s, \"extra\": %.*s}",
                  (long long)agent_int(request, "player"), agent_quote(a, agent_str(request, "item")),
                  (long long)agent_int(request, "count"), agent_number(a, agent_float(request, "rate")),
                  agent_bool(request, "silent") ? "true" : "false", (int)length, extra);
}

static const agent_argument UNLOCK[] = { { "password", "str", NULL, 1, NULL } };

static void unlock(agent_request *request, void *user)
{
    (void)user;
    executed++;
    if (strcmp(agent_str(request, "password"), "open sesame") != 0) {
        agent_refuse(request, "wrong password");
    } else {
        agent_answer(request, "{\"unlocked\": true}");
    }
}

static const agent_argument SLOW[] = { { "seconds", "float", NULL, 0, NULL } };

static void sleep_a_while(agent_request *request, void *user)
{
    int i;
    (void)user;
    executed++;
    for (i = 0; i < MAX_SLOW; i++) {
        if (!slow[i].ticket) {
            slow[i].seconds = agent_float(request, "seconds");
            slow[i].at = monotonic_s() + slow[i].seconds;
            slow[i].ticket = agent_later(request);
            return;
        }
    }
    agent_refuse(request, "too many sleep already");
}

static void wake(agent *a)
{
    int i;
    for (i = 0; i < MAX_SLOW; i++) {
        if (slow[i].ticket && monotonic_s() >= slow[i].at) {
            agent_answer_laterf(a, slow[i].ticket, "{\"slept\": %s}", agent_number(a, slow[i].seconds));
            slow[i].ticket = 0;
        }
    }
}

static void crash(agent_request *request, void *user)
{
    (void)request;
    (void)user;
    _exit(3);
}

static const struct {
    agent_spec spec;
    agent_handler handler;
} COMMANDS[] = {
    { { "status", "how the game is", "read", "{players, map, open, executed}", AGENT_NO_ARGUMENTS }, status },
    { { "kick", "throw a player out", "write", "{kicked, reason}", AGENT_ARGUMENTS(KICK) }, kick },
    { { "broadcast", "say something", "write", "{heard, text}", AGENT_ARGUMENTS(BROADCAST) }, broadcast },
    { { "give", "give a player something", "write", "its arguments", AGENT_ARGUMENTS(GIVE) }, give },
    { { "unlock", "open the treasury", "red", "{unlocked}", AGENT_ARGUMENTS(UNLOCK) }, unlock },
    { { "slow", "take some time", "write", "{slept}", AGENT_ARGUMENTS(SLOW) }, sleep_a_while },
    { { "crash", "end at once", "red", NULL, AGENT_NO_ARGUMENTS }, crash },
};

/* ---- the loop ---- */

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static void leave(void)
{
    if (!is_open && !getenv("GAME_STAY") && player_count > 0 && monotonic_s() >= leave_at) {
        player_count--;
        leave_at = monotonic_s() + LEAVE_S;
    }
}

int main(void)
{
    static const struct timespec TICK = { 0, (long)(TICK_S * 1e9) };
    agent_options options = AGENT_OPTIONS;
    int announced = 0;
    size_t i;
    agent *a;

    setlocale(LC_ALL, ""); /* as many games do; the SDK does not mind */
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);
    if (getenv("GAME_SAVE")) save_mode = getenv("GAME_SAVE");

    options.info = info;
    options.on_save = on_save;
    options.on_entry = on_entry;
    options.on_trouble = on_trouble;
    a = agent_open(&options);
    for (i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        agent_command(a, &COMMANDS[i].spec, COMMANDS[i].handler, NULL);
    }
    while (!stopping) {
        agent_poll(a);
        announced = announced || agent_event(a, "server_started", "{\"map\": \"plains\"}");
        wake(a);
        save_some(a);
        leave();
        nanosleep(&TICK, NULL);
    }
    puts("bye");
    agent_close(a);
    return 0;
}
