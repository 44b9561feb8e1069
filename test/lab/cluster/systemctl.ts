import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import type { Machine } from '../machine.ts';

/**
 * A systemctl for hosts of the lab without systemd: it keeps the program of a unit running, again whenever it ends, as
 * `Restart=always`, and knows what calico-cnm uses of the real one.
 */
const script = `#!/bin/sh
state=/run/lab-units
mkdir -p "$state"
verb= now= unit=
for word; do
  case $word in
  --now) now=yes ;;
  -*) ;;
  *) if [ -z "$verb" ]; then verb=$word; else unit=$word; fi ;;
  esac
done
case $unit in '' | *.service) ;; *) unit=$unit.service ;; esac
file=/etc/systemd/system/$unit
# The first process of the host does not wait for it.
runs() { grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null; }
alive() { [ -e "$state/$unit" ] && runs "$(cat "$state/$unit")"; }
start() {
  alive && return
  [ -e "$file" ] || { echo "Unit $unit not found." >&2; exit 5; }
  command=$(sed -n 's/^ExecStart=//p' "$file")
  setsid sh -c '
    trap "kill \\$child 2>/dev/null; wait \\$child; exit" TERM
    while :; do $0 & child=$!; wait $child; sleep 0.2; done' "$command" </dev/null >>"/var/log/$unit.log" 2>&1 &
  echo $! >"$state/$unit"
}
stop() {
  alive || return 0
  # Another call may stop it at the same time.
  pid=$(cat "$state/$unit" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null
  while runs "$pid"; do sleep 0.05; done
  rm -f "$state/$unit"
}
case $verb in
start) start ;;
stop) stop ;;
restart) stop; start ;;
is-active) alive ;;
disable) [ -z "$now" ] || stop ;;
enable)
  [ -z "$now" ] || start
  ;;
is-enabled) exit 1 ;;
daemon-reload | mask | unmask) ;;
*) echo "systemctl of the lab: $verb is unknown" >&2; exit 1 ;;
esac
`;

/** Gives a host a systemctl, and the etcd that the machine of the tests has. */
export function installSystemctl(machine: Machine): void {
  for (const folder of ['/run/systemd/system', '/etc/systemd/system', '/var/log']) {
    mkdirSync(machine.path(folder), { recursive: true });
  }
  writeFileSync(machine.path('/usr/bin/systemctl'), script, { mode: 0o755 });
  for (const program of ['etcd', 'etcdctl']) {
    copyFileSync(`/usr/bin/${program}`, machine.path(`/usr/bin/${program}`));
  }
  // With systemd, calico-cnm asks Docker only while a process of its name runs; here the tests answer.
  copyFileSync('/usr/bin/sleep', machine.path('/run/dockerd'));
  machine.spawn(['/run/dockerd', 'infinity']);
}
