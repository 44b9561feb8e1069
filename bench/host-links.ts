import { openKernelSockets } from '../src/dataplane/kernel-sockets.ts';
import { createVeth } from '../src/dataplane/netlink/link.ts';

/** Returns the name of the interface of a numbered endpoint. */
export const interfaceOf = (n: number) => `calibench${String(n).padStart(6, '0')}`;

/** Creates the veths of the endpoints 1 to `count`, with the ends `peer1`, `peer2` …. */
export function createLinks(count: number): void {
  const sockets = openKernelSockets();
  for (let n = 1; n <= count; n++) {
    createVeth(sockets.rtnetlink, {
      hostName: interfaceOf(n),
      hostMac: 'ee:ee:ee:ee:ee:ee',
      peerName: `peer${n}`,
      peerMac: `ca:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`,
      mtuBytes: 1500,
    });
  }
}
