import { isDeepStrictEqual } from 'node:util';
import { listAddresses } from '../dataplane/netlink/address.ts';
import { listLinks } from '../dataplane/netlink/link.ts';
import type { NetlinkSocket } from '../dataplane/netlink/socket.ts';
import { familyOf, type IpAddress, type IpFamily } from '../ip/address.ts';
import { cidrCovers, hostCidr, parseCidr } from '../ip/cidr.ts';
import type { Node } from '../model/kinds/node.ts';

/**
 * Selects the address of this host for its Node resource, for other hosts and Calico's tools, like calico/node's
 * autodetection (node/pkg/lifecycle/startup/autodetection).
 */

/** An interface of the host with its addresses, in the kernel's order. */
export interface HostInterface {
  readonly name: string;
  readonly addresses: readonly { readonly address: IpAddress; readonly prefixLength: number }[];
}

/** The address of each family that a method found, with its prefix length, as in `spec.bgp` of a Node. */
export interface NodeAddresses {
  readonly ipv4Address?: string;
  readonly ipv6Address?: string;
}

/** Selects the address of one family among the interfaces; each of upstream's methods is such a function. */
type DetectionMethod = (
  interfaces: readonly HostInterface[],
  family: IpFamily,
) => string | undefined;

/** Upstream's list (DEFAULT_INTERFACES_TO_EXCLUDE): interfaces of containers, tunnels and virtual networks. */
const skippedInterfaces =
  /^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo$|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)/;

/** Ranges that Go's `IsGlobalUnicast` excludes: other hosts cannot reach this host by them. */
const notGlobal = [
  '0.0.0.0/32',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/127',
  'fe80::/10',
  'ff00::/8',
].map(parseCidr);

/** Upstream's default method: the first global address of the first interface that has one. */
export const firstFound: DetectionMethod = (interfaces, family) => {
  for (const { name, addresses } of interfaces) {
    if (skippedInterfaces.test(name)) continue;
    for (const { address, prefixLength } of addresses) {
      const isGlobal = !notGlobal.some((cidr) => cidrCovers(cidr, hostCidr(address)));
      if (familyOf(address) === family && isGlobal) return `${address}/${prefixLength}`;
    }
  }
  return undefined;
};

/** Applies a method to both families. */
export function detectAddresses(
  interfaces: readonly HostInterface[],
  method: DetectionMethod = firstFound,
): NodeAddresses {
  const [ipv4Address, ipv6Address] = [method(interfaces, 4), method(interfaces, 6)];
  return {
    ...(ipv4Address === undefined ? {} : { ipv4Address }),
    ...(ipv6Address === undefined ? {} : { ipv6Address }),
  };
}

/** Reads the interfaces of this host in the order of their indexes. Throws `kernel/refused`. */
export function hostInterfaces(rtnetlink: NetlinkSocket): readonly HostInterface[] {
  const addresses = listAddresses(rtnetlink);
  return listLinks(rtnetlink)
    .toSorted((a, b) => a.index - b.index)
    .map(({ index, name }) => ({
      name,
      addresses: addresses.filter(({ linkIndex }) => linkIndex === index),
    }));
}

/** The annotation with the addresses written by this program, `IPv4,IPv6`: it changes no other address. */
const detectedAnnotation = 'docker.projectcalico.org/detected-addresses';
const addressType = 'CalicoNodeIP';

/**
 * Returns a Node with the detected addresses in `spec.bgp` and `spec.addresses`, or the same object if nothing changes.
 * A Node with an address that somebody else wrote (calico/node, `apply`) stays as it is: its other family is missing
 * there on purpose. Our own address stays while none is detected, because the interface may be down for a moment.
 */
export function withDetectedAddresses(node: Node, detected: NodeAddresses): Node {
  const [before4 = '', before6 = ''] = (
    node.metadata.annotations?.[detectedAnnotation] ?? ''
  ).split(',');
  const { bgp = {}, addresses = [] } = node.spec;
  const isOwn = (stored: string | undefined, before: string) =>
    stored === undefined || stored === '' || stored === before;
  if (!isOwn(bgp.ipv4Address, before4) || !isOwn(bgp.ipv6Address, before6)) return node;
  const v4 = detected.ipv4Address ?? bgp.ipv4Address;
  const v6 = detected.ipv6Address ?? bgp.ipv6Address;
  const marks = [v4 ?? '', v6 ?? ''];
  if (marks.join('') === '') return node;
  const ours = new Set([before4, before6, ...marks]);
  const others = addresses.filter(
    ({ address, type }) => type !== addressType || !ours.has(address),
  );
  const own = marks.filter((address) => address !== '');
  const changed: Node = {
    ...node,
    metadata: {
      ...node.metadata,
      annotations: { ...node.metadata.annotations, [detectedAnnotation]: marks.join(',') },
    },
    spec: {
      ...node.spec,
      bgp: {
        ...bgp,
        ...(v4 === undefined ? {} : { ipv4Address: v4 }),
        ...(v6 === undefined ? {} : { ipv6Address: v6 }),
      },
      addresses: [...own.map((address) => ({ address, type: addressType })), ...others],
    },
  };
  return isDeepStrictEqual(changed, node) ? node : changed;
}
