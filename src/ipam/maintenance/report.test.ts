import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import type { AllocationAttributes, Block } from '../../model/kinds/block.ts';
import { endpointAnnotations, endpointName } from '../../model/kinds/workload-endpoint.ts';
import { withIpam, type Lab, labNamespace } from '../ipam-lab.fixture.ts';
import { newBlock } from '../records/block.ts';
import { describeAllocation } from '../records/allocation.ts';
import {
  claimBlock,
  getBlock,
  assignInBlock,
  putBlock,
  release,
  removeBlock,
} from '../records/records.ts';
import { allocateInUse, recountHandles } from './repair.ts';
import { borrowedAddresses, checkIpam, poolUsage } from './report.ts';

const cidr = parseCidr('10.65.0.0/29');
const [first, second] = ['10.65.0.0', '10.65.0.1'].map(parseAddress);
const now = new Date('2026-08-22T10:00:00Z');

async function changeBlock(lab: Lab, change: (block: Block) => Block): Promise<void> {
  await lab.plan((draft) => putBlock(draft, change(getBlock(draft, cidr) ?? assert.fail())));
}

async function putEndpoint(
  lab: Lab,
  endpointId: string,
  address: string,
  more: {
    readonly node?: string;
    readonly container?: string;
    readonly orchestrator?: string;
  } = {},
): Promise<string> {
  const node = more.node ?? 'host-a';
  const name = endpointName(node, endpointId);
  const id = `${labNamespace}/${name}`;
  const { container } = more;
  await lab.plan((draft) =>
    draft.put('WorkloadEndpoint', id, {
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: {
        name,
        namespace: labNamespace,
        annotations: { [endpointAnnotations.network]: 'net1' },
      },
      spec: {
        node,
        endpoint: endpointId,
        interfaceName: 'cali0',
        orchestrator: more.orchestrator ?? 'libnetwork',
        ipNetworks: [parseNet(`${address}/32`)],
        ...(container === undefined ? {} : { workload: container, containerID: 'c'.repeat(64) }),
      },
    }),
  );
  return id;
}

/** A block of host-a with one address, used by `e1`. */
async function withBlock(
  use: (lab: Lab, holder: AllocationAttributes) => Promise<void>,
): Promise<void> {
  await withIpam(async (lab) => {
    const holder = { handle_id: 'h1', secondary: { node: 'host-a', pool: 'n0', endpoint: 'e1' } };
    await lab.plan((draft) => {
      const block = claimBlock(draft, { cidr, host: 'host-a', now });
      assignInBlock(draft, block, { address: first ?? assert.fail(), holder });
    });
    await putEndpoint(lab, 'e1', '10.65.0.0');
    assert.deepEqual(checkIpam(lab.mirror), []);
    await use(lab, holder);
  });
}

test('a claimed block names its host and claim time; a block without affinity keeps its allocations', () =>
  withBlock(async (lab) => {
    const stored = () => lab.mirror.get('Block4', cidr)?.value ?? assert.fail();
    const { affinity, affinity_claim_time: since, sequenceNumber } = stored();
    assert.deepEqual([affinity, since], ['host:host-a', '2026-08-22T10:00:00Z']);
    const later = new Date('2026-08-23T10:00:00Z');
    await lab.plan((draft) => {
      draft.remove('Affinity4', `host-a/${cidr}`);
      claimBlock(draft, { cidr, host: 'host-b', now: later });
    });
    const taken = stored();
    assert.deepEqual(
      [taken.affinity, taken.affinity_claim_time, taken.sequenceNumber, taken.allocations[0]],
      ['host:host-b', '2026-08-23T10:00:00Z', (sequenceNumber ?? 0n) + 1n, 0],
    );
    assert.deepEqual(
      [...lab.mirror.list('Affinity4').entries()].map(([id, { value }]) => [id, value]),
      [[`host-b/${cidr}`, { state: 'confirmed', deleted: false }]],
    );
  }));

test('a handle counts the addresses of each block and is deleted with the last; so is a block without affinity', () =>
  withIpam(async (lab) => {
    const other = parseCidr('10.65.0.8/29');
    const held = (address: string) => ({
      address: parseAddress(address),
      holder: { handle_id: 'h', secondary: { node: 'host-a' } },
    });
    const change = (cidrOf: typeof cidr, how: typeof assignInBlock, address: string) =>
      lab.plan((draft) => how(draft, getBlock(draft, cidrOf) ?? assert.fail(), held(address)));
    await lab.plan((draft) => {
      for (const one of [cidr, other]) claimBlock(draft, { cidr: one, host: 'host-a', now });
    });
    await change(cidr, assignInBlock, '10.65.0.1');
    await change(cidr, assignInBlock, '10.65.0.2');
    await change(other, assignInBlock, '10.65.0.9');
    const counts = () => lab.mirror.get('Handle', 'h')?.value;
    assert.deepEqual(counts(), { block: { [cidr]: 2, [other]: 1 }, deleted: false });
    await change(cidr, release, '10.65.0.1');
    assert.deepEqual(counts()?.block, { [cidr]: 1, [other]: 1 });
    await change(cidr, release, '10.65.0.2');
    assert.deepEqual(counts()?.block, { [other]: 1 });
    assert.ok(lab.mirror.get('Block4', cidr), 'an empty block stays with its host');
    await lab.plan((draft) => {
      const {
        affinity: _,
        affinity_claim_time: _since,
        ...nobodys
      } = getBlock(draft, other) ?? assert.fail();
      putBlock(draft, nobodys);
    });
    await change(other, release, '10.65.0.9');
    assert.equal(counts(), undefined);
    assert.equal(lab.mirror.get('Block4', other), undefined, 'a block without a host is removed');
    // An allocation without a handle is not counted.
    await lab.plan((draft) => {
      const block = getBlock(draft, cidr) ?? assert.fail();
      assignInBlock(draft, block, { address: parseAddress('10.65.0.3'), holder: {} });
    });
    assert.equal(lab.mirror.list('Handle').size, 0);
    await lab.plan((draft) => {
      const block = getBlock(draft, cidr) ?? assert.fail();
      release(draft, block, { address: parseAddress('10.65.0.3'), holder: {} });
    });
    await change(cidr, assignInBlock, '10.65.0.1');
    await lab.plan((draft) => {
      draft.put('Handle', 'h', { block: { [cidr]: 1, '10.65.0.16/29': 3 }, deleted: false });
      removeBlock(draft, getBlock(draft, cidr) ?? assert.fail());
    });
    assert.deepEqual(counts()?.block, { '10.65.0.16/29': 3 });
    assert.equal(lab.mirror.list('Affinity4').has(`host-a/${cidr}`), false);
  }));

test('every inconsistency is reported in one sentence with the command that fixes it', () =>
  withBlock(async (lab) => {
    const problems = async (change: () => Promise<unknown>) => {
      const before = await lab.plan((draft) => getBlock(draft, cidr) ?? assert.fail());
      await change();
      const found = checkIpam(lab.mirror);
      await changeBlock(lab, () => before);
      return found;
    };
    const free = (block: Block) => block.unallocated ?? [];
    assert.deepEqual(
      await problems(() => changeBlock(lab, (b) => ({ ...b, unallocated: [...free(b), 3] }))),
      ['block 10.65.0.0/29 lists a free address twice'],
    );
    assert.deepEqual(
      await problems(() => changeBlock(lab, (b) => ({ ...b, unallocated: [...free(b), 0] }))),
      ['block 10.65.0.0/29: address 0 is both free and in use, or neither'],
    );
    assert.deepEqual(
      await problems(() => changeBlock(lab, (b) => ({ ...b, unallocated: free(b).slice(1) }))),
      ['block 10.65.0.0/29: address 1 is both free and in use, or neither'],
    );
    assert.deepEqual(
      await problems(() =>
        changeBlock(lab, (b) => ({ ...b, allocations: b.allocations.with(0, 7) })),
      ),
      [
        'block 10.65.0.0/29: address 0 has no attributes',
        'handle h1 counts 1 address; 0 are allocated',
      ],
    );
    await lab.plan((draft) => draft.put('Handle', 'h1', { block: { [cidr]: 3 }, deleted: false }));
    assert.deepEqual(checkIpam(lab.mirror), ['handle h1 counts 3 addresses; 1 is allocated']);
    await lab.plan((draft) => draft.remove('Handle', 'h1'));
    assert.deepEqual(checkIpam(lab.mirror), [
      'handle h1 does not exist, but addresses are allocated to it',
    ]);
    assert.deepEqual(await lab.plan(recountHandles), ['h1']);
    assert.deepEqual(checkIpam(lab.mirror), []);
    const twice = await putEndpoint(lab, 'e2', '10.65.0.0', { node: 'host-b', container: 'app' });
    assert.deepEqual(checkIpam(lab.mirror), [
      '10.65.0.0 is used by endpoint e1 on host host-a and by container app, endpoint e2 on host host-b',
    ]);
    await lab.plan((draft) => draft.remove('WorkloadEndpoint', twice));
    await lab.disconnect('host-a', 'e1');
    const lost =
      '10.65.0.0 is allocated (h1) but not used by an endpoint; release it: calico-cnm ipam release 10.65.0.0';
    assert.deepEqual(checkIpam(lab.mirror), [lost]);
    const shared = await problems(() =>
      changeBlock(lab, (b) => ({
        ...b,
        attributes: [{ handle_id: 'h1', secondary: { swarm: 'host-a/n0' } }],
      })),
    );
    assert.deepEqual(shared, []);
    const old = await problems(() => changeBlock(lab, (b) => ({ ...b, attributes: [{}] })));
    assert.match(old[0] ?? '', /allocated \(no handle\) but/);
    await putEndpoint(lab, 'e1', '10.65.0.0');
    await putEndpoint(lab, 'e3', '10.65.0.9');
    await putEndpoint(lab, 'e4', '10.77.0.9');
    assert.deepEqual(checkIpam(lab.mirror).toSorted(), [
      '10.65.0.9 is used by endpoint e3 on host host-a but not allocated; allocate it: calico-cnm ipam check --fix',
      '10.77.0.9 is used by endpoint e4 on host host-a but not in an enabled IP pool',
    ]);
  }));

test('usage lists each pool and block, and borrowed addresses', () =>
  withBlock(async (lab) => {
    await lab.plan((draft) => {
      const block = getBlock(draft, cidr) ?? assert.fail();
      const holder = { handle_id: 'h2', secondary: { node: 'host-b', pool: 'n1' } };
      assignInBlock(draft, block, { address: second ?? assert.fail(), holder });
      putBlock(draft, newBlock(parseCidr('10.65.0.8/29'), 'host-b', now));
      const pool = draft.get('IPPool', 'default-ipv4-ippool') ?? assert.fail();
      const spec = { ...pool.spec, cidr: parseCidr('10.64.0.0/24') };
      draft.put('IPPool', 'a-first', { ...pool, metadata: { name: 'a-first' }, spec });
    });
    const usage = poolUsage(lab.mirror).map(({ name, total, used, free, blocks }) => [
      name,
      total,
      used,
      free,
      blocks.map((one) => `${one.cidr} ${one.host} ${one.used}/${one.total} ${one.free}`),
    ]);
    assert.deepEqual(usage, [
      ['a-first', 256n, 0n, 256n, []],
      [
        'default-ipv4-ippool',
        64n,
        2n,
        62n,
        ['10.65.0.0/29 host-a 2/8 6', '10.65.0.8/29 host-b 0/8 8'],
      ],
    ]);
    assert.deepEqual(borrowedAddresses(lab.mirror), [
      { address: '10.65.0.1', borrower: 'host-b', block: '10.65.0.0/29', owner: 'host-a' },
    ]);
  }));

test('only unallocated addresses used by Docker are allocated again, with the attributes of their endpoints', () =>
  withBlock(async (lab) => {
    const poolId = 'calico;v=4;id=n7';
    await lab.plan((draft) =>
      draft.put('DockerNetwork', 'host-a/net1', {
        id: 'net1',
        node: 'host-a',
        name: 'web',
        ipam: 'calico',
        internal: false,
        ipv4: true,
        ipv6: false,
        subnets: [{ family: 4, cidr: parseCidr('0.0.0.0/0'), poolId }],
        options: {},
      }),
    );
    const ids = [
      await putEndpoint(lab, 'e1', '10.65.0.0'),
      await putEndpoint(lab, 'e2', '10.65.0.9'),
      await putEndpoint(lab, 'e3', '10.65.0.10', { orchestrator: 'k8s' }),
      await putEndpoint(lab, 'e4', '10.77.0.1'),
      'libnetwork/none',
    ];
    const repaired = await lab.plan((draft) => allocateInUse(draft, { endpointIds: ids, now }));
    assert.deepEqual(repaired, ['10.65.0.9']);
    assert.deepEqual(await lab.holder('10.65.0.9'), {
      handle_id: 'docker.host-a.10-65-0-9',
      secondary: {
        node: 'host-a',
        pool: 'n7',
        endpoint: 'e2',
        network: 'net1',
        networkName: 'web',
      },
    });
    const many: string[] = [];
    for (let n = 16; n < 28; n++) many.push(await putEndpoint(lab, `m${n}`, `10.65.0.${n}`));
    const heal = () => lab.plan((draft) => allocateInUse(draft, { endpointIds: many, now }));
    assert.equal((await heal()).length, 8, 'a transaction holds so many');
    assert.equal((await heal()).length, 4);
    assert.equal((await heal()).length, 0);
    // A block of another size that is in use prevents it; an empty one is replaced.
    await lab.plan((draft) => {
      const wide = claimBlock(draft, { cidr: parseCidr('10.65.0.32/28'), host: 'host-b', now });
      assignInBlock(draft, wide, {
        address: parseAddress('10.65.0.33'),
        holder: { handle_id: 'x' },
      });
    });
    const within = await putEndpoint(lab, 'w', '10.65.0.34');
    const one = { endpointIds: [within], now };
    assert.deepEqual(await lab.plan((draft) => allocateInUse(draft, one)), ['10.65.0.34']);
  }));

test('a holder is described by the record that knows most about it', () => {
  const container = {
    kind: 'WorkloadEndpoint' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 'x' },
    spec: {
      node: 'host-b',
      endpoint: 'f'.repeat(64),
      interfaceName: 'cali0',
      orchestrator: 'libnetwork',
      workload: 'app',
      containerID: 'c'.repeat(64),
    },
  };
  const { workload: _, ...unnamed } = container.spec;
  const node = 'host-a';
  const cases: readonly (readonly [
    Readonly<Record<string, string>>,
    Parameters<typeof describeAllocation>[1],
    string,
  ])[] = [
    [{ node, pod: 'p', namespace: 'ns' }, undefined, 'pod ns/p on host host-a'],
    [{ pod: 'p' }, undefined, 'pod /p'],
    [{ node, type: 'gateway' }, undefined, 'the network as its gateway address on host host-a'],
    [
      { node, container: 'c1', networkName: 'web' },
      undefined,
      'container c1 of network web on host host-a',
    ],
    [{ node, container: 'c1' }, container, 'container app on host host-a'],
    [{}, container, 'container app on host host-b'],
    [
      { node, network: '0123456789abcdef', endpoint: 'e'.repeat(20) },
      undefined,
      'endpoint eeeeeeeeeeee of network 0123456789ab on host host-a',
    ],
    [
      {},
      { ...container, spec: { ...unnamed, containerID: '' } },
      'endpoint ffffffffffff on host host-b',
    ],
    [{ swarm: 'host-a/n0' }, undefined, 'a task or service of the swarm'],
    [{ node }, undefined, 'h1 on host host-a'],
  ];
  for (const [secondary, user, text] of cases) {
    assert.equal(describeAllocation({ handle_id: 'h1', secondary }, user), text);
  }
  assert.equal(describeAllocation({}, undefined), 'an unknown owner');
});
