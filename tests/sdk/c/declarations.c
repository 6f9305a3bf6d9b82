/* Declarations: one that breaks the contract is refused where it is made. Prints those that do not. */
#include "agent.c"

static void handler(agent_request *request, void *user)
{
    (void)user;
    agent_answer(request, "1");
}

static agent_argument made_argument(const char *name, const char *type, const char *json)
{
    agent_argument made = { NULL, NULL, NULL, 0, NULL };
    made.name = name;
    made.type = type;
    made.default_value = json;
    return made;
}

static int declare(agent *a, const char *name, const char *danger, const agent_argument *all, size_t count)
{
    agent_spec spec = { NULL, NULL, NULL, NULL, NULL, 0 };
    spec.name = name;
    spec.danger = danger;
    spec.arguments = all;
    spec.count = count;
    return agent_command(a, &spec, handler, NULL);
}

static int failed = 0;

static void check(agent *a, int is_right, const char *what)
{
    if (!is_right) {
        fprintf(stderr, "wrong: %s (%s)\n", what, agent_error(a));
        failed = 1;
    }
}

static void refuses(agent *a, int accepted, const char *words)
{
    check(a, !accepted && strstr(agent_error(a), words), words);
}

static void names(agent *a)
{
    static const char *const BAD[] = { "", "1a", "-a", "_a", "a b", "a.b", "k\xC3\xA4se", "help",
                                       "a234567890123456789012345678901234567890123456789012345678901234x" };
    static const char LONGEST[] = "a234567890123456789012345678901234567890123456789012345678901234";
    size_t i;
    for (i = 0; i < sizeof BAD / sizeof BAD[0]; i++) refuses(a, declare(a, BAD[i], NULL, NULL, 0), "name:");
    refuses(a, declare(a, NULL, NULL, NULL, 0), "name:");
    check(a, declare(a, LONGEST, NULL, NULL, 0), "64 letters");
    check(a, declare(a, "twice", NULL, NULL, 0), "the first of two");
    refuses(a, declare(a, "twice", NULL, NULL, 0), "declared already");
    refuses(a, declare(a, "a", "dangerous", NULL, 0), "danger:");
    refuses(a, declare(a, "a", NULL, NULL, 1), "arguments:");
    refuses(a, agent_command(a, NULL, handler, NULL), "no spec");
}

static void lines(agent *a)
{
    agent_spec spec = { "lines", NULL, NULL, NULL, NULL, 0 };
    static char longest[3 * 200 + 4];
    int i;
    spec.help = "two\nlines";
    refuses(a, agent_command(a, &spec, handler, NULL), "help:");
    spec.help = "not UTF-8 \xFF";
    refuses(a, agent_command(a, &spec, handler, NULL), "help:");
    for (i = 0; i < 201; i++) memcpy(longest + 3 * i, "\xE5\xA4\xA7", 3);
    spec.help = longest;
    refuses(a, agent_command(a, &spec, handler, NULL), "help:");
    spec.help = longest + 3;
    spec.answer = "\x7F";
    refuses(a, agent_command(a, &spec, handler, NULL), "answer:");
    spec.answer = "{\"a\": \\}";
    refuses(a, agent_command(a, &spec, NULL, NULL), "no handler");
    check(a, agent_command(a, &spec, handler, NULL), "200 characters");
}

static void arguments(agent *a)
{
    static const struct {
        const char *type, *json;
        int is_right;
    } CASES[] = {
        { "str", "\"\"", 1 },      { NULL, "\"a b\"", 1 },   { "str", "1", 0 },
        { "str", "x", 0 },         { "int", "1", 1 },        { "int", " -9223372036854775808 ", 1 },
        { "int", "1.0", 0 },       { "int", "1e2", 0 },      { "int", "9223372036854775808", 0 },
        { "int", "\"1\"", 0 },     { "int", "true", 0 },     { "int", "", 0 },
        { "int", "1 2", 0 },       { "float", "1", 1 },      { "float", "-0.5e3", 1 },
        { "float", "1e999", 0 },   { "float", "NaN", 0 },    { "float", "\"1\"", 0 },
        { "bool", "true", 1 },     { "bool", "false", 1 },   { "bool", "0", 0 },
        { "bool", "True", 0 },     { "json", "{\"a\":[]}", 1 }, { "json", "{a:1}", 0 },
        { "int", "null", 1 },      { "json", "null", 1 },    { "str", "\"\xFF\"", 0 },
        { "text", NULL, 0 },       { "", NULL, 0 },          { "INT", NULL, 0 },
    };
    char name[32];
    size_t i;
    for (i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        agent_argument one = made_argument("x", CASES[i].type, CASES[i].json);
        sprintf(name, "typed%d", (int)i);
        if (CASES[i].is_right) {
            check(a, declare(a, name, "red", &one, 1), CASES[i].json);
        } else {
            refuses(a, declare(a, name, "red", &one, 1), CASES[i].json ? "default:" : "type:");
        }
    }
}

static void many(agent *a)
{
    agent_argument all[33];
    static char names[33][16], json[1100];
    int i;
    for (i = 0; i < 33; i++) {
        sprintf(names[i], "n%d", i);
        all[i] = made_argument(names[i], "str", NULL);
    }
    refuses(a, declare(a, "many", NULL, all, 33), "more than 32");
    check(a, declare(a, "many", NULL, all, 32), "32 arguments");
    all[1].name = "n0";
    refuses(a, declare(a, "same", NULL, all, 3), "there twice");
    all[1].name = NULL;
    refuses(a, declare(a, "none", NULL, all, 3), "name:");
    all[1].name = "n1";
    all[1].help = "a\tb";
    refuses(a, declare(a, "tab", NULL, all, 3), "help:");
    memset(json, 'x', sizeof json);
    json[0] = json[1000] = '"';
    json[1001] = 0;
    all[0].default_value = json;
    refuses(a, declare(a, "longer", NULL, all, 1), "default:");
    json[999] = '"';
    json[1000] = 0;
    check(a, declare(a, "longest", NULL, all, 1), "1000 bytes of default");
}

/* The last one to fit is whole, whatever came behind it. */
static void too_long(agent *a)
{
    static char json[300];
    agent_argument one = made_argument("text", "str", json);
    char name[32];
    int i;
    memset(json, 'x', sizeof json - 1);
    json[0] = json[298] = '"';
    for (i = 0; i < 200; i++) {
        sprintf(name, "huge%d", i);
        if (!declare(a, name, NULL, &one, 1)) break;
    }
    refuses(a, i == 200, "longer than 65536 bytes");
    check(a, a->declared.length > 65536 - 1000, "all but full");
}

static void too_many(agent *a)
{
    char name[32];
    int i;
    for (i = 0; i < 200; i++) {
        sprintf(name, "small%d", i);
        check(a, declare(a, name, NULL, NULL, 0), "200 commands");
    }
    refuses(a, declare(a, "last", NULL, NULL, 0), "more than 200");
}

int main(void)
{
    agent *a = agent_open(NULL);
    names(a);
    lines(a);
    arguments(a);
    many(a);
    too_long(a);
    printf("[%.*s]\n", (int)a->declared.length, a->declared.data);
    agent_close(a);
    a = agent_open(NULL);
    too_many(a);
    printf("[%.*s]\n", (int)a->declared.length, a->declared.data);
    agent_close(a);
    return failed;
}
