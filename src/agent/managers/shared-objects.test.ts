import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseNet } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { PolicyEngine } from '../../profiles/policy-engine.ts';
import { IptablesRenderer, type Tables } from '../../render/iptables/renderer.ts';
import { EndpointRoutes } from './endpoint-routes.ts';
import { NatMembers } from './nat-members.ts';
import { PublishedPorts } from './published-ports.ts';

/**
 * Objects with common desired state: pools, endpoints, networks. The desired state depends only on the present ones.
 */

const apiVersion = 'projectcalico.org/v3';
const families = [4, 6] as const;

/** Everything that turns objects into desired state, which is kept as text. */
class Wishes {
  readonly #wanted = new Map<string, string>();
  readonly #nat: NatMembers;
  readonly #routes: EndpointRoutes;
  readonly #ports: PublishedPorts;
  readonly #engine: PolicyEngine;

  constructor() {
    const setDesired = (key: string, value = '') => this.#wanted.set(key, value);
    const deleteDesired = (key: string) => this.#wanted.delete(key);
    const sets = {
      setDesired: () => undefined,
      addMember: (set: string, member: string) => setDesired(`member ${set} ${member}`),
      removeMember: (set: string, member: string) => deleteDesired(`member ${set} ${member}`),
    };
    this.#nat = new NatMembers({ node: 'here', families, kernel: { sets } });
    this.#routes = new EndpointRoutes({
      node: 'here',
      families,
      kernel: {
        routes: {
          setDesired: (route) => {
            const by = route.kind === 'endpoint' ? route.interface : 'lo';
            setDesired(`route ${route.kind} ${route.destination}`, by);
          },
          deleteDesired: ({ kind, destination }) => deleteDesired(`route ${kind} ${destination}`),
          setDesiredAddress: ({ interface: name, address }) =>
            setDesired(`address ${name} ${address}`),
          deleteDesiredAddress: ({ interface: name, address }) =>
            deleteDesired(`address ${name} ${address}`),
          has: () => true,
        },
      },
    });
    const tables = (family: 4 | 6): Tables => ({
      setChain: (table, { name, rules }) =>
        setDesired(`chain ${family} ${table} ${name}`, JSON.stringify(rules)),
      removeChain: (table, name) => deleteDesired(`chain ${family} ${table} ${name}`),
      setHook: () => undefined,
    });
    const rules = new IptablesRenderer(new Map(families.map((one) => [one, tables(one)])), {
      ...sets,
      deleteDesired: () => undefined,
      holds: () => true,
      filled: () => [],
      counters: () => [],
      removeCounters: () => undefined,
    });
    const log = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
    this.#ports = new PublishedPorts({
      node: 'here',
      families,
      kernel: {
        rules,
        links: { setRouteLocalnet: () => undefined },
        addresses: {
          ofInterfaces: () => new Set(),
          answeredFor: () => [],
          byInterface: () => [],
          linkOf: () => undefined,
        },
        conntrack: { flush: () => 0 },
      },
      hostPorts: { reserve: async () => 0, release: () => undefined, undeliveredAt: () => 0 },
      log,
    });
    this.#engine = new PolicyEngine({ node: 'here', families, output: rules.policies });
    this.#nat.start();
    rules.start();
  }

  setPool(name: string, pool: IpPool | undefined): void {
    this.#nat.setPool(name, pool);
  }

  setNetwork(name: string, network: DockerNetwork | undefined): void {
    this.#routes.setNetwork(name, network);
  }

  setEndpoint(name: string, endpoint: WorkloadEndpoint | undefined): void {
    this.#engine.setEndpoint(name, endpoint);
    this.#nat.setEndpoint(name, endpoint);
    this.#routes.setEndpoint(name, endpoint);
    this.#ports.setEndpoint(name, endpoint);
  }

  /** Returns everything in a fixed order. */
  all(): readonly string[] {
    this.#engine.dropIdle();
    const refused = this.#routes.failures().map(({ what, why }) => `${what}: ${why}`);
    const wanted = [...this.#wanted].map(([key, value]) => `${key} = ${value}`);
    return [...wanted, ...refused].toSorted();
  }
}

const name = fc.constantFrom('a', 'b', 'c');
const network = fc.constantFrom('10.0.0.1/32', '10.0.0.2/32', 'fd00::1/128', '10.0.0.0/8');
const poolChange = fc.record({
  kind: fc.constant('pool' as const),
  name,
  value: fc.option(
    fc.record({
      cidr: fc.constantFrom('10.0.0.0/16', '10.1.0.0/16', 'fd00::/48').map(parseNet),
      natOutgoing: fc.boolean(),
      disabled: fc.boolean(),
    }),
    { nil: undefined },
  ),
});
const networkChange = fc.record({
  kind: fc.constant('network' as const),
  name,
  value: fc.option(
    fc.record(
      {
        nextHop4: fc.constantFrom('169.254.1.1', '10.0.0.1').map(parseAddress),
        nextHop6: fc.constantFrom('fe80::1', 'fe80::2').map(parseAddress),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
    { nil: undefined },
  ),
});
const endpointChange = fc.record({
  kind: fc.constant('endpoint' as const),
  name,
  value: fc.option(
    fc.record({
      networks: fc.array(network, { maxLength: 3 }),
      interfaceName: fc.constantFrom('cali1', 'cali2', 'eth0'),
      network: name,
      nat: fc.constantFrom('true', 'false', ''),
      sandbox: fc.constantFrom('s1', 's2'),
      ports: fc.subarray([80, 81]),
    }),
    { nil: undefined },
  ),
});
type EndpointValue = NonNullable<
  typeof endpointChange extends fc.Arbitrary<{ value: infer V }> ? V : never
>;

function poolOf(of: string, spec: IpPool['spec']): IpPool {
  return { kind: 'IPPool', apiVersion, metadata: { name: of }, spec };
}

function networkOf(of: string, hops: Pick<DockerNetwork, 'nextHop4' | 'nextHop6'>): DockerNetwork {
  const fixed = { ipam: 'calico', internal: false, ipv4: true, ipv6: true } as const;
  return { id: of, node: 'here', ...fixed, subnets: [], options: {}, ...hops };
}

function endpointOf(of: string, value: EndpointValue): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: of,
      namespace: 'libnetwork',
      annotations: {
        [endpointAnnotations.network]: value.network,
        [endpointAnnotations.sandbox]: value.sandbox,
        ...(value.nat === '' ? {} : { [endpointAnnotations.natOutgoing]: value.nat }),
      },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: 'here',
      endpoint: of,
      ipNetworks: value.networks.map(parseNet),
      interfaceName: value.interfaceName,
      ports: value.ports.map((hostPort) => ({
        name: 'p',
        protocol: 'TCP',
        port: 80,
        hostPort,
        hostIP: '0.0.0.0',
      })),
    },
  };
}

test('common desired state depends on the present objects, not on the history of changes', () => {
  const changes = fc.array(fc.oneof(poolChange, networkChange, endpointChange), { maxLength: 40 });
  fc.assert(
    fc.property(changes, fc.boolean(), (all, isReversed) => {
      const lived = new Wishes();
      const present = new Map<string, (wishes: Wishes) => void>();
      for (const change of all) {
        const { kind, name: of } = change;
        const set =
          change.kind === 'pool'
            ? (wishes: Wishes) => wishes.setPool(of, change.value && poolOf(of, change.value))
            : change.kind === 'network'
              ? (wishes: Wishes) =>
                  wishes.setNetwork(of, change.value && networkOf(of, change.value))
              : (wishes: Wishes) =>
                  wishes.setEndpoint(of, change.value && endpointOf(of, change.value));
        set(lived);
        if (change.value === undefined) present.delete(`${kind} ${of}`);
        else present.set(`${kind} ${of}`, set);
      }
      const fresh = new Wishes();
      const sets = [...present.values()];
      for (const set of isReversed ? sets.toReversed() : sets) set(fresh);
      assert.deepEqual(lived.all(), fresh.all());
    }),
    { numRuns: 500 },
  );
});
