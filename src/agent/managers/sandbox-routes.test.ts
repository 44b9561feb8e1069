import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'node:test';
import type { ContainerRoutes } from '../../dataplane/routes/container-routes.ts';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { SandboxRoutes } from './sandbox-routes.ts';

/** Containers whose routes are only recorded. */
class Lab {
  readonly routes = new Map<string, ContainerRoutes>();
  readonly broken = new Set<string>();
  readonly warnings: unknown[] = [];
  looks = 0;
  readonly paths = new SandboxRoutes({
    node: 'here',
    log: {
      error: () => 0,
      warn: (_, facts) => this.warnings.push(facts),
      info: () => 0,
      debug: () => 0,
    },
    kernel: {
      applyContainerRoutes: (path, routes) => {
        this.looks++;
        if (this.broken.has(path)) throw new Error('no such namespace');
        this.routes.set(path, routes);
        return [];
      },
    },
  });

  endpoint(id: string, now: WorkloadEndpoint | undefined): void {
    const stored = now && { id, value: now, modRevision: 1n };
    this.paths.onChange({ kind: 'WorkloadEndpoint', id, before: undefined, now: stored });
  }

  network(id: string, now: DockerNetwork | undefined): void {
    const stored = now && { id, value: now, modRevision: 1n };
    this.paths.onChange({ kind: 'DockerNetwork', id, before: undefined, now: stored });
  }

  pool(id: string, now: IpPool | undefined): void {
    const stored = now && { id, value: now, modRevision: 1n };
    this.paths.onChange({ kind: 'IPPool', id, before: undefined, now: stored });
  }

  /** Describes the routes after all scheduled checks have run. */
  async state(sandbox = 'ns1'): Promise<readonly string[]> {
    await turn();
    const { paths = [], isPlain } = this.routes.get(sandbox) ?? {};
    return [
      ...paths.map(({ address, nextHop, peers }) => `${address} via ${nextHop} to ${peers.join()}`),
      ...(isPlain === true ? ['plain'] : []),
    ];
  }
}

function endpointOf(
  id: string,
  network: string,
  addresses: readonly string[],
  more: { readonly sandbox?: string; readonly node?: string; readonly container?: string } = {},
): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: id,
      annotations: {
        [endpointAnnotations.network]: network,
        [endpointAnnotations.sandbox]: more.sandbox ?? 'ns1',
      },
    },
    spec: {
      orchestrator: 'libnetwork',
      node: more.node ?? 'here',
      endpoint: id,
      interfaceName: `cali${id}`,
      ipNetworks: addresses.map(parseNet),
      ...(more.container === undefined
        ? {}
        : { workload: more.container, containerID: 'c'.repeat(64) }),
    },
  };
}

function networkOf(id: string, cidrs: readonly string[], internal = false): DockerNetwork {
  return {
    id,
    node: 'here',
    ipam: 'calico',
    internal,
    ipv4: true,
    ipv6: true,
    subnets: cidrs.map((cidr) => ({ family: cidr.includes(':') ? 6 : 4, cidr: parseCidr(cidr) })),
    options: {},
    nextHop4: parseAddress(`169.254.1.${id.length}`),
    nextHop6: parseAddress(`fe80::${id.length}`),
  };
}

function poolOf(cidr: string, spec: Partial<IpPool['spec']> = {}): IpPool {
  return {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: cidr },
    spec: { cidr: parseCidr(cidr), ...spec },
  };
}

test('a container on one network is plain; on several, each address uses the next hop of its own network', async () => {
  const lab = new Lab();
  lab.network('here/n', networkOf('n', ['10.1.0.0/16', 'fd01::/64']));
  lab.network('here/nn', networkOf('nn', ['10.2.0.0/16']));
  lab.endpoint('a', endpointOf('a', 'n', ['10.1.0.1/32', 'fd01::1/128']));
  assert.deepEqual(await lab.state(), [
    '10.1.0.1 via 169.254.1.1 to 10.1.0.0/16',
    'fd01::1 via fe80::1 to fd01::/64',
    'plain',
  ]);
  lab.endpoint('b', endpointOf('b', 'nn', ['10.2.0.1/32']));
  lab.endpoint('x', endpointOf('x', 'n', ['10.1.0.9/32'], { node: 'there' }));
  assert.deepEqual(await lab.state(), [
    '10.1.0.1 via 169.254.1.1 to 10.1.0.0/16',
    'fd01::1 via fe80::1 to fd01::/64',
    '10.2.0.1 via 169.254.1.2 to 10.2.0.0/16',
  ]);
  lab.endpoint('a', undefined);
  assert.deepEqual(await lab.state(), ['10.2.0.1 via 169.254.1.2 to 10.2.0.0/16', 'plain']);
  lab.endpoint('b', endpointOf('b', 'nn', ['10.2.0.1/32'], { sandbox: 'ns2' }));
  assert.deepEqual(await lab.state('ns1'), ['plain'], 'it has left');
  assert.deepEqual(await lab.state('ns2'), ['10.2.0.1 via 169.254.1.2 to 10.2.0.0/16', 'plain']);
});

test('an internal network has no default route, and comes after the others', async () => {
  const lab = new Lab();
  lab.network('here/n', networkOf('n', ['10.1.0.0/16'], true));
  lab.network('here/nn', networkOf('nn', ['10.2.0.0/16']));
  lab.endpoint('a', endpointOf('a', 'n', ['10.1.0.1/32']));
  assert.deepEqual(await lab.state(), ['10.1.0.1 via 169.254.1.1 to 10.1.0.0/16']);
  lab.endpoint('b', endpointOf('b', 'nn', ['10.2.0.1/32']));
  assert.deepEqual(await lab.state(), [
    '10.2.0.1 via 169.254.1.2 to 10.2.0.0/16',
    '10.1.0.1 via 169.254.1.1 to 10.1.0.0/16',
  ]);
  lab.network('here/n', undefined);
  lab.paths.resync();
  assert.deepEqual(await lab.state(), ['10.2.0.1 via 169.254.1.2 to 10.2.0.0/16']);
});

test('peers of a network without a subnet are all enabled pools of the family at the moment', async () => {
  const lab = new Lab();
  lab.network('here/n', networkOf('n', ['0.0.0.0/0', '::/0']));
  lab.pool('one', poolOf('10.65.0.0/16'));
  lab.pool('off', poolOf('10.66.0.0/16', { disabled: true }));
  lab.pool('six', poolOf('fd65::/48'));
  lab.endpoint('a', endpointOf('a', 'n', ['10.65.0.1/32', 'fd65::1/128']));
  assert.deepEqual(await lab.state(), [
    '10.65.0.1 via 169.254.1.1 to 10.65.0.0/16',
    'fd65::1 via fe80::1 to fd65::/48',
    'plain',
  ]);
  const { nextHop6: _, ...only4 } = networkOf('n', ['0.0.0.0/0']);
  lab.network('here/n', only4);
  lab.paths.resync();
  assert.deepEqual(await lab.state(), ['10.65.0.1 via 169.254.1.1 to 10.65.0.0/16', 'plain']);
  lab.network('here/n', networkOf('n', ['0.0.0.0/0', '::/0']));
  lab.paths.resync();
  lab.pool('two', poolOf('10.67.0.0/16'));
  assert.equal((await lab.state())[0], '10.65.0.1 via 169.254.1.1 to 10.65.0.0/16,10.67.0.0/16');
  lab.pool('one', undefined);
  assert.equal((await lab.state())[0], '10.65.0.1 via 169.254.1.1 to 10.67.0.0/16');
});

test('a container is checked when its link comes up or Docker moves its gateway, once for several reasons', async () => {
  const lab = new Lab();
  lab.network('here/n', networkOf('n', ['10.1.0.0/16']));
  lab.endpoint('a', endpointOf('a', 'n', ['10.1.0.1/32']));
  await turn();
  const looks = async (what: () => unknown) => {
    const before = lab.looks;
    what();
    await turn();
    return lab.looks - before;
  };
  const link = (name: string, hasCarrier = true, isGone = false) =>
    lab.paths.onEvent({
      kind: 'link',
      isGone,
      link: { index: 1, name, mac: '', mtuBytes: 1500, isUp: true, hasCarrier, leadsOut: true },
    });
  assert.equal(await looks(() => link('calia')), 1);
  assert.equal(await looks(() => link('calib')), 0);
  assert.equal(await looks(() => link('calia', false)), 0);
  assert.equal(await looks(() => link('calia', true, true)), 0);
  assert.equal(await looks(() => lab.paths.gatewayChanged('a')), 1);
  assert.equal(await looks(() => lab.paths.gatewayChanged('b')), 0);
  assert.equal(
    await looks(() => [lab.paths.gatewayChanged('a'), link('calia'), lab.paths.resync()]),
    1,
  );
  assert.equal(await looks(() => lab.endpoint('a', endpointOf('a', 'n', ['10.1.0.1/32']))), 0);
  assert.ok(lab.paths.hasInterface('calia') && !lab.paths.hasInterface('calib'));
  assert.equal(lab.paths.endpoint('a')?.spec.interfaceName, 'calia');
  lab.endpoint('a', undefined);
  assert.ok(!lab.paths.hasInterface('calia'));
  assert.equal(lab.paths.endpoint('a'), undefined);
});

test('routes that cannot be set are reported, retried, and logged on the second failure', async () => {
  const lab = new Lab();
  lab.broken.add('ns1');
  lab.network('here/n', networkOf('n', ['10.1.0.0/16']));
  lab.endpoint('a', endpointOf('a', 'n', ['10.1.0.1/32'], { container: 'app' }));
  await turn();
  assert.equal(lab.warnings.length, 0, 'once is no more than an interface that goes');
  const [check] = lab.paths.checks();
  assert.deepEqual([check?.name, check?.ok], ['container app', false]);
  assert.match(check?.detail ?? '', /routes in the container could not be set: no such namespace/);
  for (let n = 0; n < 3; n++) {
    lab.paths.poll();
    await turn();
  }
  assert.deepEqual(lab.warnings, [{ container: 'app', why: 'no such namespace' }]);
  lab.endpoint('a', undefined);
  await turn();
  assert.equal(lab.paths.checks()[0]?.name, 'container ns1');
  lab.broken.clear();
  lab.paths.poll();
  await turn();
  assert.deepEqual(lab.paths.checks(), []);
});
