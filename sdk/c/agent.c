/* The SDK for application processes in C: agent.h says what each function promises, docs/sdk.md what goes
 * over the wire.
 *
 *     game loop --> agent_poll --+--> record --> globaldb   AUTH, startcount, HMSET; goes on without a daemon
 *                                +--> link ----> daemon     frames: join, declare, answers, events
 *                                       '------> requests   handlers, and the ledger of what ran
 *
 * Rules for the next editor:
 * - Nothing waits: every socket is non-blocking, one poll(2) per step with time-out 0, no sleep. The
 *   one exception is `resolve`, which agent_open alone may call.
 * - No memory but the one block of agent_open: every buffer is a field of `struct agent` and has its limit
 *   there.
 * - Nothing that a peer says may do more than cost its own connection. Lengths are checked before they are
 *   used; a body is checked as a whole by json_ok before anything is picked from it, so that `pick` may trust
 *   its shape.
 * - A step of the link may end in link_drop; whoever calls back into the program looks at link.state
 *   afterwards. Outside of link_step a send that fails only sets link.broken.
 * - Numbers go through to_double and print only: programs call setlocale, and then "%g" writes commas.
 * - Compiles as C99 and as C++11: casts for void *, no designated initializers, no compound literals.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* ---- limits -------------------------------------------------------------------------------------------- */

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define NEVER INT64_MAX

#define LOOK_EVERY MILLISECOND /* a busy loop that polls more often costs a look at the clock */
#define FRAMES_PER_POLL 100
#define CONNECT_WITHIN (5 * SECOND)
#define JOIN_WITHIN (10 * SECOND)
#define ANSWER_WITHIN (5 * SECOND) /* globaldb */
#define LINK_PAUSE (SECOND / 5)
#define LINK_PAUSE_MAX (5 * SECOND)
#define RECORD_PAUSE SECOND
#define RECORD_PAUSE_MAX (10 * SECOND)
#define HEARTBEAT (5 * SECOND)
#define HEARTBEAT_MIN (SECOND / 20)
#define HEARTBEAT_MAX (3600 * SECOND)
#define PROGRESS_EVERY (SECOND / 20)

#define MAX_DEPTH 64
#define BODY_DEPTH (MAX_DEPTH - 2) /* what is left for a value inside [name, {field: value}] */
#define PREFIX_BYTES 11
#define HEAD_BYTES 7 /* what a frame's length counts beside addresses and body */
#define MAX_FRAME_BYTES (1024 * 1024)
#define READ_BYTES (64 * 1024)
#define IN_BYTES (4 + MAX_FRAME_BYTES + READ_BYTES)
#define OUT_BYTES (1024 * 1024)
#define OUT_EVENT_BYTES (OUT_BYTES / 2) /* with more waiting, no events and no progress: answers go first */
#define BODY_BYTES (AGENT_MAX_ANSWER_BYTES + 8 * 1024)
#define RECORD_OUT_BYTES (AGENT_MAX_INFO_BYTES + 2 * 1024)
#define REPLY_BYTES 4096 /* one line of RESP */
#define QUOTE_BYTES (64 * 1024)
#define MAX_WORD 64
#define MAX_KEY 255
#define MAX_ID 256
#define MAX_HOST 255
#define MAX_SECRET 512
#define MAX_LINE_CHARS 200
#define MAX_DEFAULT_BYTES 1000

/* ---- what there is ------------------------------------------------------------------------------------- */

enum frame_kind { REQUEST = 1, REPLY = 2, ERROR = 3, NOTICE = 4 };
enum link_state { LINK_OFF, LINK_WAITING, LINK_CONNECTING, LINK_JOINING, LINK_JOINED };
enum record_state { RECORD_OFF, RECORD_WAITING, RECORD_CONNECTING, RECORD_TALKING };
enum asked { ASKED_NOTHING, ASKED_AUTH, ASKED_HEXISTS, ASKED_HSET, ASKED_HINCRBY, ASKED_HMSET };
enum request_state { REQUEST_OPEN, REQUEST_LATER, REQUEST_ANSWERED };

/* Bytes of somebody else's, not ended by a zero. */
typedef struct {
    const char *at, *end;
} slice;

/* A buffer that is filled and never grows; what does not fit sets `full`. */
typedef struct {
    char *data;
    size_t size, length;
    int full;
} text;

typedef struct {
    int fd;      /* -1: none */
    short ready; /* what the last poll(2) said */
    int blocked; /* the last send took less than all */
} stream;

typedef struct {
    struct sockaddr_storage at;
    socklen_t length; /* 0: none */
} address;

typedef struct {
    char name[MAX_WORD + 1];
    agent_handler handler;
    void *user;
} command;

/* One id: it runs, or its answer is kept[kept_at % AGENT_KEPT_BYTES] unless that has been overwritten
 * since. */
typedef struct {
    char id[MAX_ID + 1];
    uint64_t serial; /* 0: never used */
    int running;
    unsigned link; /* who asked last: the number of a link, and a seq on it */
    uint32_t seq;
    int kind;
    uint64_t kept_at;
    size_t kept_length; /* 0: it was too long */
} entry;

typedef struct {
    enum link_state state;
    stream s;
    address daemon;
    int64_t due, pause;
    unsigned number; /* of this connection */
    uint32_t seq, join_seq, declare_seq;
    int broken, declare_due, more; /* more: whole frames are left in `in` */
    uint32_t told;                 /* hash of the last trouble; 0 once all is well again */
    size_t in_start, in_end, sent;
    text out;
} link_t;

typedef struct {
    enum record_state state;
    stream s;
    address where;
    int64_t due, pause, beat_at, heartbeat;
    enum asked asked;
    int authorized, counted, known; /* known: HEXISTS has been answered on this connection */
    uint32_t told;
    char url[MAX_HOST + 2 * MAX_SECRET];
    char host[MAX_HOST + 1], user[MAX_SECRET + 1], password[MAX_SECRET + 1];
    int port, fixed; /* fixed: the environment said so, and the daemon has no say */
    size_t sent, reply_length;
    text out;
    char reply[REPLY_BYTES];
} record_t;

struct agent {
    agent_options options;
    char key[MAX_KEY + 1], incarnation[MAX_KEY + 1], token[MAX_SECRET + 1];
    pid_t pid;
    int active, depth, closing, in_info, in_trouble;
    int64_t now, look_at;
    uint64_t random;
    char error[512];

    link_t link;
    record_t record;

    command commands[AGENT_MAX_COMMANDS];
    size_t command_count;

    entry entries[AGENT_KEPT_IDS];
    uint32_t hashes[AGENT_KEPT_IDS]; /* of the ids: what a search reads */
    size_t next_entry;
    uint64_t serial, kept_end;

    int saving;
    unsigned save_link;
    uint32_t save_seq;
    int64_t progress_at;

    text body, declared;
    size_t quote_at;

    char format[AGENT_MAX_ANSWER_BYTES + 1];
    char quotes[2 * QUOTE_BYTES];
    char info_data[AGENT_MAX_INFO_BYTES + 1];
    char body_data[BODY_BYTES];
    char declared_data[AGENT_MAX_DECLARED_BYTES - 2]; /* without its brackets */
    char record_out[RECORD_OUT_BYTES];
    char kept[AGENT_KEPT_BYTES];
    char out[OUT_BYTES];
    char in[IN_BYTES];
    char decoded[IN_BYTES]; /* strings of `in`, each at the place where it stands there */
};

struct agent_request {
    agent *a;
    slice arguments;
    const char *command;
    size_t slot;
    enum request_state state;
    double left_s;
    char operator_name[MAX_KEY + 1];
};

/* ---- clocks, chance, trouble --------------------------------------------------------------------------- */

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t chance(agent *a)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return a->random;
}

/* The pause, a quarter of it more or less. */
static int64_t jittered(agent *a, int64_t pause)
{
    return pause * 3 / 4 + (int64_t)(chance(a) % (uint64_t)(pause / 2 + 1));
}

/* How many bytes of it to take, so that it is cut between characters. */
static size_t cut(const char *words, size_t most)
{
    size_t length = strlen(words);
    if (length <= most) return length;
    length = most;
    while (length > 0 && ((unsigned char)words[length] & 0xC0) == 0x80) length--;
    return length;
}

static uint32_t hash(const char *words)
{
    uint32_t sum = 2166136261u; /* FNV-1a */
    for (; *words; words++) sum = (sum ^ (unsigned char)*words) * 16777619u;
    return sum;
}

/* A daemon that is away is no news every five seconds. */
static int is_news(uint32_t *told, const char *why)
{
    int same = *told == hash(why);
    *told = hash(why);
    return !same;
}

static void trouble(agent *a, const char *format, ...) AGENT_PRINTF(2, 3);

/* The same thing is not told twice in a row. */
static void trouble(agent *a, const char *format, ...)
{
    char words[sizeof a->error + 256];
    va_list rest;
    va_start(rest, format);
    vsnprintf(words, sizeof words, format, rest);
    va_end(rest);
    words[cut(words, sizeof a->error - 1)] = 0;
    if (strcmp(words, a->error) == 0) return;
    strcpy(a->error, words);
    if (a->options.on_trouble && !a->in_trouble) {
        a->in_trouble = 1;
        a->options.on_trouble(a, a->error, a->options.user);
        a->in_trouble = 0;
    }
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static locale_t c_locale; /* set once, by the first agent_open */

/* `at` is a JSON number, and something that is no part of it follows. */
static double to_double(const char *at)
{
    locale_t before = uselocale(c_locale);
    double value = strtod(at, NULL);
    uselocale(before);
    return value;
}

/* vsnprintf with a decimal point; 0 when it does not fit. */
static int print(char *out, size_t size, const char *format, va_list rest)
{
    locale_t before = uselocale(c_locale);
    int length = vsnprintf(out, size, format, rest);
    uselocale(before);
    return length >= 0 && (size_t)length < size;
}

static void put(text *t, const char *bytes, size_t length)
{
    if (t->full || t->size - t->length < length) {
        t->full = 1;
        return;
    }
    memcpy(t->data + t->length, bytes, length);
    t->length += length;
}

static void put_words(text *t, const char *words)
{
    put(t, words, strlen(words));
}

static void put_int(text *t, int64_t value)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)value);
    put(t, digits, (size_t)length);
}

/* Epoch seconds with milliseconds. */
static void put_wall_clock(text *t)
{
    struct timespec now;
    char digits[40];
    int length;
    clock_gettime(CLOCK_REALTIME, &now);
    length =
        snprintf(digits, sizeof digits, "%lld.%03d", (long long)now.tv_sec, (int)(now.tv_nsec / MILLISECOND));
    put(t, digits, (size_t)length);
}

/* How long the UTF-8 sequence is that begins there (Unicode, table 3-7); 0 when it is none. */
static size_t sequence(const char *at, const char *end)
{
    const unsigned char *b = (const unsigned char *)at;
    unsigned char low = 0x80, high = 0xBF;
    size_t length = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4, i;
    if (b[0] < 0x80) return 1;
    if (b[0] < 0xC2 || b[0] > 0xF4 || (size_t)(end - at) < length) return 0;
    if (b[0] == 0xE0) {
        low = 0xA0;
    } else if (b[0] == 0xED) {
        high = 0x9F;
    } else if (b[0] == 0xF0) {
        low = 0x90;
    } else if (b[0] == 0xF4) {
        high = 0x8F;
    }
    if (b[1] < low || b[1] > high) return 0;
    for (i = 2; i < length; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
    }
    return length;
}

static void put_escaped(text *t, unsigned char c)
{
    static const char SHORT[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char escape[8];
    size_t i;
    for (i = 0; i + 1 < sizeof SHORT; i += 2) {
        if ((unsigned char)SHORT[i] == c) {
            escape[0] = '\\';
            escape[1] = SHORT[i + 1];
            put(t, escape, 2);
            return;
        }
    }
    snprintf(escape, sizeof escape, "\\u%04x", c);
    put(t, escape, 6);
}

/* A JSON string; U+FFFD where it is not UTF-8: one wrong name in an answer must not cost the answer. */
static void put_quoted(text *t, const char *at, size_t length)
{
    const char *end = at + length, *from;
    size_t step;
    put(t, "\"", 1);
    while (at < end && !t->full) {
        for (from = at; at < end && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\'; at += step) {
            step = sequence(at, end);
            if (step == 0) break;
        }
        put(t, from, (size_t)(at - from));
        if (at < end) {
            if ((unsigned char)*at >= 0x80) {
                put(t, "\xEF\xBF\xBD", 3);
            } else {
                put_escaped(t, (unsigned char)*at);
            }
            at++;
        }
    }
    put(t, "\"", 1);
}

/* ---- JSON: reading ------------------------------------------------------------------------------------- */

/* `outgoing` text has to please every reader: no integer over 64 bits, no float that is infinite, no half of
 * a surrogate pair. In what comes those are let through: an odd argument must not cost the link. */
typedef struct {
    const char *at, *end;
    int outgoing;
} reader;

static int read_value(reader *r, int room);

static int peek(const reader *r)
{
    return r->at < r->end ? (unsigned char)*r->at : -1;
}

static int take(reader *r, int c)
{
    if (peek(r) != c) return 0;
    r->at++;
    return 1;
}

static void skip_space(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
}

static int read_digits(reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > from;
}

/* A whole JSON number without point and exponent; 0 when it does not fit. */
static int to_int(slice number, int64_t *value)
{
    const char *at = number.at;
    int negative = at < number.end && *at == '-';
    uint64_t sum = 0, most = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    if (negative) at++;
    if (at == number.end) return 0;
    for (; at < number.end; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (*at < '0' || *at > '9' || sum > (most - digit) / 10) return 0;
        sum = sum * 10 + digit;
    }
    *value = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return 1;
}

static int read_number(reader *r)
{
    slice number;
    int64_t whole;
    int is_whole = 1;
    number.at = r->at;
    take(r, '-');
    if (!take(r, '0') && !read_digits(r)) return 0;
    if (take(r, '.')) {
        is_whole = 0;
        if (!read_digits(r)) return 0;
    }
    if (take(r, 'e') || take(r, 'E')) {
        is_whole = 0;
        if (!take(r, '-')) take(r, '+');
        if (!read_digits(r)) return 0;
    }
    number.end = r->at;
    if (!r->outgoing) return 1;
    return is_whole ? to_int(number, &whole) : isfinite(to_double(number.at)) != 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int32_t hex4(const char *at, const char *end)
{
    int32_t code = 0;
    int i;
    if (end - at < 4) return -1;
    for (i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* The character that the escape at `*at` stands for, and `*at` behind it; half of a pair is itself; -1: no
 * escape. */
static int32_t escaped(const char **at, const char *end)
{
    static const char SHORT[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    const char *here = *at + 1;
    int32_t code, low;
    size_t i;
    if (here >= end) return -1;
    for (i = 0; i + 1 < sizeof SHORT; i += 2) {
        if (SHORT[i] == *here) {
            *at = here + 1;
            return (unsigned char)SHORT[i + 1];
        }
    }
    code = *here == 'u' ? hex4(here + 1, end) : -1;
    if (code < 0) return -1;
    *at = here + 5;
    if (code < 0xD800 || code > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') {
        return code;
    }
    low = hex4(*at + 2, end);
    if (low < 0xDC00 || low > 0xDFFF) return code;
    *at += 6;
    return 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00);
}

static int is_half(int32_t code)
{
    return code >= 0xD800 && code <= 0xDFFF;
}

static int read_string(reader *r)
{
    if (!take(r, '"')) return 0;
    while (r->at < r->end) {
        unsigned char c = (unsigned char)*r->at;
        if (c == '"') {
            r->at++;
            return 1;
        }
        if (c == '\\') {
            int32_t code = escaped(&r->at, r->end);
            if (code < 0 || (r->outgoing && is_half(code))) return 0;
        } else {
            size_t length = c < 0x20 ? 0 : sequence(r->at, r->end);
            if (length == 0) return 0;
            r->at += length;
        }
    }
    return 0;
}

static int read_object(reader *r, int room)
{
    r->at++;
    skip_space(r);
    if (take(r, '}')) return 1;
    do {
        skip_space(r);
        if (!read_string(r)) return 0;
        skip_space(r);
        if (!take(r, ':') || !read_value(r, room)) return 0;
        skip_space(r);
    } while (take(r, ','));
    return take(r, '}');
}

static int read_array(reader *r, int room)
{
    r->at++;
    skip_space(r);
    if (take(r, ']')) return 1;
    do {
        if (!read_value(r, room)) return 0;
        skip_space(r);
    } while (take(r, ','));
    return take(r, ']');
}

static int read_word(reader *r, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0) return 0;
    r->at += length;
    return 1;
}

/* Passes over one value, of at most `room` levels. It recurses at most MAX_DEPTH times. */
static int read_value(reader *r, int room)
{
    skip_space(r);
    switch (peek(r)) {
    case '"': return read_string(r);
    case '{': return room > 0 && read_object(r, room - 1);
    case '[': return room > 0 && read_array(r, room - 1);
    case 't': return read_word(r, "true");
    case 'f': return read_word(r, "false");
    case 'n': return read_word(r, "null");
    default: return read_number(r);
    }
}

/* Whether it is one JSON value and nothing else. Of outgoing text the byte at `end` must be readable. */
static int json_ok(slice json, int room, int outgoing)
{
    reader r;
    r.at = json.at;
    r.end = json.end;
    r.outgoing = outgoing;
    if (!read_value(&r, room)) return 0;
    skip_space(&r);
    return r.at == r.end;
}

/* What a program hands over: valid, not too long, and an object if it must be one. */
static int is_sendable(const char *json, size_t most, int room, int is_object)
{
    slice whole;
    size_t length = json ? strlen(json) : 0;
    if (!json || length > most) return 0;
    whole.at = json;
    whole.end = json + length;
    return json_ok(whole, room, 1) && (!is_object || json[strspn(json, " \t\r\n")] == '{');
}

static size_t encode_utf8(int32_t code, char *out)
{
    if (is_half(code)) code = 0xFFFD;
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* What a checked JSON string says, ended by a zero. 0: it is longer than size - 1. It is never longer than
 * its JSON. */
static int decode(slice string, char *out, size_t size, size_t *length)
{
    const char *at = string.at + 1, *end = string.end - 1;
    char bytes[4];
    size_t n = 0, step;
    while (at < end) {
        if (*at == '\\') {
            step = encode_utf8(escaped(&at, end), bytes);
        } else {
            step = 1;
            bytes[0] = *at++;
        }
        if (n + step >= size) return 0;
        memcpy(out + n, bytes, step);
        n += step;
    }
    out[n] = 0;
    *length = n;
    return 1;
}

static int says(slice string, const char *word)
{
    char plain[2 * MAX_WORD];
    size_t length;
    if (!decode(string, plain, sizeof plain, &length)) return 0;
    return length == strlen(word) && memcmp(plain, word, length) == 0;
}

/* The values of those members of a checked object, { NULL, NULL } for one that is not there; the last one
 * counts. */
static void pick(slice object, const char *const *names, slice *values, size_t count)
{
    reader r;
    slice key, value;
    size_t i;
    memset(values, 0, count * sizeof *values);
    r.at = object.at + 1;
    r.end = object.end;
    r.outgoing = 0;
    do {
        skip_space(&r);
        key.at = r.at;
        if (!read_string(&r)) return;
        key.end = r.at;
        skip_space(&r);
        take(&r, ':');
        skip_space(&r);
        value.at = r.at;
        if (!read_value(&r, MAX_DEPTH)) return;
        value.end = r.at;
        for (i = 0; i < count; i++) {
            if (says(key, names[i])) values[i] = value;
        }
        skip_space(&r);
    } while (take(&r, ','));
}

static int is_string(slice value)
{
    return value.at && *value.at == '"';
}

static int is_number(slice value)
{
    return value.at && (*value.at == '-' || (*value.at >= '0' && *value.at <= '9'));
}

static int is_word(slice value, const char *word)
{
    size_t length = strlen(word);
    return value.at && (size_t)(value.end - value.at) == length && memcmp(value.at, word, length) == 0;
}

/* The text of a string member, or as much of it as there is room for: "" where it is none. */
static void copy_string(slice value, char *out, size_t size)
{
    size_t length;
    if (!is_string(value) || !decode(value, out, size, &length)) out[0] = 0;
}

/* ---- sockets that never wait --------------------------------------------------------------------------- */

/* 0: it is no numeric address. */
static int numeric(const char *host, int port, address *found)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&found->at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&found->at;
    memset(found, 0, sizeof *found);
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        found->length = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        found->length = sizeof *v6;
    }
    return found->length != 0;
}

/* A non-blocking socket that no child of exec inherits; -1. */
static int new_socket(int family, int type)
{
#ifdef SOCK_CLOEXEC
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
    int fd = socket(family, type, 0);
    if (fd >= 0 && (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
#endif
}

static void stream_close(stream *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->ready = 0;
    s->blocked = 0;
}

static int stream_dial(stream *s, const address *where)
{
    int one = 1;
    s->fd = new_socket(where->at.ss_family, SOCK_STREAM);
    if (s->fd < 0) return 0;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
#ifdef SO_NOSIGPIPE
    setsockopt(s->fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    if (connect(s->fd, (const struct sockaddr *)&where->at, where->length) < 0 && errno != EINPROGRESS) {
        int error = errno;
        stream_close(s);
        errno = error;
        return 0;
    }
    s->ready = 0;
    s->blocked = 1;
    return 1;
}

/* When it is ready after stream_dial: 0, or why there is no connection. */
static int stream_error(const stream *s)
{
    int error = 0;
    socklen_t length = sizeof error;
    struct sockaddr_storage near, far;
    socklen_t near_length = sizeof near, far_length = sizeof far;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error) return error ? error : errno;
    memset(&near, 0, sizeof near);
    memset(&far, 0, sizeof far);
    if (getsockname(s->fd, (struct sockaddr *)&near, &near_length) < 0 ||
        getpeername(s->fd, (struct sockaddr *)&far, &far_length) < 0) {
        return errno;
    }
    /* TCP connects a socket to itself where nobody listens on a port that it happens to be given as its
     * own */
    return memcmp(&near, &far, sizeof near) == 0 ? ECONNREFUSED : 0;
}

/* Sends from *sent on as much as the kernel takes, and empties the buffer when that is all. 0: the connection
 * is lost. */
static int stream_send(stream *s, text *out, size_t *sent)
{
    while (*sent < out->length) {
        ssize_t n = send(s->fd, out->data + *sent, out->length - *sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            s->blocked = 1;
            return 1;
        }
        if (n < 0) return 0;
        *sent += (size_t)n;
    }
    s->blocked = 0;
    *sent = out->length = 0;
    return 1;
}

/* How many bytes came, 0 for none yet, -1 when the connection is lost. */
static ssize_t stream_receive(stream *s, char *into, size_t most)
{
    ssize_t n = recv(s->fd, into, most, 0);
    s->ready = 0;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
    return n > 0 ? n : -1;
}

static int is_readable(const stream *s)
{
    return (s->ready & (POLLIN | POLLERR | POLLHUP | POLLNVAL)) != 0;
}

/* The address of a name, from whatever this machine is configured to ask, which may take seconds. 0: none. */
static int resolve(const char *host, int port, address *found)
{
    struct addrinfo hints, *first = NULL;
    char digits[12];
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    snprintf(digits, sizeof digits, "%d", port);
    memset(found, 0, sizeof *found);
    if (getaddrinfo(host, digits, &hints, &first) != 0 || !first) return 0;
    if (first->ai_addrlen <= sizeof found->at) {
        memcpy(&found->at, first->ai_addr, first->ai_addrlen);
        found->length = first->ai_addrlen;
    }
    freeaddrinfo(first);
    return found->length != 0;
}

/* ---- record: what "alive" means ------------------------------------------------------------------------ */

/* Takes the connection down; it is made anew after a pause. */
static void record_drop(agent *a, const char *why)
{
    record_t *r = &a->record;
    stream_close(&r->s);
    r->state = RECORD_WAITING;
    r->asked = ASKED_NOTHING;
    r->due = a->now + jittered(a, r->pause * 4 / 5);
    if (r->due < a->now + RECORD_PAUSE) r->due = a->now + RECORD_PAUSE;
    r->pause = r->pause * 2 < RECORD_PAUSE_MAX ? r->pause * 2 : RECORD_PAUSE_MAX;
    if (is_news(&r->told, why)) trouble(a, "globaldb %s:%d: %s", r->host, r->port, why);
}

static void record_ask(agent *a, enum asked what, const char *const *words, size_t count)
{
    record_t *r = &a->record;
    size_t i;
    r->out.length = r->sent = 0;
    r->out.full = 0;
    put(&r->out, "*", 1);
    put_int(&r->out, (int64_t)count);
    for (i = 0; i < count; i++) {
        put_words(&r->out, "\r\n$");
        put_int(&r->out, (int64_t)strlen(words[i]));
        put_words(&r->out, "\r\n");
        put_words(&r->out, words[i]);
    }
    put_words(&r->out, "\r\n");
    r->asked = what;
    r->due = a->now + ANSWER_WITHIN;
}

/* The newest info; an old one rather than none where the program gives a wrong one: it lives all the same. */
static const char *record_info(agent *a)
{
    if (a->options.info && !a->in_info) {
        const char *json;
        a->in_info = 1;
        json = a->options.info(a, a->options.user);
        a->in_info = 0;
        if (json) agent_info(a, json);
    }
    return a->info_data;
}

static void record_beat(agent *a)
{
    record_t *r = &a->record;
    int64_t gap = r->heartbeat / 10 * 9; /* "at least every": who polls may come late */
    char name[MAX_KEY + 16], pid[24], wall_data[40];
    text wall = { NULL, sizeof wall_data - 1, 0, 0 };
    const char *words[8];
    wall.data = wall_data;
    r->beat_at = r->beat_at + gap > a->now + gap / 2 ? r->beat_at + gap : a->now + gap / 2;
    snprintf(name, sizeof name, "process:%s", a->key);
    snprintf(pid, sizeof pid, "%ld", (long)a->pid);
    words[0] = "HMSET";
    words[1] = name;
    words[2] = "info";
    words[3] = record_info(a);
    put_wall_clock(&wall); /* after info, which may take its time */
    wall_data[wall.length] = 0;
    words[4] = "pid";
    words[5] = pid;
    words[6] = "lastupdate";
    words[7] = wall_data;
    record_ask(a, ASKED_HMSET, words, 8);
}

/* Where nobody else started us nobody else counts us: HEXISTS, HSET, HINCRBY. The last is never said
 * twice. */
static void record_count(agent *a)
{
    record_t *r = &a->record;
    char name[MAX_KEY + 16], wall_data[40];
    text wall = { NULL, sizeof wall_data - 1, 0, 0 };
    const char *words[4];
    if (!r->known) {
        words[0] = "HEXISTS";
        words[1] = "process";
        words[2] = a->key;
        record_ask(a, ASKED_HEXISTS, words, 3);
    } else if (r->known == 1) {
        wall.data = wall_data;
        put_wall_clock(&wall);
        wall_data[wall.length] = 0;
        words[0] = "HSET";
        words[1] = "process";
        words[2] = a->key;
        words[3] = wall_data;
        record_ask(a, ASKED_HSET, words, 4);
    } else {
        snprintf(name, sizeof name, "process:%s", a->key);
        words[0] = "HINCRBY";
        words[1] = name;
        words[2] = "startcount";
        words[3] = "1";
        r->counted = 1;
        record_ask(a, ASKED_HINCRBY, words, 4);
    }
}

/* What is to be said now, when no answer is missing. */
static void record_speak(agent *a)
{
    record_t *r = &a->record;
    const char *words[3];
    size_t count = 0;
    if (!r->authorized) {
        words[count++] = "AUTH";
        if (r->user[0]) words[count++] = r->user;
        words[count++] = r->password;
        record_ask(a, ASKED_AUTH, words, count);
    } else if (!r->counted) {
        record_count(a);
    } else if (a->now >= r->beat_at) {
        record_beat(a);
    }
}

/* One whole reply; 0: not one that we can live with. */
static int record_answered(agent *a, const char *line)
{
    record_t *r = &a->record;
    enum asked asked = r->asked;
    r->asked = ASKED_NOTHING;
    if (asked == ASKED_NOTHING || (line[0] != '+' && line[0] != ':') || r->sent < r->out.length) return 0;
    if (asked == ASKED_AUTH) {
        r->authorized = 1;
    } else if (asked == ASKED_HEXISTS) {
        r->known = strcmp(line, ":0") == 0 ? 1 : 2;
    } else if (asked == ASKED_HSET) {
        r->known = 2;
    } else if (asked == ASKED_HMSET) {
        r->pause = RECORD_PAUSE;
        r->told = 0;
    }
    return 1;
}

static void record_receive(agent *a)
{
    record_t *r = &a->record;
    char *end;
    ssize_t n = stream_receive(&r->s, r->reply + r->reply_length, sizeof r->reply - r->reply_length);
    if (n < 0) {
        record_drop(a, "the connection was lost");
        return;
    }
    r->reply_length += (size_t)n;
    while ((end = (char *)memchr(r->reply, '\n', r->reply_length)) != NULL) {
        size_t line = (size_t)(end - r->reply) + 1;
        *end = 0;
        if (line >= 2 && end[-1] == '\r') end[-1] = 0;
        if (!record_answered(a, r->reply)) {
            char why[120];
            snprintf(why, sizeof why, "it answers %.80s", r->reply[0] ? r->reply : "nothing");
            record_drop(a, why);
            return;
        }
        r->reply_length -= line;
        memmove(r->reply, end + 1, r->reply_length);
    }
    if (r->reply_length == sizeof r->reply) record_drop(a, "it answers without end");
}

static void record_dial(agent *a)
{
    record_t *r = &a->record;
    r->state = RECORD_CONNECTING;
    r->due = a->now + CONNECT_WITHIN;
    if (!stream_dial(&r->s, &r->where)) record_drop(a, strerror(errno));
}

static void record_connected(agent *a)
{
    record_t *r = &a->record;
    int error = stream_error(&r->s);
    if (error) {
        record_drop(a, strerror(error));
        return;
    }
    r->state = RECORD_TALKING;
    r->authorized = r->password[0] == 0 && r->user[0] == 0;
    r->known = 0;
    r->reply_length = r->sent = r->out.length = 0;
    r->beat_at = a->now;
    r->s.ready = 0;
}

static void record_talk(agent *a)
{
    record_t *r = &a->record;
    if (is_readable(&r->s)) record_receive(a);
    if (r->state == RECORD_TALKING && r->asked == ASKED_NOTHING) {
        record_speak(a);
    } else if (r->state == RECORD_TALKING && a->now >= r->due) {
        record_drop(a, "no answer within 5 s");
    }
    if (r->state == RECORD_TALKING && r->sent < r->out.length && !stream_send(&r->s, &r->out, &r->sent)) {
        record_drop(a, "the connection was lost");
    }
}

static void record_step(agent *a)
{
    record_t *r = &a->record;
    switch (r->state) {
    case RECORD_OFF: break;
    case RECORD_WAITING:
        if (a->now >= r->due) record_dial(a);
        break;
    case RECORD_CONNECTING:
        if (r->s.ready) {
            record_connected(a);
        } else if (a->now >= r->due) {
            record_drop(a, "no connection within 5 s");
        }
        if (r->state != RECORD_TALKING) break;
        /* fall through */
    case RECORD_TALKING: record_talk(a); break;
    }
}

static void record_set_heartbeat(agent *a, double seconds)
{
    record_t *r = &a->record;
    int64_t before = r->heartbeat;
    if (!(seconds > 0)) return;
    r->heartbeat = seconds < 3600 ? (int64_t)(seconds * 1e9) : HEARTBEAT_MAX;
    r->heartbeat = r->heartbeat < HEARTBEAT_MIN ? HEARTBEAT_MIN : r->heartbeat;
    if (r->heartbeat < before) {
        r->beat_at -= before - r->heartbeat; /* the next one comes no later than the new rate wants it */
    }
}

/* ---- where globaldb is --------------------------------------------------------------------------------- */

/* %XX in [at, end) resolved; 0 when it does not fit. */
static int unquote(const char *at, const char *end, char *out, size_t size)
{
    size_t n = 0;
    for (; at < end; at++) {
        char digits[5] = "00";
        int32_t code = -1;
        if (*at == '%' && end - at > 2) {
            digits[2] = at[1];
            digits[3] = at[2];
            code = hex4(digits, digits + 4);
        }
        if (n + 1 >= size) return 0;
        out[n++] = code > 0 ? (char)code : *at;
        at += code > 0 ? 2 : 0;
    }
    out[n] = 0;
    return 1;
}

/* host:port, [v6]:port, or without a port where there is a default. */
static int split_address(const char *at, const char *end, int port, char *host, size_t size, int *found)
{
    const char *close = *at == '[' ? (const char *)memchr(at, ']', (size_t)(end - at)) : NULL;
    const char *host_end = close, *colon;
    long number = port;
    if (*at == '[' && !close) return 0;
    if (close) {
        at++;
        colon = close + 1;
    } else {
        for (colon = end; colon > at && colon[-1] != ':'; colon--) {
        }
        colon = colon > at ? colon - 1 : end;
        host_end = colon;
    }
    if (colon < end) {
        char *rest;
        number = *colon == ':' ? strtol(colon + 1, &rest, 10) : 0;
        if (*colon != ':' || rest != end) return 0;
    }
    if (host_end == at || (size_t)(host_end - at) >= size || number < 1 || number > 65535) return 0;
    memcpy(host, at, (size_t)(host_end - at));
    host[host_end - at] = 0;
    *found = (int)number;
    return 1;
}

static int parse_url(record_t *r, const char *at)
{
    const char *end = at + strcspn(at, "/?#"), *sign, *colon;
    r->user[0] = r->password[0] = 0;
    for (sign = end; sign > at && *sign != '@'; sign--) {
    }
    if (*sign == '@' && sign < end) {
        colon = (const char *)memchr(at, ':', (size_t)(sign - at));
        if (!unquote(at, colon ? colon : sign, r->user, sizeof r->user) ||
            !unquote(colon ? colon + 1 : sign, sign, r->password, sizeof r->password)) {
            return 0;
        }
        at = sign + 1;
    }
    return split_address(at, end, 6379, r->host, sizeof r->host, &r->port);
}

/* From now on the record goes there. A wrong URL changes nothing, and no message repeats it: it has a
 * password. A name is looked up for the environment's alone, in agent_open. */
static void record_set_url(agent *a, const char *url, int is_environment)
{
    record_t *r = &a->record, read;
    if (strcmp(url, r->url) == 0) return;
    if (strncmp(url, "rediss://", 9) == 0) {
        trouble(a, "globaldb: rediss:// (TLS) is not supported by the C SDK: no record; the link works");
        return;
    }
    memset(&read, 0, sizeof read);
    if (strncmp(url, "redis://", 8) != 0 || strlen(url) >= sizeof r->url || !parse_url(&read, url + 8)) {
        trouble(a, "globaldb's address is not redis://[[user]:password@]host[:port]: no record is written");
        return;
    }
    if (!numeric(read.host, read.port, &read.where)) {
        const char *why = is_environment ? "no such host" : "the daemon tells a name, not an address";
        if (!is_environment || !resolve(read.host, read.port, &read.where)) {
            trouble(a, "globaldb %s: %s: no record is written", read.host, why);
            return;
        }
    }
    stream_close(&r->s);
    strcpy(r->url, url);
    r->where = read.where;
    strcpy(r->host, read.host);
    strcpy(r->user, read.user);
    strcpy(r->password, read.password);
    r->port = read.port;
    r->state = RECORD_WAITING;
    r->asked = ASKED_NOTHING;
    r->pause = RECORD_PAUSE;
    r->due = a->now;
}

/* ---- frames -------------------------------------------------------------------------------------------- */

/* The length of the frame at `at`: 0 when that cannot be said yet, -1 when it is none. */
static int32_t frame_length(const char *at, size_t have)
{
    const unsigned char *b = (const unsigned char *)at;
    uint32_t length;
    if (have < 4) return 0;
    length = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    if (length > MAX_FRAME_BYTES) return -1;
    if (have < PREFIX_BYTES) return 0;
    if (b[4] < REQUEST || b[4] > NOTICE || length < (uint32_t)HEAD_BYTES + b[9] + b[10]) return -1;
    return (int32_t)length + 4;
}

static size_t link_waiting(const agent *a)
{
    return a->link.out.length - a->link.sent;
}

/* Whether a frame with that body may be begun; it is certain to fit then. */
static int link_has_room(agent *a, size_t length, size_t most)
{
    link_t *l = &a->link;
    if (l->state < LINK_JOINING || l->broken || link_waiting(a) + PREFIX_BYTES + length > most) return 0;
    if (l->sent > 0 && l->out.size - l->out.length < PREFIX_BYTES + length) {
        memmove(l->out.data, l->out.data + l->sent, link_waiting(a));
        l->out.length -= l->sent;
        l->sent = 0;
    }
    return 1;
}

static void put_u32(text *t, uint32_t value)
{
    char bytes[4];
    bytes[0] = (char)(value >> 24);
    bytes[1] = (char)(value >> 16);
    bytes[2] = (char)(value >> 8);
    bytes[3] = (char)value;
    put(t, bytes, 4);
}

/* The prefix of a frame whose body of `length` bytes is put behind it. */
static void put_prefix(text *t, int kind, uint32_t seq, size_t length)
{
    char byte = (char)kind;
    put_u32(t, (uint32_t)(HEAD_BYTES + length));
    put(t, &byte, 1);
    put_u32(t, seq);
    put(t, "\0\0", 2);
}

static int is_ours(agent *a);

/* Sends what the kernel takes; inside a step that happens once, at its end. */
static void link_flush(agent *a)
{
    link_t *l = &a->link;
    if (l->state < LINK_JOINING || l->broken || l->sent == l->out.length) return;
    if (l->s.blocked && !(l->s.ready & POLLOUT)) return;
    l->broken = !stream_send(&l->s, &l->out, &l->sent);
}

/* A frame with a->body in it. 0: there was no room; an answer that finds none costs the link. */
static int link_send_body(agent *a, int kind, uint32_t seq, size_t most)
{
    if (a->body.full || !link_has_room(a, a->body.length, most)) {
        a->link.broken = a->link.broken || most == OUT_BYTES;
        return 0;
    }
    put_prefix(&a->link.out, kind, seq, a->body.length);
    put(&a->link.out, a->body.data, a->body.length);
    if (!a->depth) link_flush(a);
    return 1;
}

/* a->body becomes ["name",{ ; the caller puts the fields and }] */
static text *begin_body(agent *a, const char *name)
{
    a->body.length = 0;
    a->body.full = 0;
    put_words(&a->body, "[\"");
    put_words(&a->body, name);
    put_words(&a->body, "\",{");
    return &a->body;
}

static void put_field(text *t, const char *name, const char *words, size_t length)
{
    put_quoted(t, name, strlen(name));
    put(t, ":", 1);
    put_quoted(t, words, length);
}

/* a->body becomes ["name",{"text":words}] */
static void text_body(agent *a, const char *name, const char *words)
{
    text *t = begin_body(a, name);
    words = words ? words : "";
    put_field(t, "text", words, cut(words, AGENT_MAX_TEXT_BYTES));
    put_words(t, "}]");
}

static void error_body(agent *a, const char *code, const char *words)
{
    text *t = begin_body(a, "error");
    words = words ? words : "";
    put_field(t, "code", code, strlen(code));
    put(t, ",", 1);
    put_field(t, "text", words, cut(words, AGENT_MAX_TEXT_BYTES));
    put_words(t, "}]");
}

/* An answer with a->body, where the link is still the one that was asked on. */
static void reply(agent *a, unsigned link, uint32_t seq, int kind)
{
    if (a->link.state == LINK_JOINED && a->link.number == link) {
        link_send_body(a, kind, seq, OUT_BYTES);
    }
}

static void reply_error(agent *a, uint32_t seq, const char *code, const char *words)
{
    error_body(a, code, words);
    reply(a, a->link.number, seq, ERROR);
}

/* ---- ledger: which ids ran, and what came of them ------------------------------------------------------ */

static entry *ledger_find(agent *a, const char *id)
{
    uint32_t sum = hash(id);
    size_t i;
    for (i = 0; i < AGENT_KEPT_IDS; i++) {
        if (a->hashes[i] == sum && a->entries[i].serial && strcmp(a->entries[i].id, id) == 0) {
            return &a->entries[i];
        }
    }
    return NULL;
}

/* Takes the place of the oldest that does not run; NULL when all of them do. One that is forgotten while it
 * runs could be run a second time. */
static entry *ledger_begin(agent *a, const char *id, uint32_t seq)
{
    size_t i, slot;
    for (i = 0; i < AGENT_KEPT_IDS; i++) {
        entry *e;
        slot = (a->next_entry + i) % AGENT_KEPT_IDS;
        e = &a->entries[slot];
        if (e->serial && e->running) continue;
        memset(e, 0, sizeof *e);
        strcpy(e->id, id);
        a->hashes[slot] = hash(id);
        e->serial = ++a->serial;
        e->running = 1;
        e->link = a->link.number;
        e->seq = seq;
        a->next_entry = (slot + 1) % AGENT_KEPT_IDS;
        return e;
    }
    return NULL;
}

/* Each answer lies in one piece: one that would not fit before the end of `kept` begins at its beginning. */
static void ledger_keep(agent *a, entry *e, const char *body, size_t length)
{
    size_t left = AGENT_KEPT_BYTES - (size_t)(a->kept_end % AGENT_KEPT_BYTES);
    e->kept_length = 0;
    if (length > AGENT_KEPT_ANSWER_BYTES) return;
    a->kept_end += left < length ? left : 0;
    memcpy(a->kept + a->kept_end % AGENT_KEPT_BYTES, body, length);
    e->kept_at = a->kept_end;
    e->kept_length = length;
    a->kept_end += length;
}

/* The answer is a->body: kept, and sent to whoever asked last. */
static void ledger_finish(agent *a, entry *e, int kind)
{
    e->running = 0;
    e->kind = kind;
    ledger_keep(a, e, a->body.data, a->body.length);
    reply(a, e->link, e->seq, kind);
}

/* What to say of an id that is known. */
static void ledger_repeat(agent *a, entry *e, uint32_t seq)
{
    e->link = a->link.number;
    e->seq = seq;
    if (e->running) return;
    if (e->kept_length == 0 || a->kept_end - e->kept_at > AGENT_KEPT_BYTES) {
        reply_error(a, seq, "forgotten", "it ran; its answer was not kept");
        return;
    }
    a->body.full = 0;
    a->body.length = e->kept_length;
    memcpy(a->body.data, a->kept + e->kept_at % AGENT_KEPT_BYTES, e->kept_length);
    reply(a, a->link.number, seq, e->kind);
}

static entry *ledger_ticket(agent *a, agent_ticket ticket)
{
    entry *e = a ? &a->entries[ticket % AGENT_KEPT_IDS] : NULL;
    return e && ticket >= AGENT_KEPT_IDS && e->serial == ticket / AGENT_KEPT_IDS && e->running ? e : NULL;
}

/* ---- what the daemon asks ------------------------------------------------------------------------------ */

static command *find_command(agent *a, const char *name)
{
    size_t i;
    for (i = 0; i < a->command_count; i++) {
        if (strcmp(a->commands[i].name, name) == 0) return &a->commands[i];
    }
    return NULL;
}

static void run_command(agent *a, const command *c, entry *e, const slice *fields)
{
    agent_request request;
    memset(&request, 0, sizeof request);
    request.a = a;
    request.arguments = fields[2];
    request.command = c->name;
    request.slot = (size_t)(e - a->entries);
    request.left_s = is_number(fields[5]) ? to_double(fields[5].at) : 0;
    copy_string(fields[3], request.operator_name, sizeof request.operator_name);
    c->handler(&request, c->user);
    if (request.state == REQUEST_OPEN) {
        trouble(a, "the handler of %s gave no answer", c->name);
        error_body(a, "internal", "its handler gave no answer");
        ledger_finish(a, e, ERROR);
    }
}

/* A string of at least one byte, without zeros, that fits. */
static int plain_string(slice value, char *out, size_t size)
{
    size_t length = 0;
    return is_string(value) && decode(value, out, size, &length) && length > 0 && strlen(out) == length;
}

/* A new id: runs the command, or says what is wrong. `fields` are those of EXECUTE_FIELDS. */
static void execute(agent *a, uint32_t seq, const char *id, const slice *fields)
{
    char name[MAX_WORD + 1];
    command *c = plain_string(fields[1], name, sizeof name) ? find_command(a, name) : NULL;
    entry *e;
    if (is_word(fields[4], "true")) {
        reply_error(a, seq, "forgotten", "this id is not known here");
        return;
    }
    if (!fields[2].at || *fields[2].at != '{' || (fields[4].at && !is_word(fields[4], "false"))) {
        reply_error(a, seq, "bad_request", "field arguments or again is of the wrong type");
        return;
    }
    if (!c) {
        reply_error(a, seq, "bad_request", "this command is not known here");
        return;
    }
    e = ledger_begin(a, id, seq);
    if (!e) {
        reply_error(a, seq, "refused", "too many commands are running already");
        return;
    }
    run_command(a, c, e, fields);
}

static void gm_execute(agent *a, uint32_t seq, slice whole)
{
    static const char *const EXECUTE_FIELDS[] = { "id", "command", "arguments", "user", "again", "left_s" };
    slice fields[6];
    char id[MAX_ID + 1];
    entry *e;
    pick(whole, EXECUTE_FIELDS, fields, 6);
    if (!plain_string(fields[0], id, sizeof id)) {
        reply_error(a, seq, "bad_request", "field id is not a string of 1 to 256 bytes");
        return;
    }
    e = ledger_find(a, id);
    if (e) {
        ledger_repeat(a, e, seq);
    } else {
        execute(a, seq, id, fields);
    }
}

static void process_save(agent *a, uint32_t seq, slice whole)
{
    static const char *const NAMES[] = { "reason" };
    slice fields[1];
    char reason[AGENT_MAX_TEXT_BYTES + 1];
    int runs = a->saving;
    if (!a->options.on_save) {
        reply_error(a, seq, "bad_request", "this process cannot save");
        return;
    }
    a->saving = 1;
    a->save_link = a->link.number;
    a->save_seq = seq;
    if (!runs) {
        pick(whole, NAMES, fields, 1);
        copy_string(fields[0], reason, sizeof reason);
        a->options.on_save(a, reason, a->options.user);
    }
}

static void entry_set(agent *a, uint32_t seq, slice whole)
{
    static const char *const NAMES[] = { "open", "reason" };
    slice fields[2];
    char reason[AGENT_MAX_TEXT_BYTES + 1];
    unsigned link = a->link.number;
    pick(whole, NAMES, fields, 2);
    if (!a->options.on_entry) {
        reply_error(a, seq, "bad_request", "this process has no entry to close");
        return;
    }
    if (!is_word(fields[0], "true") && !is_word(fields[0], "false")) {
        reply_error(a, seq, "bad_request", "field open is not true or false");
        return;
    }
    copy_string(fields[1], reason, sizeof reason);
    text_body(a, "entry.state", a->options.on_entry(a, is_word(fields[0], "true"), reason, a->options.user));
    reply(a, link, seq, REPLY);
}

static void request(agent *a, uint32_t seq, slice name, slice fields)
{
    if (says(name, "gm.execute")) {
        gm_execute(a, seq, fields);
    } else if (says(name, "process.save")) {
        process_save(a, seq, fields);
    } else if (says(name, "entry.set")) {
        entry_set(a, seq, fields);
    } else {
        reply_error(a, seq, "bad_request", "this request is not known here");
    }
}

/* ---- link ---------------------------------------------------------------------------------------------- */

static void link_drop(agent *a, const char *why)
{
    link_t *l = &a->link;
    stream_close(&l->s);
    l->state = LINK_WAITING;
    l->due = a->now + jittered(a, l->pause);
    l->pause = l->pause * 2 < LINK_PAUSE_MAX ? l->pause * 2 : LINK_PAUSE_MAX;
    l->in_start = l->in_end = l->sent = l->out.length = 0;
    l->broken = l->more = l->out.full = 0;
    if (is_news(&l->told, why)) trouble(a, "the daemon: %s", why);
}

static void link_dial(agent *a)
{
    link_t *l = &a->link;
    l->number++;
    l->state = LINK_CONNECTING;
    l->due = a->now + CONNECT_WITHIN;
    if (!stream_dial(&l->s, &l->daemon)) link_drop(a, strerror(errno));
}

static void link_join(agent *a)
{
    link_t *l = &a->link;
    int error = stream_error(&l->s);
    text *t;
    if (error) {
        link_drop(a, strerror(error));
        return;
    }
    l->state = LINK_JOINING;
    l->due = a->now + JOIN_WITHIN;
    l->join_seq = ++l->seq;
    l->s.ready = 0;
    l->s.blocked = 0;
    t = begin_body(a, "session.join");
    put_words(t, "\"protocol\":1,");
    put_field(t, "key", a->key, strlen(a->key));
    put(t, ",", 1);
    put_field(t, "incarnation", a->incarnation, strlen(a->incarnation));
    put(t, ",", 1);
    put_field(t, "token", a->token, strlen(a->token));
    put_words(t, ",\"pid\":");
    put_int(t, a->pid);
    put_words(t, ",\"sdk\":\"c " AGENT_VERSION "\"}]");
    link_send_body(a, REQUEST, l->join_seq, OUT_BYTES);
}

/* Everything that there is to declare, straight into the out buffer. */
static void link_declare(agent *a)
{
    char head[100];
    text *t = &a->link.out;
    static const char FORMAT[] = "[\"application.declare\",{\"saves\":%s,\"entry\":%s,\"commands\":[";
    int length = snprintf(head, sizeof head, FORMAT, a->options.on_save ? "true" : "false",
                          a->options.on_entry ? "true" : "false");
    size_t whole = (size_t)length + a->declared.length + 3;
    if (!link_has_room(a, whole, OUT_BYTES)) return; /* later: it stays due */
    a->link.declare_due = 0;
    a->link.declare_seq = ++a->link.seq;
    put_prefix(t, REQUEST, a->link.declare_seq, whole);
    put(t, head, (size_t)length);
    put(t, a->declared.data, a->declared.length);
    put(t, "]}]", 3);
}

static void link_joined(agent *a, slice whole)
{
    static const char *const NAMES[] = { "heartbeat_s", "globaldb" };
    slice fields[2];
    char url[sizeof a->record.url];
    pick(whole, NAMES, fields, 2);
    a->link.state = LINK_JOINED;
    a->link.pause = LINK_PAUSE;
    a->link.told = 0;
    a->link.declare_due = 1;
    if (is_number(fields[0])) record_set_heartbeat(a, to_double(fields[0].at));
    copy_string(fields[1], url, sizeof url);
    if (url[0] && !a->record.fixed) record_set_url(a, url, 0);
}

/* "code: text" of an ERROR. */
static void error_words(slice whole, char *out, size_t size)
{
    static const char *const NAMES[] = { "code", "text" };
    slice fields[2];
    char code[MAX_WORD + 1], words[301];
    pick(whole, NAMES, fields, 2);
    copy_string(fields[0], code, sizeof code);
    copy_string(fields[1], words, sizeof words);
    snprintf(out, size, "%s: %s", code, words);
}

static void link_answered(agent *a, int kind, uint32_t seq, slice name, slice fields)
{
    char words[400], why[sizeof words + 40];
    if (kind == ERROR) error_words(fields, words, sizeof words);
    if (a->link.state == LINK_JOINING && seq == a->link.join_seq) {
        if (kind == REPLY && says(name, "session.joined")) {
            link_joined(a, fields);
        } else {
            snprintf(why, sizeof why, "it refuses to let us in: %s", kind == ERROR ? words : "?");
            link_drop(a, why);
        }
    } else if (kind == ERROR && seq == a->link.declare_seq) {
        trouble(a, "the daemon: it refuses what we declare: %s", words);
    }
}

/* Splits [name, fields]; 0: that is not what it is. */
static int split_body(slice body, slice *name, slice *fields)
{
    reader r;
    if (!json_ok(body, MAX_DEPTH, 0)) return 0;
    r.at = body.at;
    r.end = body.end;
    r.outgoing = 0;
    skip_space(&r);
    if (!take(&r, '[')) return 0;
    skip_space(&r);
    name->at = r.at;
    if (!read_string(&r)) return 0;
    name->end = r.at;
    skip_space(&r);
    if (!take(&r, ',')) return 0;
    skip_space(&r);
    fields->at = r.at;
    if (peek(&r) != '{' || !read_value(&r, MAX_DEPTH)) return 0;
    fields->end = r.at;
    skip_space(&r);
    return take(&r, ']');
}

static void link_frame(agent *a, const char *at, size_t length)
{
    const unsigned char *b = (const unsigned char *)at;
    uint32_t seq = (uint32_t)b[5] << 24 | (uint32_t)b[6] << 16 | (uint32_t)b[7] << 8 | b[8];
    slice body, name, fields;
    body.at = at + PREFIX_BYTES + b[9] + b[10];
    body.end = at + length;
    if (!split_body(body, &name, &fields)) {
        link_drop(a, "it sent a frame that is not [name, fields]");
    } else if (b[4] == REPLY || b[4] == ERROR) {
        link_answered(a, b[4], seq, name, fields);
    } else if (b[4] == REQUEST && a->link.state == LINK_JOINED) {
        request(a, seq, name, fields);
    } else if (b[4] == REQUEST) {
        link_drop(a, "it asks before it has let us in");
    }
}

/* Whole frames in `in`, but no more than a game loop can bear. */
static void link_frames(agent *a)
{
    link_t *l = &a->link;
    int frames;
    for (frames = 0; l->state >= LINK_JOINING && !l->broken && !a->closing; frames++) {
        size_t have = l->in_end - l->in_start;
        const char *at = a->in + l->in_start;
        int32_t length = frame_length(at, have);
        if (length < 0) {
            link_drop(a, "it sent something that is no frame");
            return;
        }
        l->more = length > 0 && (size_t)length <= have;
        if (!l->more || frames == FRAMES_PER_POLL) return;
        l->in_start += (size_t)length;
        link_frame(a, at, (size_t)length);
    }
}

static void link_receive(agent *a)
{
    link_t *l = &a->link;
    ssize_t n;
    if (l->in_start == l->in_end) {
        l->in_start = l->in_end = 0;
    } else if (l->in_start > 0 && IN_BYTES - l->in_end < READ_BYTES) {
        memmove(a->in, a->in + l->in_start, l->in_end - l->in_start);
        l->in_end -= l->in_start;
        l->in_start = 0;
    }
    if (l->in_end == IN_BYTES) {
        return; /* full of whole frames: they come first */
    }
    n = stream_receive(&l->s, a->in + l->in_end, IN_BYTES - l->in_end);
    if (n < 0) {
        link_drop(a, "the link was lost");
        return;
    }
    l->in_end += (size_t)n;
    l->more = l->more || n > 0;
}

static void link_talk(agent *a)
{
    link_t *l = &a->link;
    if (is_readable(&l->s)) link_receive(a);
    if (l->more) link_frames(a);
    if (l->state == LINK_JOINING && a->now >= l->due) {
        link_drop(a, "it did not answer within 10 s");
    }
    if (l->state == LINK_JOINED && l->declare_due) link_declare(a);
    link_flush(a);
    if (l->broken) link_drop(a, "the link was lost, or it does not read");
}

static void link_step(agent *a)
{
    link_t *l = &a->link;
    switch (l->state) {
    case LINK_OFF: break;
    case LINK_WAITING:
        if (a->now >= l->due) link_dial(a);
        break;
    case LINK_CONNECTING:
        if (l->s.ready) {
            link_join(a);
            link_flush(a);
        } else if (a->now >= l->due) {
            link_drop(a, "no connection within 5 s");
        }
        break;
    case LINK_JOINING:
    case LINK_JOINED: link_talk(a); break;
    }
}

/* ---- declaring commands -------------------------------------------------------------------------------- */

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_name(const char *name)
{
    size_t n = 0;
    if (!name || !is_letter(*name)) return 0;
    while (is_letter(name[n]) || (name[n] >= '0' && name[n] <= '9') || name[n] == '_' || name[n] == '-') {
        n++;
    }
    return name[n] == 0 && n <= MAX_WORD;
}

/* One line of UTF-8, or NULL. */
static int is_line(const char *line)
{
    const char *end = line ? line + strlen(line) : NULL;
    size_t chars, step;
    for (chars = 0; line < end; chars++, line += step) {
        step = sequence(line, end);
        if (step == 0 || (unsigned char)*line < 0x20 || *line == 0x7F || chars == MAX_LINE_CHARS) {
            return 0;
        }
    }
    return 1;
}

static int is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(word, *words) == 0) return 1;
    }
    return 0;
}

/* null is a default of every type. */
static int is_default(const char *json, const char *type)
{
    slice value;
    int64_t whole;
    if (!is_sendable(json, MAX_DEFAULT_BYTES, BODY_DEPTH - 8, 0)) return 0;
    value.at = json + strspn(json, " \t\r\n");
    value.end = value.at + strcspn(value.at, " \t\r\n");
    if (strcmp(type, "json") == 0 || is_word(value, "null")) return 1;
    switch (type[0]) {
    case 'i': return to_int(value, &whole);
    case 'f': return is_number(value);
    case 'b': return is_word(value, "true") || is_word(value, "false");
    default: return is_string(value);
    }
}

/* What is wrong with it, or NULL. */
static const char *argument_problem(const agent_argument *argument, const agent_argument *earlier)
{
    static const char *const TYPES[] = { "str", "int", "float", "bool", "json", NULL };
    const char *type = argument->type ? argument->type : "str";
    if (!is_name(argument->name)) return "name: letters, digits, _, -, begins with a letter, at most 64";
    if (!is_one_of(type, TYPES)) return "type: none of str, int, float, bool, json";
    if (argument->default_value && !is_default(argument->default_value, type)) {
        return "default: not JSON of its type, or longer than 1000 bytes";
    }
    if (!is_line(argument->help)) return "help: not one line of at most 200 characters";
    for (; earlier < argument; earlier++) {
        if (strcmp(earlier->name, argument->name) == 0) return "name: it is there twice";
    }
    return NULL;
}

static const char *spec_problem(const agent *a, const agent_spec *spec)
{
    static const char *const DANGERS[] = { "read", "write", "red", NULL };
    size_t i;
    if (!is_name(spec->name)) return "name: letters, digits, _, -, begins with a letter, at most 64";
    if (strcmp(spec->name, "help") == 0) return "name: \"help\" is a word of the agent's own";
    for (i = 0; i < a->command_count; i++) {
        if (strcmp(a->commands[i].name, spec->name) == 0) return "name: it is declared already";
    }
    if (a->command_count == AGENT_MAX_COMMANDS) return "more than 200 commands";
    if (spec->danger && !is_one_of(spec->danger, DANGERS)) return "danger: none of read, write, red";
    if (!is_line(spec->help)) return "help: not one line of at most 200 characters";
    if (!is_line(spec->answer)) return "answer: not one line of at most 200 characters";
    if (spec->count > AGENT_MAX_ARGUMENTS) return "arguments: more than 32";
    return spec->count && !spec->arguments ? "arguments: NULL" : NULL;
}

/* As Python's json.dumps writes it, every field there: so the daemon counts the same bytes as we do. */
static void put_member(text *t, const char *name, const char *words)
{
    put_quoted(t, name, strlen(name));
    put_words(t, ": ");
    put_quoted(t, words, strlen(words));
    put_words(t, ", ");
}

static void put_argument(text *t, const agent_argument *argument)
{
    put(t, "{", 1);
    put_member(t, "name", argument->name);
    put_member(t, "type", argument->type ? argument->type : "str");
    if (argument->default_value) {
        put_words(t, "\"default\": ");
        put_words(t, argument->default_value);
        put_words(t, ", ");
    }
    if (argument->secret) put_words(t, "\"secret\": true, ");
    put_words(t, "\"help\": ");
    put_quoted(t, argument->help ? argument->help : "", argument->help ? strlen(argument->help) : 0);
    put(t, "}", 1);
}

static void put_spec(text *t, const agent_spec *spec)
{
    size_t i;
    put_words(t, t->length ? ", {" : "{");
    put_member(t, "name", spec->name);
    put_member(t, "help", spec->help ? spec->help : "");
    put_member(t, "danger", spec->danger ? spec->danger : "write");
    put_member(t, "answer", spec->answer ? spec->answer : "");
    put_words(t, "\"arguments\": [");
    for (i = 0; i < spec->count; i++) {
        put_words(t, i ? ", " : "");
        put_argument(t, &spec->arguments[i]);
    }
    put_words(t, "]}");
}

int agent_command(agent *a, const agent_spec *spec, agent_handler handler, void *user)
{
    const char *problem, *name;
    size_t i, before;
    command *c;
    if (!a) return 0;
    name = spec && spec->name ? spec->name : "(no name)";
    problem = !spec || !handler ? "no spec, or no handler" : spec_problem(a, spec);
    if (problem) {
        trouble(a, "command %.64s: %s", name, problem);
        return 0;
    }
    for (i = 0; i < spec->count; i++) {
        problem = argument_problem(&spec->arguments[i], spec->arguments);
        if (problem) {
            const char *argument = spec->arguments[i].name ? spec->arguments[i].name : "(no name)";
            trouble(a, "command %s: argument %d (%.64s): %s", name, (int)i + 1, argument, problem);
            return 0;
        }
    }
    before = a->declared.length;
    put_spec(&a->declared, spec);
    if (a->declared.full) {
        a->declared.full = 0;
        a->declared.length = before;
        trouble(a, "command %s: all together are longer than %d bytes", name, AGENT_MAX_DECLARED_BYTES);
        return 0;
    }
    c = &a->commands[a->command_count++];
    strcpy(c->name, name);
    c->handler = handler;
    c->user = user;
    a->link.declare_due = 1;
    a->look_at = 0;
    return 1;
}

/* ---- joining, polling ---------------------------------------------------------------------------------- */

static int take_setting(agent *a, const char *name, const char *value, char *out, size_t size)
{
    value = value ? value : getenv(name);
    if (value && strlen(value) >= size) {
        trouble(a, "%s is too long", name);
        value = NULL;
    }
    strcpy(out, value ? value : "");
    return out[0] != 0;
}

static void find_daemon(agent *a)
{
    char where[MAX_HOST + 16], host[MAX_HOST + 1];
    int port = 0;
    if (!take_setting(a, "AGENT_DAEMON", NULL, where, sizeof where)) return;
    if (!split_address(where, where + strlen(where), 0, host, sizeof host, &port) ||
        !(numeric(host, port, &a->link.daemon) || resolve(host, port, &a->link.daemon))) {
        trouble(a, "AGENT_DAEMON %.80s is not host:port, or no such host", where);
        return;
    }
    a->link.state = LINK_WAITING;
}

static void set_text(text *t, char *data, size_t size)
{
    t->data = data;
    t->size = size;
}

static void prepare(agent *a)
{
    set_text(&a->body, a->body_data, sizeof a->body_data);
    set_text(&a->declared, a->declared_data, sizeof a->declared_data);
    set_text(&a->record.out, a->record_out, sizeof a->record_out);
    set_text(&a->link.out, a->out, sizeof a->out);
    strcpy(a->info_data, "{}");
    a->link.s.fd = a->record.s.fd = -1;
    a->link.pause = LINK_PAUSE;
    a->record.pause = RECORD_PAUSE;
    a->record.heartbeat = HEARTBEAT;
    a->pid = getpid();
    a->now = clock_ns();
    a->random = (uint64_t)a->now ^ (uint64_t)a->pid << 32 ^ (uint64_t)(uintptr_t)a ^ 88172645463325252u;
}

agent *agent_open(const agent_options *options)
{
    char url[sizeof ((agent *)0)->record.url];
    agent *a = (agent *)calloc(1, sizeof *a);
    if (!a) return NULL;
    if (!c_locale) c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (options) a->options = *options;
    prepare(a);
    take_setting(a, "AGENT_PROCESS", a->options.process, a->key, sizeof a->key);
    a->options.process = NULL;
    a->active = a->key[0] != 0;
    if (!a->active) return a;
    a->record.counted = take_setting(a, "AGENT_INCARNATION", NULL, a->incarnation, sizeof a->incarnation);
    take_setting(a, "AGENT_TOKEN", NULL, a->token, sizeof a->token);
    find_daemon(a);
    if (take_setting(a, "AGENT_GLOBALDB", NULL, url, sizeof url)) {
        a->record.fixed = 1;
        record_set_url(a, url, 1);
    }
    return a;
}

static void hang_up(agent *a)
{
    stream_close(&a->link.s);
    stream_close(&a->record.s);
    a->link.state = LINK_OFF;
    a->record.state = RECORD_OFF;
}

/* A child of fork has its parent's sockets: it lets go of them, says nothing, and stays silent. */
static int is_ours(agent *a)
{
    if (a->active && a->pid != getpid()) {
        hang_up(a);
        a->active = 0;
    }
    return a->active;
}

size_t agent_fds(const agent *a, struct pollfd *fds, size_t size)
{
    size_t count = 0, i;
    struct pollfd all[2];
    if (!a || !a->active) return 0;
    if (a->link.s.fd >= 0) {
        all[count].fd = a->link.s.fd;
        all[count++].events = (short)(POLLIN | (a->link.s.blocked ? POLLOUT : 0));
    }
    if (a->record.s.fd >= 0) {
        all[count].fd = a->record.s.fd;
        all[count++].events = (short)(POLLIN | (a->record.s.blocked ? POLLOUT : 0));
    }
    for (i = 0; i < count && i < size; i++) {
        fds[i] = all[i];
        fds[i].revents = 0;
    }
    return count < size ? count : size;
}

/* The one system call of a step in which nothing happens. */
static void look(agent *a)
{
    struct pollfd fds[2];
    size_t count = agent_fds(a, fds, 2), i;
    if (count == 0 || poll(fds, (nfds_t)count, 0) <= 0) return;
    for (i = 0; i < count; i++) {
        if (fds[i].fd == a->link.s.fd) {
            a->link.s.ready = fds[i].revents;
        } else {
            a->record.s.ready = fds[i].revents;
        }
    }
}

void agent_poll(agent *a)
{
    int64_t now;
    if (!a || !a->active || a->in_info || a->in_trouble || a->closing) return;
    now = clock_ns();
    if (now < a->look_at || !is_ours(a)) return;
    a->now = now;
    a->look_at = now + LOOK_EVERY;
    a->depth++;
    look(a);
    record_step(a);
    if (a->depth == 1 && !a->closing) {
        link_step(a);
    } else {
        link_flush(a);
    }
    a->depth--;
    if (a->closing && !a->depth) agent_close(a);
}

int agent_wait_ms(const agent *a)
{
    int64_t due, wait;
    if (!a || !a->active) return 30000;
    due = a->link.state == LINK_OFF || a->link.state == LINK_JOINED ? NEVER : a->link.due;
    if (a->record.state == RECORD_TALKING && a->record.asked == ASKED_NOTHING) {
        due = a->record.beat_at < due ? a->record.beat_at : due;
    } else if (a->record.state != RECORD_OFF && a->record.due < due) {
        due = a->record.due;
    }
    if (a->link.more || a->link.broken || (a->link.state == LINK_JOINED && a->link.declare_due)) {
        due = 0;
    }
    wait = due == NEVER ? 30000 : (due - clock_ns() + MILLISECOND - 1) / MILLISECOND;
    return wait < 1 ? 1 : wait > 30000 ? 30000 : (int)wait;
}

void agent_close(agent *a)
{
    if (!a) return;
    if (is_ours(a)) link_flush(a);
    if (a->depth || a->in_trouble) {
        a->closing = 1; /* somebody above us still uses it */
        return;
    }
    hang_up(a);
    free(a);
}

int agent_joined(const agent *a)
{
    return a && a->active && a->link.state == LINK_JOINED && !a->link.broken && a->pid == getpid();
}

const char *agent_error(const agent *a)
{
    return a ? a->error : "there is no memory for an agent";
}

/* ---- telling ------------------------------------------------------------------------------------------- */

/* a->format, or NULL when it is too long. */
static const char *formatted(agent *a, const char *format, va_list rest)
{
    if (!print(a->format, sizeof a->format, format, rest)) {
        trouble(a, "a formatted text is longer than 64 KiB");
        return NULL;
    }
    return a->format;
}

int agent_info(agent *a, const char *json)
{
    if (!a) return 0;
    if (!is_sendable(json, AGENT_MAX_INFO_BYTES, MAX_DEPTH, 1)) {
        trouble(a, "info is not a JSON object of at most 64 KiB: %.60s", json ? json : "NULL");
        return 0;
    }
    memmove(a->info_data, json, strlen(json) + 1);
    return 1;
}

int agent_infof(agent *a, const char *format, ...)
{
    const char *json;
    va_list rest;
    if (!a) return 0;
    va_start(rest, format);
    json = formatted(a, format, rest);
    va_end(rest);
    return json ? agent_info(a, json) : 0;
}

int agent_event(agent *a, const char *name, const char *json)
{
    text *t;
    size_t length = name ? strlen(name) : 0;
    if (!a) return 0;
    if (length == 0 || length > MAX_WORD) {
        trouble(a, "event %.64s: its name has 1 to 64 bytes", name ? name : "NULL");
        return 0;
    }
    if (!is_sendable(json, AGENT_MAX_EVENT_BYTES, BODY_DEPTH, 0)) {
        trouble(a, "event %s: its data is not JSON of at most 8 KiB: %.60s", name, json ? json : "NULL");
        return 0;
    }
    if (!is_ours(a) || !agent_joined(a)) return 0;
    t = begin_body(a, "event.raised");
    put_field(t, "name", name, length);
    put_words(t, ",\"data\":");
    put_words(t, json);
    put_words(t, ",\"at\":");
    put_wall_clock(t);
    put_words(t, "}]");
    return link_send_body(a, NOTICE, 0, OUT_EVENT_BYTES);
}

int agent_eventf(agent *a, const char *name, const char *format, ...)
{
    const char *json;
    va_list rest;
    if (!a) return 0;
    va_start(rest, format);
    json = formatted(a, format, rest);
    va_end(rest);
    return json ? agent_event(a, name, json) : 0;
}

/* Room for QUOTE_BYTES: `quotes` is used round and round. */
static text quote_room(agent *a)
{
    text t = { NULL, QUOTE_BYTES - 1, 0, 0 };
    if (a->quote_at > sizeof a->quotes - QUOTE_BYTES) a->quote_at = 0;
    t.data = a->quotes + a->quote_at;
    return t;
}

static const char *quote_done(agent *a, const text *t)
{
    t->data[t->length] = 0;
    a->quote_at += t->length + 1;
    return t->data;
}

const char *agent_quote_bytes(agent *a, const char *words, size_t length)
{
    text t;
    if (!a || !words) return "\"\"";
    t = quote_room(a);
    put_quoted(&t, words, length);
    if (t.full) {
        trouble(a, "agent_quote: the result is longer than 64 KiB");
        return "\"\"";
    }
    return quote_done(a, &t);
}

const char *agent_quote(agent *a, const char *words)
{
    return agent_quote_bytes(a, words, words ? strlen(words) : 0);
}

static void print_number(char *out, size_t size, const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    print(out, size, format, rest);
    va_end(rest);
}

const char *agent_number(agent *a, double value)
{
    char digits[40];
    int precision;
    text t;
    if (!a || !isfinite(value)) return "null";
    for (precision = 15; precision <= 17; precision++) {
        print_number(digits, sizeof digits, "%.*g", precision, value);
        if (to_double(digits) == value) break;
    }
    t = quote_room(a);
    put_words(&t, digits);
    put_words(&t, strpbrk(digits, ".e") ? "" : ".0"); /* it stays a float, and -0.0 what it is */
    return quote_done(a, &t);
}

/* ---- requests: arguments ------------------------------------------------------------------------------- */

static slice argument(agent_request *request, const char *name)
{
    slice value;
    pick(request->arguments, &name, &value, 1);
    if (!value.at) trouble(request->a, "%s has no argument %.64s", request->command, name);
    return value;
}

static void not_of_type(agent_request *request, slice value, const char *name, const char *type)
{
    if (value.at && !is_word(value, "null")) {
        trouble(request->a, "argument %.64s of %s is not %s", name, request->command, type);
    }
}

int64_t agent_int(agent_request *request, const char *name)
{
    slice value = argument(request, name);
    int64_t whole = 0;
    if (!is_number(value) || !to_int(value, &whole)) {
        not_of_type(request, value, name, "a whole number of 64 bits");
        return 0;
    }
    return whole;
}

double agent_float(agent_request *request, const char *name)
{
    slice value = argument(request, name);
    if (!is_number(value)) {
        not_of_type(request, value, name, "a number");
        return 0;
    }
    return to_double(value.at);
}

int agent_bool(agent_request *request, const char *name)
{
    slice value = argument(request, name);
    if (!is_word(value, "true") && !is_word(value, "false")) {
        not_of_type(request, value, name, "true or false");
    }
    return is_word(value, "true");
}

const char *agent_str_bytes(agent_request *request, const char *name, size_t *length)
{
    slice value = argument(request, name);
    char *out;
    *length = 0;
    if (!is_string(value)) {
        not_of_type(request, value, name, "a string");
        return "";
    }
    out = request->a->decoded + (value.at - request->a->in); /* asked twice: the same place */
    decode(value, out, (size_t)(value.end - value.at), length);
    return out;
}

const char *agent_str(agent_request *request, const char *name)
{
    size_t length;
    return agent_str_bytes(request, name, &length);
}

const char *agent_json(agent_request *request, const char *name, size_t *length)
{
    slice value = argument(request, name);
    *length = value.at ? (size_t)(value.end - value.at) : 4;
    return value.at ? value.at : "null";
}

int agent_is_null(agent_request *request, const char *name)
{
    slice value = argument(request, name);
    return !value.at || is_word(value, "null");
}

agent *agent_of(agent_request *request)
{
    return request->a;
}

const char *agent_operator(agent_request *request)
{
    return request->operator_name;
}

double agent_left_s(agent_request *request)
{
    return request->left_s;
}

/* ---- requests: answers --------------------------------------------------------------------------------- */

static int answer(agent *a, entry *e, const char *json)
{
    text *t;
    if (!json || !is_sendable(json, AGENT_MAX_ANSWER_BYTES, BODY_DEPTH, 0)) {
        trouble(a, "an answer is not JSON of at most 64 KiB: %.60s", json ? json : "NULL");
        error_body(a, "internal", "its answer is not valid JSON of at most 64 KiB");
        ledger_finish(a, e, ERROR);
        return 0;
    }
    t = begin_body(a, "gm.answer");
    put_words(t, "\"answer\":");
    put_words(t, json);
    put_words(t, "}]");
    ledger_finish(a, e, REPLY);
    return 1;
}

static int refuse(agent *a, entry *e, const char *reason)
{
    error_body(a, "refused", reason);
    ledger_finish(a, e, ERROR);
    return 1;
}

/* The entry that an answer is for, once; NULL when there was one already. */
static entry *settle(agent_request *request, enum request_state state)
{
    if (request->state != REQUEST_OPEN) {
        trouble(request->a, "the handler of %s gave more than one answer", request->command);
        return NULL;
    }
    request->state = state;
    return &request->a->entries[request->slot];
}

int agent_answer(agent_request *request, const char *json)
{
    entry *e = settle(request, REQUEST_ANSWERED);
    return e ? answer(request->a, e, json) : 0;
}

int agent_answerf(agent_request *request, const char *format, ...)
{
    const char *json;
    va_list rest;
    va_start(rest, format);
    json = formatted(request->a, format, rest);
    va_end(rest);
    return agent_answer(request, json);
}

int agent_refuse(agent_request *request, const char *reason)
{
    entry *e = settle(request, REQUEST_ANSWERED);
    return e ? refuse(request->a, e, reason) : 0;
}

agent_ticket agent_later(agent_request *request)
{
    entry *e = settle(request, REQUEST_LATER);
    return e ? e->serial * AGENT_KEPT_IDS + request->slot : 0;
}

int agent_answer_later(agent *a, agent_ticket ticket, const char *json)
{
    entry *e = ledger_ticket(a, ticket);
    return e && is_ours(a) ? answer(a, e, json) : 0;
}

int agent_answer_laterf(agent *a, agent_ticket ticket, const char *format, ...)
{
    const char *json;
    va_list rest;
    if (!a) return 0;
    va_start(rest, format);
    json = formatted(a, format, rest);
    va_end(rest);
    return agent_answer_later(a, ticket, json);
}

int agent_refuse_later(agent *a, agent_ticket ticket, const char *reason)
{
    entry *e = ledger_ticket(a, ticket);
    return e && is_ours(a) ? refuse(a, e, reason) : 0;
}

/* ---- saving -------------------------------------------------------------------------------------------- */

void agent_save_progress(agent *a, int64_t done, int64_t total, const char *words)
{
    int64_t now;
    text *t;
    if (!a || !a->saving || !is_ours(a)) return;
    now = clock_ns();
    if (agent_joined(a) && (now >= a->progress_at || done >= total)) {
        a->progress_at = now + PROGRESS_EVERY;
        words = words ? words : "";
        t = begin_body(a, "save.progressed");
        put_words(t, "\"done\":");
        put_int(t, done);
        put_words(t, ",\"total\":");
        put_int(t, total);
        put(t, ",", 1);
        put_field(t, "text", words, cut(words, AGENT_MAX_TEXT_BYTES));
        put_words(t, "}]");
        link_send_body(a, NOTICE, 0, OUT_EVENT_BYTES);
        link_flush(a);
    }
    if (a->depth) agent_poll(a);
}

int agent_saved(agent *a, const char *words)
{
    if (!a || !a->saving || !is_ours(a)) return 0;
    a->saving = 0;
    text_body(a, "process.saved", words);
    reply(a, a->save_link, a->save_seq, REPLY);
    return 1;
}

int agent_save_declined(agent *a, const char *reason)
{
    if (!a || !a->saving || !is_ours(a)) return 0;
    a->saving = 0;
    error_body(a, "refused", reason);
    reply(a, a->save_link, a->save_seq, ERROR);
    return 1;
}
