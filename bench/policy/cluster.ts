import type { Write } from '../../src/datastore/datastore.ts';
import { parseCidr } from '../../src/ip/cidr.ts';
import type { GlobalNetworkPolicy } from '../../src/model/kinds/global-network-policy.ts';
import { entryTypeOf, type EntryKind, type EntryValue } from '../../src/model/kinds/index.ts';
import type { WorkloadEndpoint } from '../../src/model/kinds/workload-endpoint.ts';
import { interfaceOf } from '../host-links.ts';

/** The resources of the benchmark of one change. */

export const node = 'here';
/** The endpoints of this host with a stream of datagrams between them, by number. */
export const ends = { receiver: 1, sender: 2 } as const;
/** Policies that select an endpoint of this host. */
export const active = 100;

const apiVersion = 'projectcalico.org/v3';
export const localAddress = (n: number) => `10.65.${n >> 8}.${n & 255}`;

export function endpoint(
  n: number,
  labels: Readonly<Record<string, string>> = {},
): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: `${node}-${n}`,
      namespace: 'libnetwork',
      labels: { app: `app-${n % (active - 1)}`, ...labels },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: `endpoint${n}`,
      ipNetworks: [parseCidr(`${localAddress(n)}/32`)],
      profiles: ['open'],
      interfaceName: interfaceOf(n),
    },
  };
}

function remoteEndpoint(n: number): WorkloadEndpoint {
  const address = (11 << 24) + n;
  const text = [24, 16, 8, 0].map((bits) => (address >> bits) & 255).join('.');
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: `there-${n}`,
      namespace: 'libnetwork',
      labels: { role: `role-${n % 1000}`, project: `project-${n % 977}` },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: `host-${n % 1000}`,
      endpoint: `remote${n}`,
      ipNetworks: [parseCidr(`${text}/32`)],
      profiles: ['open'],
      interfaceName: `cali${String(n).padStart(11, '0')}`,
    },
  };
}

interface PolicyFacts {
  readonly name: string;
  readonly selector: string;
  readonly from: readonly string[];
}

function policy({ name, selector, from }: PolicyFacts): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name },
    spec: {
      selector,
      types: ['Ingress'],
      ingress: from.map((one) => ({ action: 'Allow', protocol: 'UDP', source: { selector: one } })),
    },
  };
}

const ofSender = `app == 'app-${ends.sender}'`;
const roles = (n: number) => Array.from({ length: 5 }, (_, rule) => `role == 'role-${n + rule}'`);
/** The policy of all endpoints; its last rule allows the datagrams, or not. */
export const everyone = (isOpen: boolean) =>
  policy({
    name: 'everyone',
    selector: 'all()',
    from: [...roles(0).slice(1), "set == 'senders'", isOpen ? ofSender : "app == 'none'"],
  });
export const senders = (isMember: boolean): EntryValue<'GlobalNetworkSet'> => ({
  kind: 'GlobalNetworkSet',
  apiVersion,
  metadata: { name: 'senders', labels: { set: 'senders' } },
  spec: { nets: ['192.0.2.1/32', ...(isMember ? [`${localAddress(ends.sender)}/32`] : [])] },
});

export const write = <K extends EntryKind>(kind: K, id: string, value: EntryValue<K>): Write => ({
  key: entryTypeOf[kind].key(id),
  value: entryTypeOf[kind].encode(value),
});
export const putPolicy = (one: GlobalNetworkPolicy) =>
  write('GlobalNetworkPolicy', one.metadata.name, one);
export const putEndpoint = (one: WorkloadEndpoint) =>
  write('WorkloadEndpoint', `libnetwork/${one.metadata.name}`, one);

/**
 * The nth policy: of some endpoints of this host, the first ones; the others of those with a label of their own, which none
 * has. These allow the datagrams. `shift` changes the rules.
 */
export function numberedPolicy(n: number, shift = 0): GlobalNetworkPolicy {
  const isUsed = n < active - 1;
  return policy({
    name: `p-${n}`,
    selector: isUsed ? `app == 'app-${n}'` : `has(${bringing(n)})`,
    from: [...roles((n + shift) % 900), ...(isUsed ? [] : [ofSender])],
  });
}

/** Returns the label of the endpoints of an unused policy. */
export function bringing(n: number): string {
  return `brings-${n}`;
}

/** All resources: endpoints of this host, policies, endpoints of other hosts. */
export function* writes({
  local,
  policies,
  remote,
}: Record<'local' | 'policies' | 'remote', number>): Generator<Write, undefined> {
  yield write('Profile', 'open', {
    kind: 'Profile',
    apiVersion,
    metadata: { name: 'open' },
    spec: { egress: [{ action: 'Allow' }] },
  });
  yield putPolicy(everyone(false));
  yield write('GlobalNetworkSet', 'senders', senders(false));
  for (let n = 0; n < policies - 1; n++) yield putPolicy(numberedPolicy(n));
  for (let n = 1; n <= local; n++) yield putEndpoint(endpoint(n));
  for (let n = 0; n < remote; n++) yield putEndpoint(remoteEndpoint(n));
  return undefined;
}
