import { Ipset } from './netlink/ipset.ts';
import { loadLibc, type Libc } from './netlink/libc.ts';
import { NetlinkSocket } from './netlink/socket.ts';

/** The open sockets to the kernel of this network namespace, one for each purpose. */
export interface KernelSockets {
  readonly libc: Libc;
  readonly rtnetlink: NetlinkSocket;
  /** For removals, which are slow in the kernel, on another thread. */
  readonly removals: NetlinkSocket;
  readonly netfilter: NetlinkSocket;
  /** For listing all tracked flows, which is slow in the kernel, on another thread. */
  readonly flows: NetlinkSocket;
  readonly ipset: Ipset;
  close(): void;
}

export function openKernelSockets(): KernelSockets {
  const libc = loadLibc();
  const [routing, filtering] = [0, 12];
  const opened: NetlinkSocket[] = [];
  const open = (family: number) => {
    const socket = NetlinkSocket.open(libc, family);
    opened.push(socket);
    return socket;
  };
  return {
    libc,
    rtnetlink: open(routing),
    removals: open(routing),
    netfilter: open(filtering),
    flows: open(filtering),
    ipset: new Ipset(open(filtering)),
    close: () => {
      for (const socket of opened) socket.close();
    },
  };
}
