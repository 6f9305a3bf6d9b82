/* A game in C that has nothing to do, with AGENT_... in its environment (bench/poll.py).
 *
 * An order on stdin, `TURN PAUSE_MS COUNT`: so many turns of `sdk`, `nothing`, or `poll`, which is the floor: poll(2) on
 * the sockets of the SDK. Answered with microseconds of CPU time for each.
 */
#define _POSIX_C_SOURCE 200809L

#include "agent.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define MOST_TURNS 10000 /* until it has joined */
#define FIRST_TURNS 50 /* after it has joined: globaldb is reached, the record written */

static agent *a;
static struct pollfd fds[2];
static nfds_t fd_count;

static void sdk(void) { agent_poll(a); }
static void nothing(void) {}
static void poll_only(void) { poll(fds, fd_count, 0); }

static double us(void (*turn)(void), int pause_ms, long count)
{
    struct timespec before, after, pause = { 0, pause_ms * 1000000L };
    long i;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (i = 0; i < count; i++) {
        turn();
        if (pause_ms) nanosleep(&pause, NULL);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    return ((double)(after.tv_sec - before.tv_sec) * 1e6 + (double)(after.tv_nsec - before.tv_nsec) / 1e3)
           / (double)count;
}

int main(void)
{
    char turn[16];
    int pause_ms;
    long count;
    a = agent_open(NULL);
    agent_info(a, "{\"host\": \"bench\", \"players\": 0}");
    for (count = 0; !agent_joined(a); count++) {
        if (count == MOST_TURNS) return 1;
        us(sdk, 1, 1);
    }
    us(sdk, 10, FIRST_TURNS);
    printf("joined\n");
    fflush(stdout);
    while (scanf("%15s %d %ld", turn, &pause_ms, &count) == 3) {
        fd_count = (nfds_t)agent_fds(a, fds, 2);
        if (fd_count != 2) return 1; /* the floor looks at two */
        printf("%f\n", us(strcmp(turn, "sdk") == 0 ? sdk : strcmp(turn, "poll") == 0 ? poll_only : nothing,
                          pause_ms, count));
        fflush(stdout);
    }
    return 0;
}
