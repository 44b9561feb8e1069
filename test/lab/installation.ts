import assert from 'node:assert/strict';
import { checkout } from './built.ts';
import type { CommandOptions, CommandResult } from './process.ts';
import { outputOf, ownEnvironment } from './process.ts';

/** Something that runs commands: a machine or a host. */
interface Commands {
  exec(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  run(argv: readonly string[], options?: CommandOptions): Promise<string>;
  path(inside: string): string;
}

/** Copies this checkout into a machine: all files that git tracks or does not ignore. */
export async function copyCheckout(machine: Commands, folder: string): Promise<void> {
  await machine.run(['mkdir', '-p', folder]);
  const files = 'git ls-files -z --cached --others --exclude-standard --deduplicate';
  const copy = `set -o pipefail; cd "$0"; ${files} | tar c --null -T - | tar x -C "$1"`;
  await outputOf(['bash', '-c', copy, checkout, machine.path(folder)], { env: ownEnvironment() });
}

/** Replaces npm by npm.sh, so that nothing is downloaded and an installation takes seconds. */
export async function standInForNpm(machine: Commands): Promise<void> {
  const standIn = `printf '#!/bin/sh\\nCHECKOUT="%s" exec "%s/test/lab/npm.sh" "$@"\\n' "$0" "$0"`;
  const write = `${standIn} >/usr/local/bin/npm && chmod 755 /usr/local/bin/npm`;
  await machine.run(['sh', '-c', write, checkout]);
}

/** Makes the daemon of a copied checkout exit once it has opened its datastore; returns a function that undoes that. */
export async function breakDaemon(
  machine: Commands,
  checkoutCopy: string,
): Promise<() => Promise<unknown>> {
  const file = `${checkoutCopy}/src/daemon/datastore-component.ts`;
  const before = await machine.run(['cat', file]);
  await machine.run(['sed', '-i', '/const mirror = new LiveMirror/i process.exit(7);', file]);
  assert.match(await machine.run(['cat', file]), /process\.exit\(7\)/);
  return () => machine.run(['sh', '-c', 'cat >"$0"', file], { input: before });
}

/** The state of a host that an installation may change, as lines by name. */
export type HostDump = Readonly<Record<string, readonly string[]>>;

/** Asserts that the state of a host has not changed; reports only the differences. */
export async function assertUntouched(machine: Commands, before: HostDump): Promise<void> {
  const now = await dumpHost(machine);
  const changes = Object.entries(now).flatMap(([name, lines]) => {
    const known = before[name] ?? [];
    return [
      ...known.filter((line) => !lines.includes(line)).map((line) => `- ${name}: ${line}`),
      ...lines.filter((line) => !known.includes(line)).map((line) => `+ ${name}: ${line}`),
    ];
  });
  assert.deepEqual(changes, []);
  assert.deepEqual(now, before);
}

export async function dumpHost(machine: Commands): Promise<HostDump> {
  const dumps: Record<string, readonly string[]> = {};
  for (const [name, command] of Object.entries(looks)) {
    const text = await machine.run(['sh', '-c', command]);
    dumps[name] = text
      .split('\n')
      .filter((line) => !line.startsWith('#'))
      .map((line) => line.replace(/packets \d+ bytes \d+/g, '').replace(/\[\d+:\d+\]/g, ''))
      .toSorted();
  }
  return dumps;
}

const looks = {
  links: 'ip -o link | sed "s/@.*//"',
  routes: 'ip -4 route show table all; ip -6 route show table all | grep -v fe80::',
  'ip rules': 'ip -4 rule; ip -6 rule',
  'iptables-nft': 'iptables-nft-save; ip6tables-nft-save',
  'iptables-legacy':
    'grep -qs filter /proc/net/ip_tables_names && iptables-legacy-save | grep "^-A"; true',
  nftables: 'nft list ruleset',
  sets: 'ipset list -n',
  settings:
    'sysctl -a 2>/dev/null | grep "^net\\." | grep -v "conntrack_count\\|expect_count\\|\\.veth\\|stable_secret"',
  // Docker's own stores change without us, and systemd records each container and each log.
  files:
    'find /etc /usr/local /run /var/lib /var/log \\( -path /run/systemd/transient -o -path "/run/systemd/journal/streams/*" -o -path "/run/docker/*" -o -path "/var/lib/docker/*" -o -path "/run/containerd/*" -o -path "/var/lib/containerd/*" \\) -prune -o -print | sort; ls -d /run/docker/plugins/* 2>/dev/null; true',
} as const;
