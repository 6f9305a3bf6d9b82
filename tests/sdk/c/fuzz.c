/* Everything that peers say, broken in every way: `fuzz SEED ROUNDS`. Built with AddressSanitizer and UBSan,
 * which are what says no; it ends with 0 when they have nothing to say. What is parsed lies in blocks of its
 * own size.
 */
#include "agent.c"

static uint64_t seed;

static uint32_t pick_below(uint32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static const char *const BODIES[] = {
    "[\"gm.execute\",{\"id\":\"%u\",\"command\":\"c\",\"arguments\":{\"s\":\"a\\u00e9\\ud83d\\ude00\","
    "\"i\":-12,\"f\":1.5e3,\"b\":true,\"j\":[{\"a\":null}]},\"user\":\"ada\",\"again\":false,"
    "\"left_s\":9.5}]",
    "[\"gm.execute\",{\"id\":\"%u\",\"command\":\"later\",\"arguments\":{},\"again\":false}]",
    "[\"gm.execute\",{\"id\":\"%u\",\"command\":\"c\",\"arguments\":{},\"again\":true}]",
    "[\"process.save\",{\"id\":\"%u\",\"reason\":\"stop\"}]",
    "[\"entry.set\",{\"open\":false,\"reason\":\"\\n%u\"}]",
    "[\"session.joined\",{\"daemon\":\"1\",\"heartbeat_s\":%u.5,\"globaldb\":\"redis://u:p%%40@[::1]:1\"}]",
    "[\"error\",{\"code\":\"forbidden\",\"text\":\"%u\"}]",
    "[\"link.ping\",{\"x%u\":[[[[[[[[[[]]]]]]]]]]}]",
};
static const char *const REPLIES[] = { "+OK\r\n",     ":0\r\n",          ":1\r\n",
                                       "-ERR no\r\n", "$3\r\nabc\r\n", "*1\r\n:1\r\n" };
static const char *const URLS[] = { "u:p%40@[::1]:6379/0?a", "a.b:1", ":x@h",    "@",
                                    "[::1",                  "[]:1",  "h:99999", "%41%4:%@h" };

static size_t broken(char *bytes, size_t length, size_t room)
{
    uint32_t times = pick_below(4);
    for (; times > 0 && length > 0; times--) {
        size_t at = pick_below((uint32_t)length);
        switch (pick_below(5)) {
        case 0: bytes[at] = (char)pick_below(256); break;
        case 1: bytes[at] = "\"\\{}[],:u0e-\n"[pick_below(13)]; break;
        case 2: length = at; break;
        case 3:
            if (length < room) {
                memmove(bytes + at + 1, bytes + at, length - at);
                length++;
            }
            break;
        default:
            memmove(bytes + at, bytes + at + 1, length - at - 1);
            length--;
        }
    }
    return length;
}

static size_t body_of(char *out, size_t size)
{
    int length = snprintf(out, size, BODIES[pick_below(sizeof BODIES / sizeof BODIES[0])], pick_below(3000));
    return pick_below(3) ? (size_t)length : broken(out, (size_t)length, size);
}

static void parsers(void)
{
    static const char *const NAMES[] = { "id", "arguments" };
    char bytes[600];
    size_t length = body_of(bytes, sizeof bytes);
    char *block = (char *)malloc(length ? length : 1);
    slice body, name, fields, found[2];
    memcpy(block, bytes, length);
    body.at = block;
    body.end = block + length;
    frame_length(block, length);
    if (split_body(body, &name, &fields)) {
        says(name, "gm.execute");
        pick(fields, NAMES, found, 2);
        if (is_string(found[0])) {
            char *exact = (char *)malloc((size_t)(found[0].end - found[0].at));
            if (!decode(found[0], exact, (size_t)(found[0].end - found[0].at), &length)) abort();
            free(exact);
        }
    }
    free(block);
}

static void addresses(void)
{
    static record_t r;
    char bytes[100], *block;
    size_t length;
    strcpy(bytes, URLS[pick_below(8)]);
    length = broken(bytes, strlen(bytes), sizeof bytes - 1);
    block = (char *)malloc(length + 1);
    memcpy(block, bytes, length);
    block[length] = 0;
    parse_url(&r, block);
    free(block);
}

/* ---- whole, over a pair of sockets ---- */

static agent_ticket waiting;

static void on_c(agent_request *request, void *user)
{
    size_t length;
    const char *json = agent_json(request, "j", &length);
    (void)user;
    agent_is_null(request, "nothing");
    agent_answerf(request, "{\"i\":%lld,\"f\":%s,\"b\":%d,\"s\":%s,\"j\":%.*s}",
                  (long long)agent_int(request, "i"),
                  agent_number(agent_of(request), agent_float(request, "f")), agent_bool(request, "b"),
                  agent_quote(agent_of(request), agent_str(request, "s")), (int)length, json);
}

static void on_later(agent_request *request, void *user)
{
    (void)user;
    agent_refuse_later(agent_of(request), waiting, "another one came");
    waiting = agent_later(request);
}

static void on_save(agent *a, const char *reason, void *user)
{
    (void)user;
    agent_save_progress(a, 1, 2, reason);
    if (pick_below(2)) agent_saved(a, reason);
}

static const char *on_entry(agent *a, int open, const char *reason, void *user)
{
    (void)user;
    if (open) agent_poll(a);
    return reason;
}

static int pair_up(stream *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) abort();
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    stream_close(s);
    s->fd = pair[0];
    return pair[1];
}

static void drain(int fd)
{
    static char bytes[65536];
    while (recv(fd, bytes, sizeof bytes, 0) > 0) {
    }
}

static size_t frame(char *out, size_t size)
{
    static const char KINDS[] = { REQUEST, REQUEST, REQUEST, REPLY, ERROR, NOTICE };
    char prefix_data[PREFIX_BYTES];
    text prefix = { NULL, sizeof prefix_data, 0, 0 };
    size_t length = body_of(out + PREFIX_BYTES, size - PREFIX_BYTES);
    prefix.data = prefix_data;
    put_prefix(&prefix, KINDS[pick_below(6)], pick_below(4), length);
    memcpy(out, prefix_data, PREFIX_BYTES);
    return pick_below(24) ? PREFIX_BYTES + length : broken(out, PREFIX_BYTES + length, size);
}

static void step(agent *a)
{
    a->look_at = 0;
    agent_poll(a);
}

/* Frames in pieces of every size, until it hangs up; then the next connection. */
static void link_round(agent *a)
{
    char bytes[700];
    int peer = pair_up(&a->link.s), frames;
    a->link.state = pick_below(4) ? LINK_JOINED : LINK_JOINING;
    a->link.due = NEVER;
    a->link.number++;
    for (frames = 0; frames < 20 && a->link.s.fd >= 0; frames++) {
        size_t length = frame(bytes, sizeof bytes), at = 0;
        while (at < length && a->link.s.fd >= 0) {
            size_t piece = 1 + pick_below((uint32_t)(length - at));
            (void)!send(peer, bytes + at, piece, MSG_NOSIGNAL);
            at += piece;
            step(a);
        }
    }
    drain(peer);
    close(peer);
    step(a);
    a->link.state = LINK_OFF;
}

static void record_round(agent *a)
{
    record_t *r = &a->record;
    int peer = pair_up(&r->s), turns;
    r->state = RECORD_TALKING;
    r->asked = ASKED_NOTHING;
    r->authorized = r->counted = r->known = 0;
    r->reply_length = r->sent = r->out.length = 0;
    strcpy(r->password, "p");
    for (turns = 0; turns < 12 && r->s.fd >= 0; turns++) {
        char bytes[64];
        size_t length;
        strcpy(bytes, REPLIES[pick_below(pick_below(3) ? 3 : 6)]);
        length = pick_below(5) ? strlen(bytes) : broken(bytes, strlen(bytes), sizeof bytes);
        r->beat_at = 0;
        step(a);
        (void)!send(peer, bytes, length, MSG_NOSIGNAL);
        step(a);
    }
    drain(peer);
    close(peer);
    step(a);
    r->state = RECORD_OFF;
}

int main(int count, char **words)
{
    agent_options options = AGENT_OPTIONS;
    agent_spec c = { "c", NULL, NULL, NULL, NULL, 0 }, later = { "later", NULL, NULL, NULL, NULL, 0 };
    long rounds = count > 2 ? atol(words[2]) : 1000;
    agent *a;
    seed = count > 1 ? (uint64_t)atol(words[1]) : 1;
    setenv("AGENT_PROCESS", "1.2.3", 1);
    options.on_save = on_save;
    options.on_entry = on_entry;
    a = agent_open(&options);
    agent_command(a, &c, on_c, NULL);
    agent_command(a, &later, on_later, NULL);
    for (; rounds > 0; rounds--) {
        parsers();
        addresses();
        if (rounds % 8 == 0) {
            link_round(a);
            record_round(a);
        }
    }
    printf("%lld commands, answers of %lld bytes\n", (long long)a->serial, (long long)a->kept_end);
    agent_close(a);
    return 0;
}
