import type { DetectionMethod, HostAddress } from '../config/settings.ts';
import { addressBits, familyOf, type IpAddress, type IpFamily } from '../ip/address.ts';
import { cidrContains, cidrCovers, hostCidr, parseCidr } from '../ip/cidr.ts';

/**
 * Selects the address of this host that other hosts use, like calico/node
 * (node/pkg/lifecycle/startup/autodetection).
 */

/** An interface of the host with its addresses, in the kernel's order. */
export interface HostInterface {
  readonly name: string;
  readonly mac: string;
  readonly addresses: readonly InterfaceAddress[];
}

interface InterfaceAddress {
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** The settings of one family. */
export interface AddressChoice {
  readonly address: HostAddress;
  readonly method: DetectionMethod;
}

export type AddressChoices = Readonly<Record<IpFamily, AddressChoice>>;

/** The chosen address of one family with its prefix length, as in `spec.bgp` of a Node, and the reason. */
export interface Detected {
  /** `undefined`: there is none. */
  readonly address: string | undefined;
  readonly why: string;
}

/** Upstream's list (DEFAULT_INTERFACES_TO_EXCLUDE): interfaces of containers, tunnels and virtual networks. */
const skippedInterfaces =
  /^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo$|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)/;

/** Reports whether an interface belongs to containers or tunnels, so that it says nothing about the host itself. */
export function isOfContainers({ name }: Pick<HostInterface, 'name'>): boolean {
  return skippedInterfaces.test(name);
}

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

/** Reports whether other hosts can reach this host by the address, so far as the address itself tells. */
export function isGlobal({ address }: Pick<InterfaceAddress, 'address'>): boolean {
  return !notGlobal.some((cidr) => cidrCovers(cidr, hostCidr(address)));
}

/** What the host knows for the choice. */
export interface HostView {
  readonly interfaces: readonly HostInterface[];
  /** Returns the source address of packets to a host; `undefined` if it cannot be reached. */
  readonly sourceTo: (destination: string, family: IpFamily) => IpAddress | undefined;
}

/** Chooses the address of one family. */
export function detectAddress(
  { interfaces, sourceTo }: HostView,
  family: IpFamily,
  { address: given, method }: AddressChoice,
): Detected {
  const setting = family === 4 ? 'IP' : 'IP6';
  if (given === 'none') return { address: undefined, why: `${setting}=none` };
  if (given !== 'autodetect') return givenAddress(interfaces, given, setting);
  return byMethod({ interfaces, sourceTo }, family, method);
}

function byMethod(
  { interfaces, sourceTo }: HostView,
  family: IpFamily,
  method: DetectionMethod,
): Detected {
  const { by } = method;
  if (by === 'first-found') {
    return firstOf(interfaces, { family, why: by, isUsed: (one) => !isOfContainers(one) });
  }
  if (by === 'cidr') {
    const { cidrs } = method;
    const isWanted = (address: IpAddress) => cidrs.some((cidr) => cidrContains(cidr, address));
    return firstOf(interfaces, { family, why: `cidr=${cidrs.join(',')}`, isWanted });
  }
  if (by === 'can-reach') {
    const why = `can-reach=${method.destination}`;
    const source = sourceTo(method.destination, family);
    if (source === undefined) return { address: undefined, why: `${why}: no route` };
    return firstOf(interfaces, { family, why, isWanted: (address) => address === source });
  }
  const { pattern } = method;
  const isUsed = (one: HostInterface) =>
    by === 'interface' ? pattern.test(one.name) : !pattern.test(one.name) && !isOfContainers(one);
  return firstOf(interfaces, { family, why: `${by}=${patternText(pattern)}`, isUsed });
}

function patternText({ source }: RegExp): string {
  return source
    .split('|(?:')
    .map((part) => part.replace(/^\(\?:/, '').replace(/\)$/, ''))
    .join(',');
}

function firstOf(
  interfaces: readonly HostInterface[],
  options: {
    readonly family: IpFamily;
    readonly why: string;
    readonly isUsed?: (one: HostInterface) => boolean;
    readonly isWanted?: (address: IpAddress) => boolean;
  },
): Detected {
  const { family, why, isUsed = () => true, isWanted = () => true } = options;
  for (const one of interfaces.filter(isUsed)) {
    const found = one.addresses.find(
      (candidate) =>
        familyOf(candidate.address) === family &&
        isGlobal(candidate) &&
        isWanted(candidate.address),
    );
    if (found === undefined) continue;
    const { address, prefixLength } = found;
    return { address: `${address}/${prefixLength}`, why: `${why}: interface ${one.name}` };
  }
  return { address: undefined, why: `${why}: no interface has such an IPv${family} address` };
}

function givenAddress(
  interfaces: readonly HostInterface[],
  { address, prefixLength }: Exclude<HostAddress, string>,
  setting: string,
): Detected {
  for (const { name, addresses } of interfaces) {
    const own = addresses.find((one) => one.address === address);
    if (own === undefined) continue;
    const length = prefixLength ?? own.prefixLength;
    return { address: `${address}/${length}`, why: `${setting}: interface ${name}` };
  }
  const length = prefixLength ?? addressBits(familyOf(address));
  return { address: `${address}/${length}`, why: `${setting}: no interface of this host has it` };
}
