import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseNet } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { EndpointRoutes } from './endpoint-routes.ts';

class Lab {
  readonly wanted = new Map<string, string>();
  readonly routes: EndpointRoutes;

  constructor(families: readonly (4 | 6)[] = [4, 6]) {
    this.routes = new EndpointRoutes({
      node: 'here',
      families,
      kernel: {
        routes: {
          setDesired: (route) =>
            this.wanted.set(
              `${route.kind} ${route.destination}`,
              route.kind === 'endpoint'
                ? route.interface
                : route.kind === 'prefix'
                  ? `${route.interface} via ${route.gateway}`
                  : '',
            ),
          deleteDesired: ({ kind, destination }) => this.wanted.delete(`${kind} ${destination}`),
          setDesiredAddress: ({ interface: name, address }) =>
            this.wanted.set(`address ${address} ${name}`, ''),
          deleteDesiredAddress: ({ interface: name, address }) =>
            this.wanted.delete(`address ${address} ${name}`),
          has: (destination, name) =>
            this.wanted.get(`endpoint ${destination}`) === name ||
            this.wanted.get(`prefix ${destination}`)?.startsWith(`${name} `) === true,
        },
      },
    });
  }

  tellEndpoint(id: string, now: WorkloadEndpoint | undefined): void {
    const stored = now && { id, value: now, modRevision: 1n };
    this.routes.onChange({ kind: 'WorkloadEndpoint', id, before: undefined, now: stored });
  }

  tellNetwork(id: string, now: DockerNetwork | undefined): void {
    const stored = now && { id, value: now, modRevision: 1n };
    this.routes.onChange({ kind: 'DockerNetwork', id, before: undefined, now: stored });
  }

  state(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.wanted].toSorted(([a], [b]) => (a < b ? -1 : 1)));
  }
}

function endpoint(
  id: string,
  networks: readonly string[],
  more: {
    readonly node?: string;
    readonly interface?: string;
    readonly network?: string;
    readonly prefixes?: readonly string[];
  } = {},
): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: id,
      annotations: { [endpointAnnotations.network]: more.network ?? 'n1' },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: more.node ?? 'here',
      endpoint: id,
      interfaceName: more.interface ?? `cali${id}`,
      ipNetworks: networks.map(parseNet),
      ...(more.prefixes === undefined
        ? {}
        : { allowSpoofedSourcePrefixes: more.prefixes.map(parseNet) }),
    },
  };
}

function network(
  node: string,
  hops: { readonly nextHop4?: string; readonly nextHop6?: string },
): DockerNetwork {
  return {
    id: 'n1',
    node,
    ipam: 'calico',
    internal: false,
    ipv4: true,
    ipv6: true,
    subnets: [],
    options: {},
    ...(hops.nextHop4 === undefined ? {} : { nextHop4: parseAddress(hops.nextHop4) }),
    ...(hops.nextHop6 === undefined ? {} : { nextHop6: parseAddress(hops.nextHop6) }),
  };
}

test("a route to each address of this host's endpoints and the next hops of its networks, none for other hosts", () => {
  const lab = new Lab();
  lab.tellNetwork('here/n1', network('here', { nextHop4: '169.254.7.7', nextHop6: 'fe80::7' }));
  lab.tellNetwork('there/n2', network('there', { nextHop4: '169.254.8.8' }));
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32', 'fd00::1/128']));
  lab.tellEndpoint('b', endpoint('b', ['10.0.0.2/32'], { node: 'there' }));
  lab.tellEndpoint('c', endpoint('c', ['10.0.0.3/32']));
  assert.deepEqual(lab.state(), {
    'address fe80::7 calia': '',
    'endpoint 10.0.0.1/32': 'calia',
    'endpoint 10.0.0.3/32': 'calic',
    'endpoint fd00::1/128': 'calia',
    'local 169.254.7.7/32': '',
  });
  assert.ok(lab.routes.isRouted(endpoint('a', ['10.0.0.1/32', 'fd00::1/128'])));
  assert.ok(!lab.routes.isRouted(endpoint('a', ['10.0.0.1/32', '10.0.0.9/32'])));
  assert.ok(!lab.routes.isRouted(endpoint('a', ['10.0.0.1/32'], { interface: 'cali9' })));
  // A network of a swarm has the same ID on all hosts.
  lab.tellNetwork('there/n1', undefined);
  assert.ok('local 169.254.7.7/32' in lab.state());
  // A changed endpoint keeps none of its previous routes.
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.7/32'], { interface: 'calix' }));
  lab.tellEndpoint('c', endpoint('c', ['10.0.0.3/32'], { node: 'there' }));
  assert.deepEqual(lab.state(), {
    'endpoint 10.0.0.7/32': 'calix',
    'local 169.254.7.7/32': '',
  });
  lab.tellNetwork('here/n1', undefined);
  lab.tellEndpoint('a', undefined);
  assert.deepEqual(lab.state(), {});
});

test('the IPv6 next hop is on the link of each IPv6 endpoint, in any order of network and endpoint', () => {
  const lab = new Lab();
  lab.tellEndpoint('a', endpoint('a', ['fd00::1/128']));
  lab.tellEndpoint('b', endpoint('b', ['10.0.0.2/32']));
  lab.tellEndpoint('o', endpoint('o', ['fd00::3/128'], { network: 'n2' }));
  const addresses = () => Object.keys(lab.state()).filter((key) => key.startsWith('address'));
  assert.deepEqual(addresses(), []);
  lab.tellNetwork('here/n1', network('here', { nextHop6: 'fe80::7' }));
  assert.deepEqual(addresses(), ['address fe80::7 calia']);
  lab.tellNetwork('here/n1', network('here', { nextHop6: 'fe80::8' }));
  assert.deepEqual(addresses(), ['address fe80::8 calia']);
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32']));
  assert.deepEqual(addresses(), []);
  lab.tellEndpoint('a', endpoint('a', ['fd00::1/128']));
  lab.tellNetwork('here/n1', undefined);
  assert.deepEqual(addresses(), []);
});

test('an address of two endpoints is routed to the first until that is removed', () => {
  const lab = new Lab();
  lab.tellEndpoint('b', endpoint('b', ['10.0.0.1/32']));
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32']));
  assert.deepEqual(lab.state(), { 'endpoint 10.0.0.1/32': 'calia' });
  lab.tellEndpoint('a', undefined);
  assert.deepEqual(lab.state(), { 'endpoint 10.0.0.1/32': 'calib' });
  lab.tellEndpoint('b', undefined);
  assert.deepEqual(lab.state(), {});
});

test('a network instead of an address, or an interface of the host, gets no route and is reported', () => {
  const lab = new Lab();
  lab.tellEndpoint('wide', endpoint('wide', ['10.0.0.0/8', '10.0.0.1/32']));
  lab.tellEndpoint('host', endpoint('host', ['10.0.0.2/32'], { interface: 'eth0' }));
  assert.deepEqual(lab.state(), { 'endpoint 10.0.0.1/32': 'caliwide' });
  assert.deepEqual(lab.routes.failures(), [
    {
      what: 'route to 10.0.0.0/8',
      why: 'an endpoint of this host must have single addresses, not a network',
      net: '10.0.0.0/8',
    },
    {
      what: 'endpoint host',
      why: 'eth0 is not the interface of a container: its name must begin with cali',
    },
  ]);
  lab.tellEndpoint('wide', undefined);
  lab.tellEndpoint('host', endpoint('host', ['10.0.0.2/32']));
  assert.deepEqual(lab.routes.failures(), []);
  assert.deepEqual(lab.state(), { 'endpoint 10.0.0.2/32': 'calihost' });
});

test('a family that this host does not use has no routes, and none is missing', () => {
  const lab = new Lab([4]);
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32', 'fd00::1/128', 'fd00::/64']));
  assert.deepEqual(lab.state(), { 'endpoint 10.0.0.1/32': 'calia' });
  assert.deepEqual(lab.routes.failures(), []);
  assert.ok(lab.routes.isRouted(endpoint('a', ['10.0.0.1/32', 'fd00::1/128'])));
});

test("a prefix behind a container is routed through the container's address of the family, as long as it has both", () => {
  const lab = new Lab();
  const prefixes = ['10.8.0.0/24', 'fd08::/64'];
  const both = endpoint('a', ['10.0.0.1/32', 'fd00::1/128'], { prefixes });
  lab.tellEndpoint('a', both);
  const routes = () =>
    Object.fromEntries(Object.entries(lab.state()).filter(([key]) => key.startsWith('prefix')));
  assert.deepEqual(routes(), {
    'prefix 10.8.0.0/24': 'calia via 10.0.0.1',
    'prefix fd08::/64': 'calia via fd00::1',
  });
  assert.ok(lab.routes.isRouted(both));
  const more = endpoint('a', ['10.0.0.1/32'], { prefixes: [...prefixes, '10.9.0.0/24'] });
  assert.ok(!lab.routes.isRouted(more));
  lab.tellEndpoint('b', endpoint('b', ['10.0.0.2/32'], { prefixes: ['10.8.0.0/24'] }));
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32'], { prefixes }));
  assert.deepEqual(routes(), { 'prefix 10.8.0.0/24': 'calia via 10.0.0.1' });
  lab.tellEndpoint('a', endpoint('a', ['10.0.0.1/32', 'fd00::1/128'], { prefixes: ['fd08::/64'] }));
  assert.deepEqual(routes(), {
    'prefix 10.8.0.0/24': 'calib via 10.0.0.2',
    'prefix fd08::/64': 'calia via fd00::1',
  });
  lab.tellEndpoint('a', undefined);
  lab.tellEndpoint('b', undefined);
  assert.deepEqual(lab.state(), {});
  const only4 = new Lab([4]);
  only4.tellEndpoint('a', both);
  assert.deepEqual(Object.keys(only4.state()), ['endpoint 10.0.0.1/32', 'prefix 10.8.0.0/24']);
});
