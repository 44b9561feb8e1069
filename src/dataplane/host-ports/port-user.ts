import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { CalicoError } from '../../errors/error.ts';
import { addressAndPort, addressFromBytes, familyOf, isUnspecified } from '../../ip/address.ts';
import type { HostPort } from './host-port-socket.ts';
import { processName } from '../processes.ts';

/** A process that uses a host port. */
export interface PortUser {
  /** The name of its program. */
  readonly name: string;
  readonly pid: number;
  /** Where it is bound: `127.0.0.53:53`. */
  readonly where: string;
}

/** Files of /proc/net by protocol, each with the state of a socket that blocks the port (proc(5)). */
const tables = {
  TCP: { files: ['tcp', 'tcp6'], state: '0A' },
  UDP: { files: ['udp', 'udp6'], state: undefined },
  SCTP: { files: [], state: undefined },
} as const;

/**
 * Returns the process whose socket blocks a port; `undefined` if it has exited, is in another PID namespace, or uses
 * an SCTP port. Reads the open files of all processes: some ms for each hundred of them.
 */
export async function portUser(requested: HostPort, root = '/'): Promise<PortUser | undefined> {
  const inodes = new Map<string, string>();
  for (const file of tables[requested.protocol].files) {
    const text = await readFile(`${root}proc/self/net/${file}`, 'utf8').catch(() => '');
    for (const { inode, where } of socketsIn(text, requested))
      inodes.set(`socket:[${inode}]`, where);
  }
  if (inodes.size === 0) return undefined;
  for (const pid of await readdir(`${root}proc`)) {
    if (!/^\d+$/.test(pid)) continue;
    const folder = `${root}proc/${pid}/fd`;
    for (const fd of await readdir(folder).catch(() => [])) {
      const where = inodes.get(await readlink(`${folder}/${fd}`).catch(() => ''));
      if (where === undefined) continue;
      // Not the name of its first thread, which programs can set.
      const program = await readlink(`${root}proc/${pid}/exe`).catch(() => undefined);
      const name = program === undefined ? processName(pid, root) : basename(program);
      return { name: name ?? 'a process', pid: Number(pid), where };
    }
  }
  return undefined;
}

/** Returns the sockets of a table that block a bind to the port. */
function* socketsIn(
  text: string,
  requested: HostPort,
): Generator<{ readonly inode: string; readonly where: string }> {
  const { state } = tables[requested.protocol];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', , is, , , , , , inode = ''] = line.trim().split(/\s+/);
    const [address = '', port = ''] = local.split(':');
    if (Number.parseInt(port, 16) !== requested.port) continue;
    if (state !== undefined && is !== state) continue;
    const bound = addressFromBytes(hostOrder(address));
    const isAll = isUnspecified(bound) || isUnspecified(requested.address);
    // A socket on all IPv6 addresses may be one on all IPv4 addresses as well.
    const isOfFamily = familyOf(bound) === familyOf(requested.address) || bound === '::';
    if (!isOfFamily || !(isAll || bound === requested.address)) continue;
    yield { inode, where: addressAndPort(bound, requested.port) };
  }
}

/** The kernel prints each 32 bits of an address as a number of the host's byte order, which is little endian. */
function hostOrder(hex: string): Uint8Array {
  const words = Buffer.from(hex, 'hex');
  return words.length % 4 === 0 ? words.swap32() : words;
}

/**
 * Returns the error for a port in use: `port/taken`, which names the process if it is one of the host. A port reserved
 * by this process belongs to another container.
 */
export async function portTaken(requested: HostPort): Promise<CalicoError> {
  const where = addressAndPort(requested.address, requested.port);
  const user = await portUser(requested);
  if (user === undefined || user.pid === process.pid)
    return new CalicoError('port/taken', { where });
  const at = user.where === where ? '' : `, ${user.where}`;
  return new CalicoError('port/taken', { where, by: `${user.name} (process ${user.pid}${at})` });
}
