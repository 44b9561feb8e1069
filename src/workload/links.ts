import { ignoreRouterAdvertisements } from '../dataplane/host-settings.ts';
import {
  configureHostEnd,
  createVeth,
  deleteLinkOffThread,
  listLinks,
} from '../dataplane/netlink/link.ts';
import { isRefusal } from '../dataplane/netlink/socket.ts';
import { describe } from '../errors/error.ts';
import { hostMac } from './interfaces.ts';
import type { Logger } from '../telemetry/log.ts';
import type { KernelSockets } from '../dataplane/kernel-sockets.ts';

/** Creates and removes veths by their host interfaces. */
export interface Links {
  /** Creates the pair with the host interface up; an existing pair is kept. MTU in bytes. */
  createVeth(veth: {
    readonly hostName: string;
    readonly peerName: string;
    readonly peerMac: string;
    readonly mtuBytes: number;
    /** Whether the endpoint has an IPv6 address, for which the host must forward IPv6. */
    readonly hasIpv6: boolean;
  }): Promise<void>;
  /** Schedules the removal of the pair; no-op if it does not exist. */
  removeVeth(hostName: string): void;
}

/**
 * Returns host interfaces of calico-cnm whose other end is not in a container yet, or has come back from one: both
 * ends are on the host, with names that only calico-cnm uses.
 */
export function orphanedVeths({ rtnetlink }: KernelSockets): readonly string[] {
  const names = new Set(listLinks(rtnetlink).map(({ name }) => name));
  return [...names].flatMap((name) => {
    const hostName = /^temp[A-Za-z0-9]{11}$/.test(name) ? `cali${name.slice(4)}` : '';
    return names.has(hostName) ? [hostName] : [];
  });
}

/** Creates and removes veths; removals, which are slow, run one after the other on another thread. */
export function createLinks(options: {
  readonly sockets: KernelSockets;
  readonly log: Logger;
  /** Called when the host interface exists. */
  readonly onMade: (hostName: string, ofEndpoint: { readonly hasIpv6: boolean }) => void;
}): Links {
  const { sockets, log, onMade } = options;
  let removals: Promise<void> = Promise.resolve();
  const leaving = new Map<string, Promise<void>>();
  return {
    createVeth: async ({ hasIpv6, ...veth }) => {
      await leaving.get(veth.hostName);
      try {
        createVeth(sockets.rtnetlink, { ...veth, hostMac });
      } catch (error) {
        // A repeated Join: the pair exists.
        if (!isRefusal(error, 'EEXIST')) throw error;
        configureHostEnd(sockets.rtnetlink, veth.hostName);
      }
      ignoreRouterAdvertisements(veth.hostName);
      onMade(veth.hostName, { hasIpv6 });
    },
    removeVeth: (hostName) => {
      removals = removals
        .then(() => deleteLinkOffThread(sockets.removals, hostName))
        .catch((error: unknown) =>
          log.warn('removing interface failed', { interface: hostName, why: describe(error) }),
        );
      const removal = removals.finally(() => {
        if (leaving.get(hostName) === removal) leaving.delete(hostName);
      });
      leaving.set(hostName, removal);
    },
  };
}
