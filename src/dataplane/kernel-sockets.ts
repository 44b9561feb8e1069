import { Ipset } from './netlink/ipset.ts';
import { loadLibc, type Libc } from './netlink/libc.ts';
import { NetlinkSocket } from './netlink/socket.ts';

/** The open sockets to the kernel of this network namespace, one for each purpose. */
export interface KernelSockets {
  readonly libc: Libc;
  readonly rtnetlink: NetlinkSocket;
  /** For removals, which the kernel takes long for, on another thread. */
  readonly removals: NetlinkSocket;
  readonly netfilter: NetlinkSocket;
  readonly ipset: Ipset;
  close(): void;
}

export function openKernelSockets(): KernelSockets {
  const libc = loadLibc();
  const [rtnetlink, removals, netfilter, sets] = [0, 0, 12, 12].map((family) =>
    NetlinkSocket.open(libc, family),
  );
  if (
    rtnetlink === undefined ||
    removals === undefined ||
    netfilter === undefined ||
    sets === undefined
  ) {
    throw new TypeError('four sockets were opened');
  }
  return {
    libc,
    rtnetlink,
    removals,
    netfilter,
    ipset: new Ipset(sets),
    close: () => {
      for (const socket of [rtnetlink, removals, netfilter, sets]) socket.close();
    },
  };
}
