/* Pauses and time-outs on a clock of our own: hours in a moment. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

static struct timespec mono = { 1000000, 0 }, wall = { 1700000000, 0 };

static int told_time(clockid_t which, struct timespec *out)
{
    *out = which == CLOCK_MONOTONIC ? mono : wall;
    return 0;
}

#define clock_gettime told_time
#include "agent.c"

static int failed = 0;

static void check(int is_right, const char *what, double seen)
{
    if (!is_right) {
        fprintf(stderr, "wrong: %s (%g)\n", what, seen);
        failed = 1;
    }
}

static void pass(double seconds)
{
    int64_t at = mono.tv_sec * SECOND + mono.tv_nsec + (int64_t)(seconds * 1e9);
    mono.tv_sec = (time_t)(at / SECOND);
    mono.tv_nsec = (long)(at % SECOND);
}

/* Refused connections: 0.2 s, doubled up to 5 s, give or take a quarter. */
static void link_pauses(agent *a)
{
    double wanted = 0.2;
    int i;
    for (i = 0; i < 50; i++) {
        double pause;
        link_drop(a, "it is away");
        pause = (double)(a->link.due - a->now) / 1e9;
        check(pause >= wanted * 0.749 && pause <= wanted * 1.251, "pause of the link", pause);
        wanted = wanted * 2 < 5 ? wanted * 2 : 5;
    }
}

static void record_pauses(agent *a)
{
    int i;
    for (i = 0; i < 50; i++) {
        double pause;
        record_drop(a, "it is away");
        pause = (double)(a->record.due - a->now) / 1e9;
        check(pause >= 0.999 && pause <= 10.001 && (i < 5 || pause > 5), "pause of the record", pause);
    }
}

/* One end of a pair in place of a connection; the other one is returned. */
static int paired(stream *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) abort();
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    stream_close(s);
    s->fd = pair[0];
    return pair[1];
}

static int has_come(int fd, const char *words)
{
    char bytes[4096];
    ssize_t n = recv(fd, bytes, sizeof bytes - 1, 0);
    bytes[n > 0 ? n : 0] = 0;
    return strstr(bytes, words) != NULL;
}

static int talk(agent *a)
{
    int peer = paired(&a->record.s);
    a->record.state = RECORD_TALKING;
    a->record.authorized = a->record.counted = 1;
    a->record.asked = ASKED_NOTHING;
    a->record.beat_at = a->record.reply_length = 0;
    a->record.sent = a->record.out.length = 0;
    pass(1);
    agent_poll(a);
    return peer;
}

/* An info that takes longer than a heartbeat, and polls meanwhile, is one record all the same. */
static const char *slow_info(agent *a, void *user)
{
    if (*(int *)user) {
        pass(20);
        agent_poll(a);
    }
    return "{}";
}

static void record_is_slow(agent *a, int *is_slow)
{
    char bytes[4096];
    ssize_t n;
    int peer, beats = 0;
    char *at = bytes;
    *is_slow = 1;
    peer = talk(a);
    n = recv(peer, bytes, sizeof bytes - 1, 0);
    bytes[n > 0 ? n : 0] = 0;
    while ((at = strstr(at, "HMSET")) != NULL) {
        beats++;
        at++;
    }
    check(beats == 1, "records of a slow info", beats);
    *is_slow = 0;
    close(peer);
}

/* A silent globaldb costs one record and 5 s; nothing more is sent to it meanwhile. */
static void record_waits(agent *a)
{
    int peer = talk(a);
    check(has_come(peer, "HMSET"), "the first record", 0);
    pass(4.9);
    agent_poll(a);
    check(a->record.state == RECORD_TALKING && !has_come(peer, "HMSET"), "4.9 s without an answer", 0);
    pass(0.2);
    agent_poll(a);
    check(a->record.state == RECORD_WAITING, "5.1 s without an answer", a->record.state);
    check(strstr(agent_error(a), "no answer within 5 s") != NULL, agent_error(a), 0);
    close(peer);
}

/* The rate holds over jumps of the wall clock, and over polls that come late. */
static void record_rate(agent *a)
{
    int peer = talk(a), beats = 0, turn;
    record_set_heartbeat(a, 2.0);
    for (turn = 0; turn < 1000; turn++) {
        if (has_come(peer, "HMSET")) {
            beats++;
            check(send(peer, "+OK\r\n", 5, 0) == 5, "the answer", 0);
        }
        wall.tv_sec += turn % 2 ? 100000 : -100000;
        pass(0.05);
        agent_poll(a);
    }
    check(beats >= 25 && beats <= 30, "beats in 50 s at one per 2 s", beats);
    close(peer);
}

static void join_waits(agent *a)
{
    int peer = paired(&a->link.s);
    a->link.state = LINK_JOINING;
    a->link.due = a->now + JOIN_WITHIN;
    pass(9.9);
    agent_poll(a);
    check(a->link.state == LINK_JOINING, "9.9 s without session.joined", a->link.state);
    pass(0.2);
    agent_poll(a);
    check(a->link.state == LINK_WAITING, "10.1 s without session.joined", a->link.state);
    close(peer);
}

/* Between two looks at the sockets lies a millisecond, however often it is polled. */
static void busy(agent *a)
{
    int64_t looked;
    agent_poll(a);
    looked = a->look_at;
    pass(0.0009);
    agent_poll(a);
    check(a->look_at == looked, "looked again after 0.9 ms", 0);
    pass(0.0002);
    agent_poll(a);
    check(a->look_at > looked, "did not look after 1.1 ms", 0);
}

static void heartbeats(agent *a)
{
    static const struct {
        double told;
        int64_t used;
    } CASES[] = { { 5, 5 * SECOND }, { 0.2, SECOND / 5 }, { 1e-9, HEARTBEAT_MIN }, { 1e300, HEARTBEAT_MAX } };
    size_t i;
    for (i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        record_set_heartbeat(a, CASES[i].told);
        check(a->record.heartbeat == CASES[i].used, "heartbeat", CASES[i].told);
    }
    record_set_heartbeat(a, 7);
    record_set_heartbeat(a, -1);
    record_set_heartbeat(a, 0);
    check(a->record.heartbeat == 7 * SECOND, "a heartbeat that makes no sense", (double)a->record.heartbeat);
}

int main(void)
{
    agent_options options = AGENT_OPTIONS;
    int is_slow = 0;
    agent *a;
    setenv("AGENT_PROCESS", "1.2.3", 1);
    unsetenv("AGENT_DAEMON");
    unsetenv("AGENT_GLOBALDB");
    options.info = slow_info;
    options.user = &is_slow;
    a = agent_open(&options);
    busy(a);
    link_pauses(a);
    a->link.state = LINK_OFF;
    record_pauses(a);
    record_waits(a);
    record_is_slow(a, &is_slow);
    record_rate(a);
    join_waits(a);
    heartbeats(a);
    agent_close(a);
    return failed;
}
