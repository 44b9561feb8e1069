import { execFileSync } from 'node:child_process';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { deleteLinkOffThread, listLinks, makeLink } from '../../src/dataplane/netlink/link.ts';
import type { LinkKind } from '../../src/dataplane/netlink/link-kinds.ts';
import { isRefusal, NetlinkSocket } from '../../src/dataplane/netlink/socket.ts';
import { parseAddress } from '../../src/ip/address.ts';

/**
 * Creates a link of each kind in its network namespace, and prints as JSON what `ip` and our netlink code read of each;
 * nothing of a kind that this kernel does not support.
 */

/** The created links, by name. */
export interface ShownLink {
  readonly ip: unknown;
  readonly told: unknown;
}

export const madeLinks: Readonly<Record<string, Exclude<LinkKind, { kind: 'veth' }>>> = {
  vxlan4: { kind: 'vxlan', vni: 4096, port: 4789, local: parseAddress('192.0.2.1') },
  vxlan6: { kind: 'vxlan', vni: 4097, port: 4790, local: parseAddress('2001:db8::1'), under: 1 },
  ipip0: { kind: 'ipip', local: parseAddress('192.0.2.1') },
  ipip1: { kind: 'ipip', local: parseAddress('192.0.2.1'), remote: parseAddress('192.0.2.2') },
  wg0: { kind: 'wireguard' },
  vrf0: { kind: 'vrf', table: 4242 },
};

async function main(): Promise<void> {
  const socket = NetlinkSocket.open(loadLibc(), 0);
  const shown: Record<string, ShownLink> = {};
  for (const [name, is] of Object.entries(madeLinks)) {
    try {
      makeLink(socket, { name, is, mtuBytes: 1400 });
    } catch (error) {
      if (isRefusal(error, 'EOPNOTSUPP')) continue;
      throw error;
    }
    const listed: unknown = JSON.parse(
      execFileSync('ip', ['-d', '-j', 'link', 'show', name], { encoding: 'utf8' }),
    );
    const ip: unknown = Array.isArray(listed) ? listed[0] : undefined;
    shown[name] = { ip, told: listLinks(socket).find((link) => link.name === name)?.is };
    await deleteLinkOffThread(socket, name);
    const isLeft = listLinks(socket).some((link) => link.name === name);
    if (isLeft) throw new Error(`${name} is not gone`);
  }
  process.stdout.write(JSON.stringify(shown));
}

if (process.argv[1]?.endsWith('link-kinds-process.ts') === true) await main();
