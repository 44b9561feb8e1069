import { existsSync } from 'node:fs';
import { replaceFileSync } from '../async/replace-file.ts';
import { refused } from '../dataplane/netlink/errno.ts';
import { loadLibc } from '../dataplane/netlink/libc.ts';
import { describe } from '../errors/error.ts';

/**
 * Special paths in the root file system of a managed plugin (plugin/build, config.json). Everything else is at the
 * host's own paths.
 */

const hostSysctl = '/host/proc/sys/net';
const ownSysctl = '/proc/sys/net';
const bind = 4096;

/** Path of a managed plugin's command on the host. */
export const commandFile = '/var/lib/calico/bin/calico-cnm';

/**
 * Docker mounts `/proc/sys` read-only in a plugin: bind-mounts the host's `/proc/sys/net` over it. Throws
 * `kernel/refused` (without CAP_SYS_ADMIN).
 */
export function makeSysctlWritable(): void {
  if (!existsSync(hostSysctl)) return;
  const libc = loadLibc();
  if (libc.mount(hostSysctl, ownSysctl, '', bind, '') < 0) {
    throw refused(`make ${ownSysctl} writable`, libc.errno());
  }
}

/**
 * Writes a command for users of the host that runs the plugin's program inside the plugin, with the plugin's
 * settings. It contains the process ID, so it is written at every start. Returns why it failed, or `undefined`.
 */
export function writeCommand(
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const settings = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined || value === '' || !/^[A-Z][A-Z0-9_]*$/.test(name)
      ? []
      : [`export ${name}=${quoted(value)}`],
  );
  const script = [
    '#!/bin/sh',
    '# Written by the managed plugin at each start: its command line, run inside of the plugin.',
    ...settings,
    `exec nsenter --target ${process.pid} --mount -- ${process.execPath} ${process.argv[1] ?? ''} "$@"`,
    '',
  ].join('\n');
  try {
    replaceFileSync(commandFile, script, 0o700);
    return undefined;
  } catch (error) {
    return describe(error);
  }
}

function quoted(value: string): string {
  return `'${value.replaceAll("'", String.raw`'\''`)}'`;
}
