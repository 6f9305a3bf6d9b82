#!/bin/sh
# Starts a region after maintenance, step by step, and says what is not up in the end.
#
#   AGENT_USER=ops ./start-all.sh 大区1 192.168.1.10
#
# The password is the first line of a file that only its owner may read (chmod 600); see `agent admin --help`.
# Exit status: that of the first command that did not end well (1 failed, 3 no connection, 4 forbidden, 5 unknown).

set -eu

region=${1:?usage: start-all.sh REGION [DAEMON]}
daemon=${2:-127.0.0.1}
: "${AGENT_PASSWORD_FILE:=/etc/agent/ops.password}"
export AGENT_PASSWORD_FILE

# Each command ends only when every target is up, has failed or ran out of time; one that is up already counts as good.
# So the second one begins when the gates and groups are up, and not at all if one of them is not.
agent admin "$daemon" --yes --timeout 300 \
    -c "start $region all gate*,group*" \
    -c "start $region all"

agent admin "$daemon" -c "list $region"
