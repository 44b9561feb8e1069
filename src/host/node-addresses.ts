import { createSocket } from 'node:dgram';
import { isDeepStrictEqual } from 'node:util';
import { listAddresses } from '../dataplane/netlink/address.ts';
import { listLinks } from '../dataplane/netlink/link.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import { tryParseAddress, type IpAddress, type IpFamily } from '../ip/address.ts';
import type { Node } from '../model/kinds/node.ts';
import {
  detectAddress,
  isGlobal,
  isOfContainers,
  type AddressChoices,
  type Detected,
  type HostInterface,
} from './autodetection.ts';

/** The addresses and interfaces of this host in its Node resource, for other hosts and Calico's tools. */

/** The address of one family with its prefix length, as in `spec.bgp` of a Node. */
export interface ChosenAddress {
  readonly address: string | undefined;
  /** The settings say so: it replaces what others wrote. */
  readonly isGiven: boolean;
}

/** What a Node says of its host. */
export interface NodeAddresses extends Readonly<Record<IpFamily, ChosenAddress>> {
  readonly interfaces: NonNullable<Node['spec']['interfaces']>;
}

/** The choice of each family. */
export type DetectedAddresses = Readonly<Record<IpFamily, Detected>>;

/** Reads the interfaces of this host in the order of their indexes. Throws `kernel/refused`. */
export function hostInterfaces(rtnetlink: NetlinkSocket): readonly HostInterface[] {
  const addresses = listAddresses(rtnetlink);
  return listLinks(rtnetlink)
    .toSorted((a, b) => a.index - b.index)
    .map(({ index, name, mac }) => ({
      name,
      mac,
      addresses: addresses.filter(({ linkIndex }) => linkIndex === index),
    }));
}

/** Chooses the addresses of this host. Throws `kernel/refused`. */
export async function detectAddresses(
  rtnetlink: NetlinkSocket,
  choices: AddressChoices,
): Promise<{ readonly detected: DetectedAddresses; readonly addresses: NodeAddresses }> {
  const sources = new Map<IpFamily, IpAddress | undefined>();
  for (const family of [4, 6] as const) {
    const { address, method } = choices[family];
    if (address === 'autodetect' && method.by === 'can-reach') {
      sources.set(family, await sourceTo(method.destination, family));
    }
  }
  const interfaces = hostInterfaces(rtnetlink);
  const host = { interfaces, sourceTo: (_: string, family: IpFamily) => sources.get(family) };
  const detected = {
    4: detectAddress(host, 4, choices[4]),
    6: detectAddress(host, 6, choices[6]),
  };
  return { detected, addresses: nodeAddresses(detected, choices, interfaces) };
}

/** Returns what the Node says of a host with these interfaces. */
export function nodeAddresses(
  detected: DetectedAddresses,
  choices: AddressChoices,
  interfaces: readonly HostInterface[],
): NodeAddresses {
  const chosen = (family: IpFamily) => ({
    address: detected[family].address,
    isGiven: choices[family].address !== 'autodetect',
  });
  return {
    4: chosen(4),
    6: chosen(6),
    interfaces: interfaces.flatMap((one) => {
      const addresses = one.addresses
        .filter(isGlobal)
        .map(({ address, prefixLength }) => `${address}/${prefixLength}`);
      return addresses.length === 0 || isOfContainers(one) ? [] : [{ name: one.name, addresses }];
    }),
  };
}

/** Returns the source address of packets to a host. Connecting a UDP socket sends no packet. */
async function sourceTo(destination: string, family: IpFamily): Promise<IpAddress | undefined> {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(anyPort, destination, resolve);
    });
    return tryParseAddress(socket.address().address);
  } catch {
    return undefined;
  } finally {
    socket.close();
  }
}

/** As in upstream. */
const anyPort = 80;

/** The annotation with the addresses written by this program, `IPv4,IPv6`: it changes no other address. */
const detectedAnnotation = 'docker.projectcalico.org/detected-addresses';
const addressType = 'CalicoNodeIP';

/**
 * Returns a Node with the chosen addresses in `spec.bgp` and `spec.addresses`, or the same object if nothing changes. A
 * Node with an address that somebody else wrote (calico/node, `apply`) stays as it is, unless the settings give an
 * address: its other family is missing there on purpose. Our own address stays while none is detected, because the
 * interface may be down for a moment.
 */
export function withNodeAddresses(node: Node, host: NodeAddresses): Node {
  const marks = (node.metadata.annotations?.[detectedAnnotation] ?? '').split(',');
  const { ipv4Address, ipv6Address, ...bgp } = node.spec.bgp ?? {};
  const [v4, v6] = [
    addressAfter(host[4], { stored: ipv4Address ?? '', before: marks[0] ?? '' }),
    addressAfter(host[6], { stored: ipv6Address ?? '', before: marks[1] ?? '' }),
  ];
  const isOthers = (v4.isOthers && !v6.isGiven) || (v6.isOthers && !v4.isGiven);
  if (isOthers || (v4.address + v6.address === '' && marks.join('') === '')) return node;
  const own = [v4, v6].filter(({ isOthers: is }) => !is).map(({ address }) => address);
  const ours = new Set([...marks, ...own]);
  const others = (node.spec.addresses ?? []).filter(
    ({ address, type }) => type !== addressType || !ours.has(address),
  );
  const { bgp: _, ...spec } = node.spec;
  const addressed = {
    ...bgp,
    ...(v4.address === '' ? {} : { ipv4Address: v4.address }),
    ...(v6.address === '' ? {} : { ipv6Address: v6.address }),
  };
  const changed: Node = {
    ...node,
    metadata: {
      ...node.metadata,
      annotations: {
        ...node.metadata.annotations,
        [detectedAnnotation]: [v4, v6].map(({ mark }) => mark).join(','),
      },
    },
    spec: {
      ...spec,
      // Calico rejects an empty one.
      ...(Object.keys(addressed).length === 0 ? {} : { bgp: addressed }),
      addresses: [
        ...own
          .filter((address) => address !== '')
          .map((address) => ({ address, type: addressType })),
        ...others,
      ],
      interfaces: [...host.interfaces],
    },
  };
  return isDeepStrictEqual(changed, node) ? node : changed;
}

/** The next address of one family; empty: none. */
interface AddressAfter {
  readonly address: string;
  /** What this program has written. */
  readonly mark: string;
  /** Somebody else wrote it, and it stays. */
  readonly isOthers: boolean;
  readonly isGiven: boolean;
}

function addressAfter(
  { address, isGiven }: ChosenAddress,
  { stored, before }: { readonly stored: string; readonly before: string },
): AddressAfter {
  const isOthers = stored !== '' && stored !== before && !isGiven;
  if (isOthers) return { address: stored, mark: before, isOthers, isGiven };
  const next = address ?? (isGiven ? '' : stored);
  return { address: next, mark: next, isOthers, isGiven };
}
