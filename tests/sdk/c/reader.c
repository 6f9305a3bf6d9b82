/* The SDK's JSON, numbers and addresses, asked from outside: a question per line on stdin, a line per answer.
 *
 *     json HEX     "in out": whether it is valid in what comes, in what goes out
 *     text HEX     what a JSON string says, as hex
 *     quote HEX    text as a JSON string
 *     int HEX      a whole number, or "no"
 *     float HEX    through to_double and agent_number
 *     print        1.5 through agent_infof
 *     url HEX      host|port|user|password, or "no"
 *     frame HEX    frame_length
 *
 * Each text lies in a block of its own size, so that AddressSanitizer sees every byte read too many. An
 * outgoing text is ended by a zero, as the program's are.
 */
#include "agent.c"

static slice bytes_of(const char *hex, int is_ended)
{
    size_t length = strlen(hex) / 2, i;
    char *bytes = (char *)malloc(length + (is_ended ? 1 : 0) + (length == 0));
    slice s;
    for (i = 0; i < length; i++) bytes[i] = (char)(hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]));
    if (is_ended) bytes[length] = 0;
    s.at = bytes;
    s.end = bytes + length;
    return s;
}

static void print_hex(const char *at, size_t length)
{
    for (; length > 0; length--) printf("%02x", (unsigned char)*at++);
    printf("\n");
}

static void on_json(agent *a, const char *hex)
{
    slice in = bytes_of(hex, 0), out = bytes_of(hex, 1);
    (void)a;
    printf("%d %d\n", json_ok(in, MAX_DEPTH, 0), json_ok(out, MAX_DEPTH, 1));
    free((char *)in.at);
    free((char *)out.at);
}

static void on_text(agent *a, const char *hex)
{
    slice s = bytes_of(hex, 0);
    size_t size = (size_t)(s.end - s.at), length = 0;
    char *out = (char *)malloc(size);
    (void)a;
    if (json_ok(s, MAX_DEPTH, 0) && decode(s, out, size, &length)) {
        print_hex(out, length);
    } else {
        puts("no");
    }
    free(out);
    free((char *)s.at);
}

static void on_quote(agent *a, const char *hex)
{
    slice s = bytes_of(hex, 0);
    const char *quoted = agent_quote_bytes(a, s.at, (size_t)(s.end - s.at));
    print_hex(quoted, strlen(quoted));
    free((char *)s.at);
}

static void on_int(agent *a, const char *hex)
{
    slice s = bytes_of(hex, 0);
    int64_t value;
    (void)a;
    if (to_int(s, &value)) {
        printf("%lld\n", (long long)value);
    } else {
        puts("no");
    }
    free((char *)s.at);
}

static void on_float(agent *a, const char *hex)
{
    slice s = bytes_of(hex, 1);
    puts(agent_number(a, to_double(s.at)));
    free((char *)s.at);
}

static void on_print(agent *a, const char *hex)
{
    (void)hex;
    agent_infof(a, "{\"a\": %.2f}", 1.5);
    puts(a->info_data);
}

static void on_url(agent *a, const char *hex)
{
    static record_t r;
    slice s = bytes_of(hex, 1);
    (void)a;
    if (parse_url(&r, s.at)) {
        printf("%s|%d|%s|%s\n", r.host, r.port, r.user, r.password);
    } else {
        puts("no");
    }
    free((char *)s.at);
}

static void on_frame(agent *a, const char *hex)
{
    slice s = bytes_of(hex, 0);
    (void)a;
    printf("%d\n", (int)frame_length(s.at, (size_t)(s.end - s.at)));
    free((char *)s.at);
}

static const struct {
    const char *word;
    void (*run)(agent *a, const char *hex);
} QUESTIONS[] = {
    { "json ", on_json }, { "text ", on_text },   { "quote ", on_quote }, { "int ", on_int },
    { "float ", on_float }, { "print ", on_print }, { "url ", on_url },     { "frame ", on_frame },
};

int main(void)
{
    static char line[4 * 1024 * 1024];
    agent *a = agent_open(NULL);
    size_t i;
    if (!setlocale(LC_ALL, "")) return 2;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        for (i = 0; i < sizeof QUESTIONS / sizeof QUESTIONS[0]; i++) {
            size_t length = strlen(QUESTIONS[i].word);
            if (strncmp(line, QUESTIONS[i].word, length) == 0) QUESTIONS[i].run(a, line + length);
        }
    }
    agent_close(a);
    return 0;
}
