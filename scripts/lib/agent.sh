# shellcheck shell=bash disable=SC2034
# Sourced after common.sh: one agent, found, started and stopped. Needs BUILD, IMAGES, STATE_DIR, RUN_DIR
# and SOCKET. Under systemd it is a transient unit, since an agent needs a cgroup that is delegated to
# it; elsewhere it is a process of a session of its own.

agent_files() {
  PID_FILE=${SOCKET%.sock}.pid
  AGENT_LOG=$STATE_DIR/broodd.log
  UNIT=brood-quickstart-$(printf '%s' "$SOCKET" | sha256sum | cut -c1-8).service
}

brood() { "$BUILD/bin/brood" --socket "$SOCKET" "$@"; }
agent_answers() { brood version >/dev/null 2>&1; }
under_systemd() { [[ -d /run/systemd/system ]] && command -v systemd-run >/dev/null; }

# The pid of the agent that these scripts have started. A number in a file may be another process by
# now, so its program and its socket are looked at.
agent_pid() {
  local pid
  pid=$(cat "$PID_FILE" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == */broodd* ]] || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF -- "$SOCKET" || return 1
  printf '%s' "$pid"
}

# A build has replaced the program since the agent was started.
agent_is_outdated() {
  local pid
  pid=$(agent_pid) && [[ $(readlink "/proc/$pid/exe") == *' (deleted)' ]]
}

# One line for each limit that this host cannot enforce; none where it can.
limits_not_enforced() {
  # Its exit status says whether an agent could start as it is, and is no failure here.
  { "$BUILD/bin/brood" check --json --state-dir "$STATE_DIR" --run-dir "$RUN_DIR" || true; } | python3 -I -c '
import json, sys
for finding in json.load(sys.stdin)["findings"]:
    controller = finding["id"].replace("cgroup.", "", 1)
    if finding["level"] == "missing" and controller in ("cpu", "memory", "pids"):
        print(controller + ": " + finding["found"] + "; " + finding["meaning"])
'
}

start_agent() { # LIMITS
  local command=("$BUILD/bin/broodd" --socket "$SOCKET" --state-dir "$STATE_DIR" --run-dir "$RUN_DIR"
    --images-dir "$IMAGES" --limits "$1")
  mkdir -p "$STATE_DIR" "$(dirname -- "$SOCKET")"
  : >"$AGENT_LOG"
  if under_systemd; then
    start_unit "${command[@]}"
  else
    # Descriptor 9 is the lock of this script.
    setsid "${command[@]}" </dev/null >>"$AGENT_LOG" 2>&1 9>&- &
    echo $! >"$PID_FILE"
  fi
  wait_for_agent
}

start_unit() { # COMMAND…
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  systemd-run --quiet --collect --unit="$UNIT" --description='brood, started by scripts/quickstart' \
    -p Type=notify -p Delegate=yes -p KillMode=mixed -p LimitNOFILE=1048576 -p TimeoutStopSec=60 \
    -p StandardError="append:$AGENT_LOG" -- "$@" || return 1
  systemctl show --property MainPID --value "$UNIT" >"$PID_FILE"
}

wait_for_agent() {
  local tries
  for ((tries = 0; tries < 600; ++tries)); do
    ! agent_answers || return 0
    agent_pid >/dev/null || break
    sleep 0.1
  done
  say "the agent did not come up; its log, $AGENT_LOG:"
  tail -n 20 "$AGENT_LOG"
  return 1
}

# True when there is none afterwards. What runs is let finish; an agent that does not end is told so a
# second time, and never killed: it has things to put away.
stop_agent() {
  local pid tries
  pid=$(agent_pid) || {
    rm -f "$PID_FILE"
    return 0
  }
  if under_systemd && systemctl is-active --quiet "$UNIT"; then
    systemctl stop "$UNIT" || true
  else
    kill -TERM "$pid" 2>/dev/null || true
  fi
  for ((tries = 0; tries < 450; ++tries)); do
    if [[ ! -e /proc/$pid ]] || [[ $(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null) == Z ]]; then
      rm -f "$PID_FILE"
      return 0
    fi
    [[ $tries != 350 ]] || kill -TERM "$pid" 2>/dev/null || true
    sleep 0.1
  done
  complain "the agent (process $pid) does not end; see $AGENT_LOG"
  return 1
}
