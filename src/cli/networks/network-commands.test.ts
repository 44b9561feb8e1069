import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainEndpoint, plainNetwork } from '../../driver/endpoints/endpoint.fixture.ts';
import { networkIsGone, reportNetwork } from '../../driver/networks/definition-plans.ts';
import { anyAddress4 } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import { endpointEntryId, endpointName } from '../../model/kinds/workload-endpoint.ts';
import { withPublishedPorts } from '../../model/published-port.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { words } from '../../../test/lab/words.ts';

const nodes = [
  ['host-1', '192.0.2.1/24'],
  ['host-2', '198.51.100.2/24'],
] as const;

/** The command line on host-1, with the Nodes of two hosts in its datastore. */
async function startCli(): Promise<CommandLine> {
  const cli = startCommandLine({ NODENAME: 'host-1' });
  await cli.write((draft) => {
    for (const [name, ipv4Address] of nodes) {
      draft.put('Node', name, {
        kind: 'Node',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: { bgp: { ipv4Address } },
      });
    }
  });
  return cli;
}

const definition = (cli: CommandLine, name: string) =>
  cli.write((draft) => draft.get('NetworkDefinition', name) ?? assert.fail(`no ${name}`));

function report(
  cli: CommandLine,
  name: string,
  node: string,
  state: 'created' | 'differs',
  why?: string,
) {
  const facts = { node, now: new Date(), state, ...(why === undefined ? {} : { why }) };
  return cli.write((draft) => {
    const stored = draft.get('NetworkDefinition', name) ?? assert.fail(name);
    reportNetwork(draft, stored, facts);
  });
}

test("docker's flags, each at the subnet that contains it, become one definition", async () => {
  using cli = await startCli();
  const { status, out } = await cli.run(
    words`network create all --wait 0 --subnet 10.1.0.0/16 --subnet 10.2.0.0/16 --subnet fd00:1::/64
      --gateway 10.2.0.1 --gateway 10.1.0.1 --ip-range 10.2.3.0/24 --aux-address a=10.1.0.9
      --aux-address b=10.2.0.9 --internal --label team=shop --label bare -o mtu=1400
      --opt label.role=db --ipam-opt pool=`,
  );
  assert.deepEqual([status, out.includes('host-2   away')], [0, true]);
  const { uid: _, createdAt: __, ...stored } = await definition(cli, 'all');
  const expected: Partial<NetworkDefinition> = {
    name: 'all',
    internal: true,
    ipv6: true,
    subnets: [],
    options: { mtu: '1400', 'label.role': 'db' },
    labels: { team: 'shop', bare: '' },
  };
  assert.deepEqual({ ...stored, subnets: [] }, expected);
  assert.deepEqual(JSON.parse(JSON.stringify(stored.subnets)), [
    { cidr: '10.1.0.0/16', gateway: '10.1.0.1', auxiliary: { a: '10.1.0.9' } },
    {
      cidr: '10.2.0.0/16',
      range: '10.2.3.0/24',
      gateway: '10.2.0.1',
      auxiliary: { b: '10.2.0.9' },
    },
    { cidr: 'fd00:1::/64' },
  ]);
});

for (const [flags, sentence] of [
  ['--subnet 10.1.0.0/16 --gateway 10.9.0.1', /--gateway 10\.9\.0\.1: no --subnet contains it/],
  ['--subnet 10.1.0.0/33', /--subnet 10\.1\.0\.0\/33/],
  ['--gateway 10.1.0.1', /no --subnet contains it/],
  ['--subnet 10.1.0.0/16 --subnet 10.1.0.0/16', /given twice/],
  ['--subnet 10.1.0.0/16 --gateway 10.1.0.1 --gateway 10.1.0.2', /has one/],
  ['--subnet 127.0.0.0/8', /127\.0\.0\.0\/8/],
  ['--namespace Shop', /network option "namespace=Shop": must be at most 63 lower-case letters/],
  ['--namespace a -o namespace=a', /namespace=a: namespace is given twice/],
  ['--namespace a -o org.projectcalico.namespace=a', /namespace is given twice/],
  ['-o bogus=1', /unknown network option "bogus"/],
  ['--ipam-opt color=red', /--ipam-opt color: only pool/],
  ['--label =x', /is not KEY=VALUE/],
  ['--wait soon', /must be a number of seconds/],
] as const) {
  test(`create ${flags} is rejected`, async () => {
    using cli = await startCli();
    const { status, error } = await cli.run(['network', 'create', 'bad', ...flags.split(' ')]);
    assert.notEqual(status, 0);
    assert.match(error, sentence);
    assert.equal(await cli.write((draft) => draft.get('NetworkDefinition', 'bad')), undefined);
  });
}

test('create, ls and inspect show the state of each host', async () => {
  using cli = await startCli();
  await cli.run(words`network create web --wait 0 --subnet 10.50.0.0/16`);
  await report(cli, 'web', 'host-1', 'created');
  await report(cli, 'web', 'host-2', 'differs', 'driver is bridge');
  const { status, out } = await cli.run(words`network create web --subnet 10.50.0.0/16`);
  assert.match(out, /^HOST +STATE\nhost-1 +created\nhost-2 +differs: driver is bridge\n$/);
  assert.equal(status, 1);
  assert.match(
    await cli.ok(words`network ls`),
    /\nweb +libnetwork +10\.50\.0\.0\/16 +1\/2 +host-2 differs: driver is bridge\n/,
  );
  await cli.ok(words`network create db --wait 0 --namespace shop`);
  await cli.ok(words`network create db --wait 0 -o namespace=shop`);
  assert.match(await cli.ok(words`network ls`), /\ndb +shop +0\/2 /);
  assert.match(await cli.ok(words`network inspect db`), /"options": {\n +"namespace": "shop"\n/);
  assert.match(
    await cli.ok(words`network inspect web`),
    /"name": "web"[^]*"host": "host-2"[^]*"why": "driver is bridge"/,
  );
  const missing = await cli.run(words`network inspect nothing`);
  assert.match(missing.error, /network definition nothing does not exist/);
});

test('create says which node a pool without encapsulation does not reach, and the mode that would work', async () => {
  using cli = await startCli();
  await cli.write((draft) =>
    draft.put('IPPool', 'flat', {
      kind: 'IPPool',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'flat' },
      spec: { cidr: parseCidr('10.60.0.0/16'), vxlanMode: 'Never' },
    }),
  );
  const create = words`network create flat --wait 0 --subnet 10.60.1.0/24`;
  assert.match(
    await cli.ok(create),
    /warning: IP pool flat has no encapsulation, and node host-2 .* outside .*\. Set vxlanMode of IP pool flat to CrossSubnet/,
  );
  // Routers that are told of it by BGP know the way.
  await cli.run(words`bgp enable`);
  assert.match(await cli.ok(create), /warning: IP pool flat/);
  await cli.run(words`bgp peer add 203.0.113.1 --as 65001`);
  assert.doesNotMatch(await cli.ok(create), /warning/);
  await cli.run(words`bgp disable`);
  assert.match(await cli.ok(create), /warning: IP pool flat/);
  await cli.write((draft) => {
    const pool = draft.get('IPPool', 'flat') ?? assert.fail();
    draft.put('IPPool', 'flat', { ...pool, spec: { ...pool.spec, vxlanMode: 'CrossSubnet' } });
  });
  assert.doesNotMatch(await cli.ok(create), /warning/);
});

test('rm names the hosts that still have the network', async () => {
  using cli = await startCli();
  await cli.run(words`network create web --wait 0 --subnet 10.50.0.0/16`);
  await report(cli, 'web', 'host-1', 'created');
  await report(cli, 'web', 'host-2', 'created');
  const { out } = await cli.run(words`network rm web --wait 0`);
  assert.match(out, /web: still on host-1, host-2; removed there when possible/);
  const removed = await definition(cli, 'web');
  for (const node of ['host-1', 'host-2']) {
    await cli.write((draft) => networkIsGone(draft, removed, node));
  }
  assert.doesNotMatch(await cli.ok(words`network ls`), /web/);
  const again = await cli.run(words`network rm web`);
  assert.deepEqual([again.status, /does not exist/.test(again.error)], [1, true]);
});

test('apply says that a policy selects nothing if no network is in its namespace', async () => {
  using cli = await startCli();
  const apply = async (namespace: string) => {
    const metadata = { name: 'p', namespace };
    const policy = {
      apiVersion: 'projectcalico.org/v3',
      kind: 'NetworkPolicy',
      metadata,
      spec: {},
    };
    const { out } = await cli.run(['apply', '-f', '-'], JSON.stringify(policy));
    return out.split('\n').find((line) => line.startsWith('note: '));
  };
  assert.equal(await apply('libnetwork'), undefined);
  assert.equal(
    await apply('shop'),
    'note: NetworkPolicy shop/p selects nothing: no network is in namespace shop, and networks that name none are in libnetwork',
  );
  await cli.ok(words`network create db --wait 0 --namespace shop`);
  assert.equal(await apply('shop'), undefined);
});

test('ports, get and delete find endpoints in the namespace of their network', async () => {
  using cli = await startCli();
  const network = { ...plainNetwork('host-1', 'n1'), name: 'web', options: { namespace: 'shop' } };
  await cli.write((draft) => {
    draft.put('DockerNetwork', 'host-1/n1', network);
    for (const [id, address] of [
      ['e1', '10.65.0.1'],
      ['e2', '10.65.0.2'],
    ] as const) {
      const published = { protocol: 'TCP', hostIp: anyAddress4, hostPort: 8080, port: 80 } as const;
      const endpoint = plainEndpoint(network, id, address);
      const ports = id === 'e1' ? [published] : [];
      draft.put(
        'WorkloadEndpoint',
        endpointEntryId('host-1', id, 'shop'),
        withPublishedPorts(endpoint, ports),
      );
    }
  });
  assert.match(await cli.ok(['ports']), /^endpoint e1 +0\.0\.0\.0:8080->80\/tcp$/m);
  const names = async (...argv: readonly string[]) =>
    (await cli.ok(['get', 'wep', ...argv])).match(/endpoint e\d/g) ?? [];
  assert.deepEqual(await names('-n', 'shop'), ['endpoint e1', 'endpoint e2']);
  assert.deepEqual(await names('-n', 'libnetwork'), []);
  await cli.ok(['delete', 'wep', `shop/${endpointName('host-1', 'e2')}`]);
  assert.deepEqual(await names('-A'), ['endpoint e1']);
});
