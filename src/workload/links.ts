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

/** The host's ends of veths. */
export interface Links {
  /** Makes the pair, the host's end up; one that is there and stays will do. MTU in bytes. */
  createVeth(veth: {
    readonly hostName: string;
    readonly peerName: string;
    readonly peerMac: string;
    readonly mtuBytes: number;
    /** Whether the endpoint has an IPv6 address, for which the host must forward IPv6. */
    readonly hasIpv6: boolean;
  }): Promise<void>;
  /** Removes the pair soon; nothing if there is none. */
  removeVeth(hostName: string): void;
}

/**
 * The host ends of veths of ours whose other end has not gone into a container, or has come back from one: both are
 * here, by the names that only we give.
 */
export function orphanedVeths({ rtnetlink }: KernelSockets): readonly string[] {
  const names = new Set(listLinks(rtnetlink).map(({ name }) => name));
  return [...names].flatMap((name) => {
    const hostName = /^temp[A-Za-z0-9]{11}$/.test(name) ? `cali${name.slice(4)}` : '';
    return names.has(hostName) ? [hostName] : [];
  });
}

/** Makes and removes veths; removals, which take long, are done one after the other on another thread. */
export function createLinks(options: {
  readonly sockets: KernelSockets;
  readonly log: Logger;
  /** Told when the host's end is there. */
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
        // A repeated Join: the pair is there.
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
