import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** State of a listening socket in /proc/net/tcp. Source: proc_pid_net(5). */
const listening = '0A';
/** 127.0.0.0/8 ends so, ::1 is so: addresses are printed as numbers of 32 bits in the host's byte order. */
const isLoopback = (address: string) =>
  address.length === 8 ? address.endsWith('7F') : address === '00000000000000000000000001000000';

/**
 * Returns the TCP ports on which dockerd listens for other hosts, in order: that of its API, and those of a swarm. Empty
 * if there is no dockerd, or if it is not visible from here.
 */
export function dockerApiPorts(root = '/'): readonly number[] {
  const pid = textOf(`${root}run/docker.pid`).trim();
  if (!/^\d+$/.test(pid)) return [];
  const folder = `${root}proc/${pid}`;
  const inodes = new Set(entriesOf(`${folder}/fd`).map((fd) => linkOf(`${folder}/fd/${fd}`)));
  const ports = ['tcp', 'tcp6'].flatMap((file) =>
    textOf(`${folder}/net/${file}`)
      .split('\n')
      .slice(1)
      .flatMap((line): readonly number[] => {
        const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
        const [address = '', port = ''] = local.split(':');
        const isOwn = state === listening && inodes.has(`socket:[${inode}]`);
        return isOwn && !isLoopback(address) ? [Number.parseInt(port, 16)] : [];
      }),
  );
  return [...new Set(ports)].toSorted((a, b) => a - b);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function entriesOf(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
