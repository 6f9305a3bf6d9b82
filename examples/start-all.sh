#!/bin/sh
# Starts a region after maintenance, step by step, and says in the end what is not up.
#
#   ./start-all.sh 大区1 192.168.1.10
#
# The order is that of the tiers in small-group.json: what the games lean on, the games, the gates. `start 大区1 all`
# goes by the tiers too, but one process that fails there keeps no other from starting. Here it does: a step begins when
# every process of the one before is up, so no gate opens before a game that does not come up. What is up counts as good.
#
# Put the names of your group into STEPS: a pattern for each step (or several with commas), each with a process at least;
# the last one, `all`, is for what no other step names.
# The password is the first line of a file that only its owner may read (chmod 600); see `agent admin --help`.
# Exit status: 0 all is up, else the worst of the commands' (1 failed, 2 usage, 3 no connection, 4 forbidden, 5 unknown).

set -uf # f: the patterns are for agent, not for file names

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: ${0##*/} REGION [DAEMON]" >&2
    exit 2
fi
region=$1
daemon=${2:-127.0.0.1}
export AGENT_USER="${AGENT_USER:-ops}"
export AGENT_PASSWORD_FILE="${AGENT_PASSWORD_FILE:-/etc/agent/ops.password}"

worst=0
note() { if [ "$1" -gt "$worst" ]; then worst=$1; fi; }

for step in ${STEPS:-group*,chat* game* gate* all}; do
    agent admin "$daemon" --yes --timeout 300 -c "start $region all $step" || note $?
    if [ "$worst" != 0 ]; then
        echo "${0##*/}: not all of $step came up, so what comes after it was not started" >&2
        break
    fi
done

# Everything but what is RUNNING: heading, the processes that are not up, and the sum.
processes=$(agent admin "$daemon" -c "list $region") || note $?
if [ -n "$processes" ]; then printf '%s\n' "$processes" | grep -v ' RUNNING '; fi
exit "$worst"
