# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: phases with their times, a log for what is long, clear ends.
set -euo pipefail
ROOT=$(dirname -- "$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")")
# Where no terminal is, and where a locale is named that the host does not have.
export LC_ALL=C.UTF-8 TERM=${TERM:-dumb}

say() { printf '%s\n' "$*"; }
complain() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; }
die() {
  complain "$@"
  exit 1
}

need_root() {
  [[ $(id -u) == 0 ]] || die "needs root, to install packages and to make namespaces, cgroups and mounts; try: sudo $0"
}

# leave_chroot SCRIPT ARGUMENT…: starts the script anew where it may make user namespaces, when it is in
# a chroot, which may not. Needs python3.
leave_chroot() {
  [[ -z ${BROOD_LEFT_CHROOT:-} ]] && ! unshare --user true 2>/dev/null || return 0
  [[ ! -e /proc/self/ns/user || ! -x /usr/bin/python3 ]] ||
    BROOD_LEFT_CHROOT=yes exec /usr/bin/python3 -I "$ROOT/scripts/lib/leave-chroot.py" "$@"
}

# A compiler takes up to 1.5 GB for the largest of our sources.
jobs_for_build() {
  local memory
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo)
  printf '%s' $((memory < 1 ? 1 : memory < $(nproc) ? memory : $(nproc)))
}

elapsed_ms() { # since a time of `now_ms`
  printf '%s' $(($(now_ms) - $1))
}
now_ms() {
  local now=$EPOCHREALTIME
  printf '%s' $((${now/./} / 1000))
}
seconds() { # of milliseconds
  printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100))
}

# start_log FILE: what the phases print goes there.
start_log() {
  LOG=$1
  mkdir -p "$(dirname -- "$LOG")"
  : >"$LOG"
}

# phase WHAT COMMAND…: one line for it, with the time that it took. Its output is in LOG, and its last
# lines are shown when it fails.
phase() {
  local what=$1 begin status=0
  shift
  begin=$(now_ms)
  printf '%-52s ' "$what"
  printf '\n==== %s: %s\n' "$what" "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 </dev/null || status=$?
  if [[ $status == 0 ]]; then
    say "$(seconds "$(elapsed_ms "$begin")")"
    return 0
  fi
  say "FAILED after $(seconds "$(elapsed_ms "$begin")")"
  tail -n 40 "$LOG" | sed 's/^/    | /' >&2
  complain "$what failed (exit $status); everything it said is in $LOG"
  return "$status"
}
