import { parseAddress, type IpAddress, type IpFamily } from '../../../src/ip/address.ts';

/**
 * The network of the difference test: two hosts with a link between them; containers on Calico networks; `lan` behind a
 * bridge of the first host, like a container of Docker's own network; and `out`, reached from both hosts.
 */

export const hosts = ['h1', 'h2'] as const;
export type Host = (typeof hosts)[number];

/** Containers on Calico networks: their host and namespace. */
export const containers = {
  a: { host: 'h1', namespace: 'libnetwork' },
  b: { host: 'h1', namespace: 'shop' },
  c: { host: 'h2', namespace: 'libnetwork' },
} as const satisfies Readonly<Record<string, { readonly host: Host; readonly namespace: string }>>;

export type Container = keyof typeof containers;
export const containerNames = ['a', 'b', 'c'] as const satisfies readonly Container[];

export const places = [...hosts, ...containerNames, 'lan', 'out'] as const;
export type Place = (typeof places)[number];

export const addresses: Readonly<Record<Place, Readonly<Record<IpFamily, IpAddress>>>> = {
  h1: pair('203.0.113.1', 'fd00:203::1'),
  h2: pair('203.0.113.2', 'fd00:203::2'),
  a: pair('10.65.0.1', 'fd65::1:1'),
  b: pair('10.65.0.2', 'fd65::1:2'),
  c: pair('10.65.1.1', 'fd65::2:1'),
  lan: pair('172.20.0.2', 'fd20::2'),
  out: pair('192.0.2.1', 'fd00:192::1'),
};

function pair(four: string, six: string) {
  return { 4: parseAddress(four), 6: parseAddress(six) };
}

/** Returns who has an address. */
export function placeOf(address: IpAddress): Place | undefined {
  return places.find((place) => Object.values(addresses[place]).includes(address));
}

export function isContainer(place: Place): place is Container {
  return place in containers;
}

export function isHost(place: Place): place is Host {
  return place === 'h1' || place === 'h2';
}

/** The interfaces of a host to places other than its containers. */
export type Interface = 'uplink' | 'fabric' | 'br-lan';

/** Returns by which interface a host reaches a place that is neither itself nor a container of its own. */
export function interfaceTo(host: Host, place: Place): Interface {
  if (place === 'out') return 'uplink';
  return place === 'lan' && host === 'h1' ? 'br-lan' : 'fabric';
}

/** Returns the host through which a place reaches another one. */
export function hostOf(place: Place, to: Place): Host {
  if (isHost(place)) return place;
  if (isContainer(place)) return containers[place].host;
  if (place === 'lan') return 'h1';
  return to === 'h2' || to === 'c' ? 'h2' : 'h1';
}

/** The ports that containers publish on their hosts. `isOpen`: connections are allowed unless a policy decides. */
export const published = [
  { owner: 'a', protocol: 6, hostPort: 8080, port: 80, isOpen: true },
  { owner: 'a', protocol: 17, hostPort: 8080, port: 450, isOpen: true },
  { owner: 'b', protocol: 17, hostPort: 8081, port: 5432, isOpen: false },
  { owner: 'c', protocol: 6, hostPort: 8080, port: 5432, isOpen: true },
] as const;

/** Ports that containers have by name. */
export const namedPorts = [
  { owner: 'a', name: 'sql', protocol: 6, port: 5432 },
  { owner: 'b', name: 'sql', protocol: 6, port: 80 },
  { owner: 'b', name: 'dns', protocol: 17, port: 450 },
  { owner: 'c', name: 'dns', protocol: 17, port: 80 },
] as const;

/** The only failsafe port, of both directions and of TCP and UDP. */
export const failsafePort = 4000;
