/* The door of the example group: players connect here, and their lines go on to the server that they ask for.
 *
 *     gateserver NAME HOST:PORT game1=HOST:PORT,game2=HOST:PORT,...
 *
 *     player <--- lines ---> session: player end | server end <--- lines ---> game1, chat1, ...
 *
 * One thread, one poll(2) for players, servers and the agent. What players say is in README.md; the gate reads only the
 * first line of each (enter SERVER NAME), and adds lines of its own: notice, leave, no, bye.
 * Whoever cannot send waits: nothing is read from one end while there is no room for it at the other.
 */
#define _POSIX_C_SOURCE 200809L

#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SESSIONS 2000
#define MAX_SERVERS 32
#define MAX_NAME 32
#define BUFFER_BYTES 16384
#define GOODBYE_S 5 /* how long somebody may take to hang up, once he was told to */

struct buffer {
    size_t length;
    char bytes[BUFFER_BYTES];
};

struct end {
    int fd; /* -1: none */
    struct buffer in, out;
};

struct session {
    struct end player, server;
    char name[MAX_NAME + 1], place[MAX_NAME + 1]; /* who, and on which server; "" until he has said so */
    int answered;                                 /* the server has said something */
    time_t ends_at;                               /* not 0: all is said, he only has to hang up */
};

static const char *gate_name;
static struct {
    char name[MAX_NAME + 1];
    struct sockaddr_in address;
} servers[MAX_SERVERS];
static size_t server_count = 0, session_count = 0;
static struct session *sessions[MAX_SESSIONS];
static int is_open = 1;
static char why_closed[256] = "";
static volatile sig_atomic_t stopping = 0;

/* ---- lines from one end to the other ---- */

/* One line to the player. Control characters would make two of it. Who has no room for it does not read. */
static void tell(struct session *s, const char *format, ...)
{
    char line[1100];
    va_list arguments;
    int length, i;
    va_start(arguments, format);
    length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0) return;
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    for (i = 0; i < length; i++) {
        if ((unsigned char)line[i] < ' ') line[i] = ' ';
    }
    line[length++] = '\n';
    if (s->player.out.length + (size_t)length > BUFFER_BYTES) return;
    memcpy(s->player.out.bytes + s->player.out.length, line, (size_t)length);
    s->player.out.length += (size_t)length;
}

/* 0: the other side has hung up, or never listened. */
static int receive(struct end *e)
{
    ssize_t got;
    if (e->in.length == BUFFER_BYTES) return 1;
    got = recv(e->fd, e->in.bytes + e->in.length, BUFFER_BYTES - e->in.length, 0);
    if (got > 0) e->in.length += (size_t)got;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static int transmit(struct end *e)
{
    ssize_t sent;
    if (e->fd < 0 || e->out.length == 0) return 1;
    sent = send(e->fd, e->out.bytes, e->out.length, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    e->out.length -= (size_t)sent;
    memmove(e->out.bytes, e->out.bytes + sent, e->out.length);
    return 1;
}

/* Whole lines only, as many as there is room for. 0: a line without an end. */
static int forward(struct end *from, struct end *to)
{
    size_t length = from->in.length, room = BUFFER_BYTES - to->out.length;
    if (length > room) length = room;
    while (length > 0 && from->in.bytes[length - 1] != '\n') length--;
    if (length == 0) return from->in.length < BUFFER_BYTES || room < BUFFER_BYTES;
    memcpy(to->out.bytes + to->out.length, from->in.bytes, length);
    to->out.length += length;
    from->in.length -= length;
    memmove(from->in.bytes, from->in.bytes + length, from->in.length);
    return 1;
}

/* ---- sessions ---- */

/* All is said to this player: what waits is sent, and then he is to hang up. Closing at once, with lines of his unread,
 * would take back what was sent. */
static void finish(struct session *s)
{
    if (s->server.fd >= 0) close(s->server.fd);
    s->server.fd = -1;
    if (!s->ends_at) s->ends_at = time(NULL) + GOODBYE_S;
}

/* The first line of a player is there: enter SERVER NAME. The server gets it as well. */
static void enter(struct session *s)
{
    char line[2 * MAX_NAME + 16], *newline = memchr(s->player.in.bytes, '\n', s->player.in.length);
    size_t length = newline ? (size_t)(newline - s->player.in.bytes) : s->player.in.length, i;
    if (!newline && length < sizeof line) return;
    snprintf(line, sizeof line, "%.*s", (int)length, s->player.in.bytes);
    if (length >= sizeof line || sscanf(line, "enter %32s %32s", s->place, s->name) != 2) {
        tell(s, "no %s say: enter SERVER NAME", gate_name);
        finish(s);
        return;
    }
    for (i = 0; i < server_count && strcmp(servers[i].name, s->place) != 0; i++) continue;
    if (i < server_count) s->server.fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->server.fd >= 0) {
        fcntl(s->server.fd, F_SETFL, O_NONBLOCK); /* so connect only begins; `receive` sees how it went */
        connect(s->server.fd, (struct sockaddr *)&servers[i].address, sizeof servers[i].address);
        return;
    }
    tell(s, "no %s there is no such server", s->place);
    finish(s);
}

/* What has come is sent on. 0: this session is over. */
static int serve(struct session *s, short from_player, short from_server)
{
    if (from_player && !(transmit(&s->player) && receive(&s->player))) return 0;
    if (s->ends_at) s->player.in.length = 0; /* nobody hears it any more */
    if (!s->ends_at && s->server.fd < 0) enter(s);
    if (s->server.fd >= 0) {
        int there = transmit(&s->server);
        if (from_server) there &= receive(&s->server); /* also its last words, when nothing can be sent any more */
        s->answered |= s->server.in.length > 0;
        if (!forward(&s->player, &s->server) || !forward(&s->server, &s->player)) return 0;
        there &= transmit(&s->server);
        if (!there && !s->answered) tell(s, "no %s it is not there", s->place);
        if (!there) finish(s);
    }
    if (!transmit(&s->player)) return 0;
    if (s->ends_at && s->player.out.length == 0) shutdown(s->player.fd, SHUT_WR);
    return !s->ends_at || time(NULL) < s->ends_at;
}

static void let_in(int door)
{
    int fd;
    while (session_count < MAX_SESSIONS && (fd = accept(door, NULL, NULL)) >= 0) {
        struct session *s = calloc(1, sizeof *s);
        if (!s) abort();
        fcntl(fd, F_SETFL, O_NONBLOCK);
        s->player.fd = fd;
        s->server.fd = -1;
        sessions[session_count++] = s;
        if (is_open) continue;
        tell(s, "no %s %s", gate_name, why_closed);
        finish(s);
    }
}

static void end_session(size_t i)
{
    finish(sessions[i]);
    close(sessions[i]->player.fd);
    free(sessions[i]);
    sessions[i] = sessions[--session_count];
}

/* ---- for operators ---- */

static int players(void)
{
    size_t i;
    int count = 0;
    for (i = 0; i < session_count; i++) count += !sessions[i]->ends_at;
    return count;
}

static int tell_all(const char *word, const char *text)
{
    size_t i;
    for (i = 0; i < session_count; i++) {
        if (!sessions[i]->ends_at) tell(sessions[i], "%s %s", word, text);
    }
    return players();
}

static const char *info(agent *a, void *user)
{
    static char json[64];
    (void)a;
    (void)user;
    snprintf(json, sizeof json, "{\"players\": %d, \"open\": %s}", players(), is_open ? "true" : "false");
    return json;
}

static const char *on_entry(agent *a, int open, const char *reason, void *user)
{
    static char text[64];
    char words[sizeof why_closed + MAX_NAME + 2];
    (void)a;
    (void)user;
    is_open = open;
    if (open) return "the door is open";
    snprintf(why_closed, sizeof why_closed, "%s", reason);
    snprintf(words, sizeof words, "%s %s", gate_name, why_closed);
    snprintf(text, sizeof text, "the door is closed, %d players are told", tell_all("leave", words));
    return text;
}

static void on_trouble(agent *a, const char *text, void *user)
{
    (void)a;
    (void)user;
    printf("agent: %s\n", text);
}

static void status(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request, "{\"players\": %d, \"open\": %s, \"servers\": %zu}", players(),
                  is_open ? "true" : "false", server_count);
}

static const agent_argument BROADCAST[] = { { "text", "str", NULL, 0, "what all players of this gate read" } };

static void broadcast(agent_request *request, void *user)
{
    (void)user;
    agent_answerf(request, "{\"heard\": %d}", tell_all("notice", agent_str(request, "text")));
}

static const agent_argument KICK[] = {
    { "player", "str", NULL, 0, "his name" },
    { "reason", "str", "\"no reason given\"", 0, "what he reads" },
};

static void kick(agent_request *request, void *user)
{
    const char *name = agent_str(request, "player");
    size_t i, kicked = 0;
    (void)user;
    for (i = 0; i < session_count; i++) { /* one for each server that he is on */
        if (sessions[i]->ends_at || strcmp(sessions[i]->name, name) != 0) continue;
        tell(sessions[i], "bye %s", agent_str(request, "reason"));
        finish(sessions[i]);
        kicked++;
    }
    if (kicked == 0) {
        agent_refuse(request, "no such player at this gate");
        return;
    }
    agent_eventf(agent_of(request), "player_kicked", "{\"player\": %s}", agent_quote(agent_of(request), name));
    agent_answerf(request, "{\"kicked\": %s, \"connections\": %zu}", agent_quote(agent_of(request), name), kicked);
}

static void declare(agent *a)
{
    static const agent_spec STATUS = { "status", "how the gate is", "read", "{players, open, servers}",
                                       AGENT_NO_ARGUMENTS };
    static const agent_spec TELL = { "broadcast", "tell all players something", "write", "{heard}",
                                     AGENT_ARGUMENTS(BROADCAST) };
    static const agent_spec THROW = { "kick", "throw a player out", "write", "{kicked, connections}",
                                      AGENT_ARGUMENTS(KICK) };
    agent_command(a, &STATUS, status, NULL);
    agent_command(a, &TELL, broadcast, NULL);
    agent_command(a, &THROW, kick, NULL);
}

/* ---- the loop ---- */

static void fail(const char *what)
{
    fprintf(stderr, "gateserver: %s\n", what);
    exit(2);
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = { 0 };
    char host[64];
    unsigned port;
    if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &address.sin_addr) != 1) fail(text);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)port);
    return address;
}

static void read_servers(char *list)
{
    char *word, *equals;
    for (word = strtok(list, ","); word; word = strtok(NULL, ",")) {
        equals = strchr(word, '=');
        if (!equals || equals - word > MAX_NAME || server_count == MAX_SERVERS) fail(word);
        memcpy(servers[server_count].name, word, (size_t)(equals - word));
        servers[server_count++].address = address_of(equals + 1);
    }
}

static int listen_at(const char *place)
{
    struct sockaddr_in address = address_of(place);
    int door = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    fcntl(door, F_SETFL, O_NONBLOCK);
    if (bind(door, (struct sockaddr *)&address, sizeof address) < 0 || listen(door, 512) < 0) fail(strerror(errno));
    return door;
}

/* The process is to end: when everybody has hung up. */
static int close_up(int door)
{
    size_t i;
    close(door);
    tell_all("bye", "the gate is stopped");
    for (i = 0; i < session_count; i++) finish(sessions[i]);
    return -1;
}

static struct pollfd wish(const struct end *e)
{
    struct pollfd wish = { e->fd, 0, 0 };
    if (e->in.length < BUFFER_BYTES) wish.events |= POLLIN;
    if (e->out.length > 0) wish.events |= POLLOUT;
    if (!wish.events) wish.fd = -1; /* or poll would report a hang-up again and again */
    return wish;
}

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

int main(int count, char **words)
{
    static struct pollfd fds[4 + 1 + 2 * MAX_SESSIONS];
    agent_options options = AGENT_OPTIONS;
    agent *a;
    int door;

    if (count != 4) fail("usage: gateserver NAME HOST:PORT SERVER=HOST:PORT,...");
    gate_name = words[1];
    read_servers(words[3]);
    door = listen_at(words[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, stop);

    options.info = info;
    options.on_entry = on_entry; /* no on_save: a gate has nothing to lose */
    options.on_trouble = on_trouble;
    a = agent_open(&options);
    declare(a);
    while (!stopping || session_count > 0) {
        size_t agents = agent_fds(a, fds, 4), i;
        struct pollfd *mine = fds + agents; /* the door, then two for each session */
        int wait_ms = agent_wait_ms(a);
        if (stopping && door >= 0) door = close_up(door);
        mine[0] = (struct pollfd){ session_count < MAX_SESSIONS ? door : -1, POLLIN, 0 };
        for (i = 0; i < session_count; i++) {
            mine[1 + 2 * i] = wish(&sessions[i]->player);
            mine[2 + 2 * i] = wish(&sessions[i]->server);
        }
        poll(fds, agents + 1 + 2 * session_count, wait_ms >= 0 && wait_ms < 1000 ? wait_ms : 1000);
        for (i = session_count; i-- > 0;) {
            if (!serve(sessions[i], mine[1 + 2 * i].revents, mine[2 + 2 * i].revents)) end_session(i);
        }
        if (mine[0].revents) let_in(door);
        agent_poll(a);
    }
    agent_close(a);
    return 0;
}
