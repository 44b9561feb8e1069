import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr, parseCidr } from '../../ip/cidr.ts';
import { withPublishedPorts } from '../../model/published-port.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { FakeKernel } from '../fake-kernel.fixture.ts';
import { PublishedPorts } from './published-ports.ts';

const endpoint: WorkloadEndpoint = {
  kind: 'WorkloadEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'e1', namespace: 'libnetwork' },
  spec: {
    orchestrator: 'libnetwork',
    node: 'here',
    endpoint: 'e1',
    interfaceName: 'calie1',
    ipNetworks: [hostCidr(parseAddress('10.65.0.1'))],
  },
};

test('a port reserved on an address that the host has lost is reported; on all addresses or loopback it is not', () => {
  const log = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
  const ports = new PublishedPorts({
    node: 'here',
    families: [4],
    kernel: {
      rules: { changePublished: () => undefined },
      links: { setRouteLocalnet: () => undefined },
      addresses: {
        ofInterfaces: () => new Set(),
        answeredFor: () => [parseCidr('127.0.0.0/8'), parseCidr('192.0.2.1/32')],
        byInterface: () => [],
        linkOf: () => undefined,
      },
      conntrack: { flush: () => 0 },
    },
    // Like a socket that was bound while the host had the address.
    hostPorts: { reserve: async () => 0, release: () => undefined, undeliveredAt: () => 0 },
    log,
  });
  const publish = (...addresses: readonly string[]) =>
    ports.setEndpoint(
      'e1',
      withPublishedPorts(
        endpoint,
        addresses.map((address, index) => {
          const hostIp = parseAddress(address);
          return { protocol: 'TCP', hostIp, hostPort: 8080 + index, port: 80 };
        }),
      ),
    );
  publish('0.0.0.0', '127.0.0.1', '127.0.0.53');
  assert.deepEqual(ports.problems(), []);
  publish('0.0.0.0', '192.0.2.77');
  assert.deepEqual(ports.problems(), [
    'published port 192.0.2.77:8081: the host no longer has this address; add it again (ip address add), or publish the port on another address',
  ]);
  ports.setEndpoint('e1', undefined);
  assert.deepEqual(ports.problems(), []);
});

/** Published ports on a kernel that records desired state. */
class Lab {
  readonly kernel: FakeKernel;
  readonly held = new Set<string>();
  readonly taken = new Set<string>();
  readonly warnings: unknown[] = [];
  readonly undelivered = new Map<number, number>();
  readonly ports: PublishedPorts;

  constructor(families: readonly (4 | 6)[] = [4, 6]) {
    this.kernel = new FakeKernel(families);
    const { kernel } = this.kernel;
    kernel.rules.start();
    const key = (owner: string, binding: object) => `${owner} ${JSON.stringify(binding)}`;
    this.ports = new PublishedPorts({
      node: 'here',
      families,
      kernel,
      hostPorts: {
        reserve: async (owner, binding) => {
          if (this.taken.has(`${binding.address} ${binding.port}`)) throw new Error('in use');
          this.held.add(key(owner, binding));
          return 0;
        },
        release: (owner, binding) => void this.held.delete(key(owner, binding)),
        undeliveredAt: ({ port }) => this.undelivered.get(port) ?? 0,
      },
      log: {
        error: () => 0,
        warn: (_, facts) => this.warnings.push(facts),
        info: () => 0,
        debug: () => 0,
      },
    });
  }

  async publish(
    id: string,
    published: readonly (readonly [host: string, hostPort: number, port?: number])[],
    more: { readonly protocol?: 'TCP' | 'UDP' | 'SCTP'; readonly address?: string } = {},
  ): Promise<void> {
    const spec = {
      ...endpoint.spec,
      endpoint: id,
      interfaceName: `cali${id}`,
      ipNetworks: [hostCidr(parseAddress(more.address ?? '10.65.0.1'))],
    };
    const value = withPublishedPorts(
      { ...endpoint, spec },
      published.map(([host, hostPort, port = 80]) => ({
        protocol: more.protocol ?? 'TCP',
        hostIp: parseAddress(host),
        hostPort,
        port,
      })),
    );
    const now = { id, value, modRevision: 1n };
    this.ports.onChange({ kind: 'WorkloadEndpoint', id, before: undefined, now });
    await setImmediate();
  }

  async remove(id: string): Promise<void> {
    this.ports.onChange({ kind: 'WorkloadEndpoint', id, before: undefined, now: undefined });
    await setImmediate();
  }

  bindings(): readonly string[] {
    return [...this.held]
      .map((one) => one.replaceAll(/[{}"]/g, '').replaceAll(/(protocol|address|port):/g, ''))
      .map((one) => one.replaceAll(',', ' '))
      .toSorted();
  }
}

test('a port on all addresses is reserved in both families, one on an address there only; all are released with the endpoint', async () => {
  const lab = new Lab();
  await lab.publish('e1', [
    ['0.0.0.0', 8080],
    ['192.0.2.1', 9090, 90],
  ]);
  assert.deepEqual(lab.bindings(), [
    'e1 TCP 0.0.0.0 8080',
    'e1 TCP 192.0.2.1 9090',
    'e1 TCP ::1 8080 relayTo:10.65.0.1 80 isIfThere:true',
  ]);
  await lab.publish('e1', [['192.0.2.1', 9090, 90]]);
  assert.deepEqual(lab.bindings(), ['e1 TCP 192.0.2.1 9090']);
  await lab.remove('e1');
  assert.deepEqual(lab.bindings(), []);
  await lab.publish('e1', [['0.0.0.0', 8080]], { protocol: 'SCTP' });
  assert.deepEqual(lab.bindings(), ['e1 SCTP 0.0.0.0 8080'], 'SCTP is not relayed');
  const only4 = new Lab([4]);
  await only4.publish('e1', [
    ['0.0.0.0', 8080],
    ['::', 8080],
  ]);
  assert.deepEqual(only4.bindings(), ['e1 TCP 0.0.0.0 8080']);
});

test('interfaces that loopback traffic leaves by may carry it as long as a port needs it', async () => {
  const lab = new Lab();
  await lab.publish('e1', [['0.0.0.0', 8080]]);
  await lab.publish('e2', [['127.0.0.1', 8081]], { address: '10.65.0.2' });
  await lab.publish('e3', [['192.0.2.1', 8082]], { address: '10.65.0.3' });
  lab.ports.apply('tables');
  assert.equal(lab.kernel.routeLocalnet.size, 0, 'before the chains are there nothing may pass');
  lab.ports.apply('routes');
  assert.deepEqual(Object.fromEntries(lab.kernel.routeLocalnet), { calie1: true, calie2: true });
  lab.kernel.routeLocalnet.clear();
  lab.ports.apply('routes');
  assert.equal(lab.kernel.routeLocalnet.size, 0, 'once is enough');
  assert.equal(lab.ports.onEvent({ kind: 'linkMade', name: 'calie1', hasIpv6: false }), true);
  lab.ports.onEvent({ kind: 'linkMade', name: 'calie3', hasIpv6: false });
  await lab.publish('e2', [['192.0.2.1', 8081]], { address: '10.65.0.2' });
  lab.ports.apply('routes');
  assert.deepEqual(Object.fromEntries(lab.kernel.routeLocalnet), { calie1: true, calie2: false });
  lab.kernel.refuses.add('route_localnet calie4');
  await lab.publish('e4', [['0.0.0.0', 8084]], { address: '10.65.0.4' });
  lab.ports.apply('routes');
  assert.deepEqual(lab.ports.failures(), [
    { what: 'route_localnet of interface calie4', why: 'refused' },
  ]);
  assert.equal(lab.ports.poll(), false, 'not at once');
});

test('UDP flows whose NAT changed are flushed: to the port, and to the container by any port; others continue', async () => {
  const lab = new Lab();
  const flow = (protocol: number, destination: string, port: number, answerer = destination) => ({
    family: 4 as const,
    protocol,
    source: parseAddress('203.0.113.9'),
    sourcePort: 4000,
    destination: parseAddress(destination),
    destinationPort: port,
    answerer: parseAddress(answerer),
    answeringPort: port,
    mark: 0,
    tuple: Buffer.of(),
  });
  const ended = async (change: () => Promise<void>) => {
    const all = [
      flow(17, '192.0.2.1', 53),
      flow(17, '127.0.0.1', 53),
      flow(17, '198.51.100.1', 53),
      flow(17, '192.0.2.1', 54),
      flow(17, '192.0.2.1', 99, '10.65.0.1'),
      flow(17, '10.65.0.1', 99),
      flow(6, '192.0.2.1', 53),
      flow(132, '192.0.2.1', 53),
    ];
    lab.kernel.flows = [...all];
    await change();
    lab.ports.apply('routes');
    return all.flatMap((one, index) => (lab.kernel.flows.includes(one) ? [] : [index]));
  };
  const udp = { protocol: 'UDP' as const };
  assert.deepEqual(await ended(() => lab.publish('e1', [['0.0.0.0', 53]], udp)), [0, 1, 4]);
  assert.deepEqual(await ended(() => lab.publish('e1', [['0.0.0.0', 53]], udp)), [], 'as before');
  assert.deepEqual(await ended(() => lab.remove('e1')), [0, 1, 4]);
  assert.deepEqual(
    await ended(() => lab.publish('e1', [['0.0.0.0', 53]])),
    [],
    'TCP ends by itself',
  );
  const sctp = { protocol: 'SCTP' as const };
  await lab.remove('e1');
  assert.deepEqual(await ended(() => lab.publish('e1', [['192.0.2.1', 53]], sctp)), [4, 7]);
});

test('a port that cannot be reserved is reported and logged once; its rules are programmed', async () => {
  const lab = new Lab([4]);
  lab.taken.add('0.0.0.0 8080');
  await lab.publish('e1', [['0.0.0.0', 8080]]);
  await setImmediate();
  assert.deepEqual(lab.ports.problems(), ['in use']);
  assert.deepEqual(lab.warnings, [{ endpoint: 'e1', why: 'in use' }]);
  const [check] = lab.ports.checks();
  assert.deepEqual([check?.name, check?.ok, check?.detail], ['published port', false, 'in use']);
  await lab.publish('e2', [['0.0.0.0', 8080]], { address: '10.65.0.2' });
  assert.equal(lab.warnings.length, 1);
  await lab.remove('e2');
  await lab.remove('e1');
  assert.deepEqual(lab.ports.problems(), []);
});

test('a port that is no longer published is not reported when its reservation fails late', async () => {
  const lab = new Lab([4]);
  lab.taken.add('0.0.0.0 8080');
  const failing = lab.publish('e1', [['0.0.0.0', 8080]]);
  const changed = lab.publish('e1', [['0.0.0.0', 8081]]);
  await Promise.all([failing, changed]);
  await setImmediate();
  assert.deepEqual([lab.ports.problems(), lab.warnings], [[], []]);
  assert.deepEqual(lab.bindings(), ['e1 TCP 0.0.0.0 8081']);
});

test('a port on an address whose family the container lacks gets no rule; undelivered UDP datagrams are counted', async () => {
  const lab = new Lab([4]);
  const rules = () => [...lab.kernel.chains.values()].filter((text) => text.includes('10.65.0.1'));
  const round = async () => {
    const signal = AbortSignal.timeout(600_000);
    for (const driver of lab.kernel.all) await driver.apply('tables', signal);
    return rules().join();
  };
  await lab.publish('e1', [
    ['::', 8083],
    ['::1', 8084],
  ]);
  assert.equal(await round(), '');
  await lab.publish('e1', [['192.0.2.1', 8085]]);
  assert.match(await round(), /8085/);
  lab.undelivered.set(53, 7);
  await lab.publish('e2', [['0.0.0.0', 53]]);
  assert.deepEqual(lab.ports.undelivered(), []);
  await lab.publish(
    'e3',
    [
      ['0.0.0.0', 53],
      ['0.0.0.0', 54],
    ],
    { protocol: 'UDP' },
  );
  assert.deepEqual(
    lab.ports.undelivered().map(({ id, port, packets }) => [id, port.port, packets]),
    [['e3', 53, 7]],
  );
});
