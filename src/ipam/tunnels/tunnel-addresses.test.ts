import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMirroredStore } from '../../cache/mirrored-store.fixture.ts';
import type { Draft } from '../../datastore/writer.ts';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr, parseNet } from '../../ip/cidr.ts';
import type { IpPool } from '../../model/kinds/ip-pool.ts';
import { describeAllocation, findAllocation } from '../records/allocation.ts';
import { checkIpam } from '../maintenance/report.ts';
import { findLeaks } from '../maintenance/reclaim.ts';
import { keepTunnelAddress, tunnelTypes } from './tunnel-addresses.ts';

const apiVersion = 'projectcalico.org/v3';
const signal = AbortSignal.timeout(600_000);
const node = 'host-a';
const now = new Date('2026-08-22T10:00:00Z');

function pool(name: string, cidr: string, spec: Omit<IpPool['spec'], 'cidr'> = {}): IpPool {
  const vxlanMode = 'Always';
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name },
    spec: { vxlanMode, ...spec, cidr: parseCidr(cidr) },
  };
}

async function lab(pools: readonly IpPool[]) {
  const store = await openMirroredStore();
  const write = async <Result>(plan: (draft: Draft) => Result): Promise<Result> =>
    (await store.writer.write(plan, signal)).result;
  await write((draft) => {
    for (const one of pools) draft.put('IPPool', one.metadata.name, one);
    for (const name of [node, 'host-b']) {
      const metadata = { name, labels: { rack: name } };
      draft.put('Node', name, { kind: 'Node', apiVersion, metadata, spec: {} });
    }
  });
  const keep = (on = node, family: 4 | 6 = 4) =>
    write((draft) => {
      const isForPool = (one: IpPool) => one.spec.vxlanMode !== 'Never';
      return keepTunnelAddress(draft, {
        node: on,
        tunnel: tunnelTypes[`vxlan${family}`],
        isForPool,
        now,
      });
    });
  const held = () =>
    write((draft) =>
      (['Block4', 'Block6'] as const).flatMap((kind) =>
        [...draft.entries(kind)].flatMap(([, block]) =>
          (block.attributes ?? []).map(({ handle_id: id, secondary }) => ({ id, secondary })),
        ),
      ),
    );
  const stored = () => write((draft) => draft.get('Node', node)?.spec ?? {});
  return { store, write, keep, held, stored };
}

test('the address, its handle and its attributes are as Calico writes them, and stay', async () => {
  const { store, keep, held, stored, write } = await lab([
    pool('four', '10.65.0.0/24'),
    pool('six', 'fd00:65::/112'),
  ]);
  await using _ = store;
  const [four, six] = [await keep(), await keep(node, 6)];
  assert.ok(four !== undefined && six !== undefined);
  assert.deepEqual(await stored(), { ipv4VXLANTunnelAddr: four, ipv6VXLANTunnelAddr: six });
  assert.deepEqual(await held(), [
    { id: 'vxlan-tunnel-addr-host-a', secondary: { node, type: 'vxlanTunnelAddress' } },
    { id: 'vxlan-v6-tunnel-addr-host-a', secondary: { node, type: 'vxlanV6TunnelAddress' } },
  ]);
  const { revision } = store.mirror;
  assert.equal(await keep(), four);
  assert.equal(store.mirror.revision, revision, 'nothing is written');
  assert.notEqual(await keep('host-b'), four);
  assert.deepEqual(checkIpam(store.mirror), [], 'no leak to ipam check');
  assert.deepEqual(await write((draft) => findLeaks(draft, node)), []);
  const holder = await write((draft) => findAllocation(draft, four)?.holder);
  assert.equal(
    describeAllocation(holder ?? assert.fail(), undefined),
    'a tunnel interface (vxlanTunnelAddress) on host host-a',
  );
});

test('the address of IP-in-IP is in spec.bgp of the Node, beside what is there, with handle and attributes of Calico', async () => {
  const { store, held, stored, write } = await lab([pool('four', '10.65.0.0/24')]);
  await using _ = store;
  const keep = (isForPool: (one: IpPool) => boolean) =>
    write((draft) => keepTunnelAddress(draft, { node, tunnel: tunnelTypes.ipip4, isForPool, now }));
  for (const bgp of [undefined, { ipv4Address: '192.0.2.1/24', asNumber: 64_512 }]) {
    await write((draft) => {
      const { spec: __, ...before } = draft.get('Node', node) ?? assert.fail();
      draft.put('Node', node, { ...before, spec: bgp === undefined ? {} : { bgp } });
    });
    const address = (await keep(() => true)) ?? assert.fail();
    assert.deepEqual(await stored(), { bgp: { ...bgp, ipv4IPIPTunnelAddr: address } });
    assert.deepEqual(await held(), [
      { id: 'ipip-tunnel-addr-host-a', secondary: { node, type: 'ipipTunnelAddress' } },
    ]);
    assert.equal(await keep(() => true), address);
    assert.deepEqual(checkIpam(store.mirror), [], 'no leak to ipam check');
    assert.equal(await keep(() => false), undefined);
    assert.deepEqual([await held(), await stored()], [[], bgp === undefined ? {} : { bgp }]);
  }
});

test('it is released when no pool needs it, with its handle', async () => {
  const { store, keep, held, stored, write } = await lab([pool('four', '10.65.0.0/24')]);
  await using _ = store;
  await keep();
  await write((draft) =>
    draft.put('IPPool', 'four', pool('four', '10.65.0.0/24', { vxlanMode: 'Never' })),
  );
  assert.equal(await keep(), undefined);
  assert.deepEqual([await held(), await stored()], [[], {}]);
  assert.deepEqual(checkIpam(store.mirror), []);
  const { revision } = store.mirror;
  assert.equal(await keep(), undefined);
  assert.equal(store.mirror.revision, revision);
});

test('an address that is outside the pools, not allocated, or of another user is replaced', async () => {
  const { store, keep, held, write } = await lab([pool('four', '10.65.0.0/24')]);
  await using _ = store;
  const first = await keep();
  await write((draft) => {
    draft.put('IPPool', 'four', pool('four', '10.65.0.0/24', { vxlanMode: 'Never' }));
    draft.put('IPPool', 'other', pool('other', '10.66.0.0/24'));
  });
  const second = await keep();
  assert.match(second ?? '', /^10\.66\./);
  assert.equal((await held()).length, 1, `${first} is released`);
  const setStored = (address: string) =>
    write((draft) => {
      const before = draft.get('Node', node) ?? assert.fail();
      const spec = { ...before.spec, ipv4VXLANTunnelAddr: address };
      draft.put('Node', node, { ...before, spec });
    });
  for (const wrong of ['10.66.0.77', 'nonsense', '192.0.2.1']) {
    await setStored(wrong);
    const third = await keep();
    assert.match(third ?? '', /^10\.66\.0\./);
    assert.notEqual(third, wrong);
    assert.equal((await held()).length, 1, 'the former one is released by its handle');
  }
  const ofOther = (await keep('host-b')) ?? assert.fail();
  await setStored(ofOther);
  assert.notEqual(await keep(), ofOther);
  const holder = await write((draft) => findAllocation(draft, parseAddress(ofOther))?.holder);
  assert.equal(holder?.secondary?.['node'], 'host-b', 'it stays with its owner');
  const inUse = (await keep()) ?? assert.fail();
  await write((draft) =>
    draft.put('WorkloadEndpoint', 'libnetwork/e', {
      kind: 'WorkloadEndpoint',
      apiVersion,
      metadata: { name: 'e', namespace: 'libnetwork' },
      spec: {
        node: 'host-b',
        orchestrator: 'libnetwork',
        endpoint: 'e',
        interfaceName: 'cali1',
        ipNetworks: [parseNet(`${inUse}/32`)],
      },
    }),
  );
  assert.notEqual(await keep(), inUse);
});

test('only enabled pools for tunnels that select the node are used, and reserved addresses are not', async () => {
  const { store, keep, write } = await lab([
    pool('disabled', '10.61.0.0/24', { disabled: true }),
    pool('for-workloads', '10.62.0.0/24', { allowedUses: ['Workload'] }),
    pool('elsewhere', '10.63.0.0/24', { nodeSelector: 'rack == "host-b"' }),
    pool('plain', '10.64.0.0/24', { vxlanMode: 'Never' }),
    pool('tunnels', '10.65.0.0/26', { allowedUses: ['Tunnel'] }),
  ]);
  await using _ = store;
  await write((draft) =>
    draft.put('IPReservation', 'r', {
      kind: 'IPReservation',
      apiVersion,
      metadata: { name: 'r' },
      spec: { reservedCIDRs: [parseNet('10.65.0.0/27')] },
    }),
  );
  const address = (await keep()) ?? assert.fail();
  assert.ok(Number(address.split('.')[3]) >= 32 && address.startsWith('10.65.0.'), address);
  await write((draft) =>
    draft.put('IPReservation', 'r', {
      kind: 'IPReservation',
      apiVersion,
      metadata: { name: 'r' },
      spec: { reservedCIDRs: [parseNet('10.65.0.0/26')] },
    }),
  );
  assert.equal(await keep(), address, 'one that it has already stays');
  assert.match((await keep('host-b')) ?? '', /^10\.63\./, 'its own pool');
});

test('pools without a free address are named', async () => {
  const { store, keep } = await lab([pool('tiny', '10.65.0.0/32', { blockSize: 32 })]);
  await using _ = store;
  assert.equal(await keep(), '10.65.0.0');
  await assert.rejects(keep('host-b'), /host-b.*tiny/);
});
