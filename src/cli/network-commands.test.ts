import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { networkIsGone, reportNetwork } from '../driver/networks/definition-plans.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { NetworkDefinition } from '../model/kinds/network-definition.ts';
import { startCommandLine, type CommandLine } from './command-line.fixture.ts';
import { words } from '../../test/lab/words.ts';

let cli: CommandLine;
before(async () => {
  cli = startCommandLine({ NODENAME: 'host-1' });
  await cli.write((draft) => {
    for (const [name, ipv4Address] of [
      ['host-1', '192.0.2.1/24'],
      ['host-2', '198.51.100.2/24'],
    ] as const) {
      draft.put('Node', name, {
        kind: 'Node',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name },
        spec: { bgp: { ipv4Address } },
      });
    }
  });
});
after(() => cli[Symbol.dispose]());

const definition = (name: string) =>
  cli.write((draft) => draft.get('NetworkDefinition', name) ?? assert.fail(`no ${name}`));

function report(name: string, node: string, state: 'created' | 'differs', why?: string) {
  const facts = { node, now: new Date(), state, ...(why === undefined ? {} : { why }) };
  return cli.write((draft) => {
    const stored = draft.get('NetworkDefinition', name) ?? assert.fail(name);
    reportNetwork(draft, stored, facts);
  });
}

test("docker's flags, each at the subnet that contains it, become one definition", async () => {
  const { status, out } = await cli.run(
    words`network create all --wait 0 --subnet 10.1.0.0/16 --subnet 10.2.0.0/16 --subnet fd00:1::/64
      --gateway 10.2.0.1 --gateway 10.1.0.1 --ip-range 10.2.3.0/24 --aux-address a=10.1.0.9
      --aux-address b=10.2.0.9 --internal --label team=shop --label bare -o mtu=1400
      --opt label.role=db --ipam-opt pool=`,
  );
  assert.deepEqual([status, out.includes('host-2   away')], [0, true]);
  const { uid: _, createdAt: __, ...stored } = await definition('all');
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
  ['-o bogus=1', /unknown network option "bogus"/],
  ['--ipam-opt color=red', /--ipam-opt color: only pool/],
  ['--label =x', /is not KEY=VALUE/],
  ['--wait soon', /must be a number of seconds/],
] as const) {
  test(`create ${flags} is rejected`, async () => {
    const { status, error } = await cli.run(['network', 'create', 'bad', ...flags.split(' ')]);
    assert.notEqual(status, 0);
    assert.match(error, sentence);
    assert.equal(await cli.write((draft) => draft.get('NetworkDefinition', 'bad')), undefined);
  });
}

test('create, ls and inspect show the state of each host', async () => {
  await cli.run(words`network create web --wait 0 --subnet 10.50.0.0/16`);
  await report('web', 'host-1', 'created');
  await report('web', 'host-2', 'differs', 'driver is bridge');
  const { status, out } = await cli.run(words`network create web --subnet 10.50.0.0/16`);
  assert.match(out, /^HOST +STATE\nhost-1 +created\nhost-2 +differs: driver is bridge\n$/);
  assert.equal(status, 1);
  assert.match(
    await cli.ok(words`network ls`),
    /\nweb +10\.50\.0\.0\/16 +1\/2 +host-2 differs: driver is bridge\n/,
  );
  assert.match(
    await cli.ok(words`network inspect web`),
    /"name": "web"[^]*"host": "host-2"[^]*"why": "driver is bridge"/,
  );
  const missing = await cli.run(words`network inspect nothing`);
  assert.match(missing.error, /network definition nothing does not exist/);
});

test('create says which node a pool without encapsulation does not reach, and the mode that would work', async () => {
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
  await cli.write((draft) => {
    const pool = draft.get('IPPool', 'flat') ?? assert.fail();
    draft.put('IPPool', 'flat', { ...pool, spec: { ...pool.spec, vxlanMode: 'CrossSubnet' } });
  });
  assert.doesNotMatch(await cli.ok(create), /warning/);
});

test('rm names the hosts that still have the network', async () => {
  const { out } = await cli.run(words`network rm web --wait 0`);
  assert.match(out, /web: still on host-1, host-2; removed there when possible/);
  const removed = await definition('web');
  for (const node of ['host-1', 'host-2']) {
    await cli.write((draft) => networkIsGone(draft, removed, node));
  }
  assert.doesNotMatch(await cli.ok(words`network ls`), /web/);
  const again = await cli.run(words`network rm web`);
  assert.deepEqual([again.status, /does not exist/.test(again.error)], [1, true]);
});
