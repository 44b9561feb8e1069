import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GroupWriter } from '../cache/group-writer.ts';
import { UncachedView } from '../cache/uncached-view.ts';
import { listAll, type Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import type { Draft } from '../datastore/writer.ts';
import { parseAddress } from '../ip/address.ts';
import { hostCidr, parseCidr } from '../ip/cidr.ts';
import { formatPoolId } from '../ipam/docker/pool-id.ts';
import { allocationOf, newBlock } from '../ipam/records/block.ts';
import { assignInBlock, claimBlock, getBlock, putBlock } from '../ipam/records/records.ts';
import type { AllocationAttributes } from '../model/kinds/block.ts';
import { lastReportId, liveReportId } from '../model/kinds/node-report.ts';
import { endpointAddresses, endpointName } from '../model/kinds/workload-endpoint.ts';
import { deleteNode, type DeletionStore } from './delete-node.ts';

const signal = AbortSignal.timeout(600_000);
const apiVersion = 'projectcalico.org/v3';
const now = new Date('2026-11-24T11:32:11Z');
const report = { time: now.toISOString(), uptime: 0, first_update: true };

/** The node to delete, and others whose names begin like it. */
const [gone, ...others] = ['gone', 'gone-b', 'gonez', 'other'] as const;
/** The name of the node in any key or value, and not those of the others. */
const nameOfGone = /\bgone\b(?!--?b)/;

async function withCluster(
  use: (cluster: {
    readonly datastore: Datastore;
    readonly store: DeletionStore;
    readonly dump: () => Promise<ReadonlyMap<string, string>>;
  }) => Promise<void>,
): Promise<void> {
  const datastore = await openSqliteStore(':memory:');
  const writer = new GroupWriter(new UncachedView(datastore));
  const store: DeletionStore = {
    look: (look) => writer.view.look(() => look(writer.view), signal),
    write: async (plan) => (await writer.write(plan, signal)).result,
  };
  const nodes = [gone, ...others];
  for (const [index, node] of nodes.entries())
    await store.write((draft) => put(draft, node, index));
  await store.write((draft) => putShared(draft, nodes));
  const dump = async () => {
    const { items } = await listAll(datastore, '/calico/', signal);
    await writer.view.forget();
    return new Map(items.map(({ key, value }) => [key, value]));
  };
  try {
    await use({ datastore, store, dump });
  } finally {
    await datastore.close();
  }
}

/** A node with everything that may belong to it. */
function put(draft: Draft, node: string, index: number): void {
  const metadata = (name: string) => ({ name });
  draft.put('Node', node, { kind: 'Node', apiVersion, metadata: metadata(node), spec: {} });
  draft.put('NodeReport', lastReportId(node), report);
  const block = (part: number) => parseCidr(`10.65.${index}.${part * 64}/26`);
  for (const part of [0, 1, 2]) claimBlock(draft, { cidr: block(part), host: node, now });
  draft.put('Affinity4', `${node}/10.99.${index}.0/26`, { state: 'pending', deleted: false });
  const nonce = `n${index}`;
  for (const [number, last] of [1, 2, 65].entries()) {
    const address = parseAddress(`10.65.${index}.${last}`);
    const endpoint = `e${number}`;
    const name = endpointName(node, endpoint);
    draft.put('WorkloadEndpoint', `libnetwork/${name}`, {
      kind: 'WorkloadEndpoint',
      apiVersion,
      metadata: { name, namespace: 'libnetwork' },
      spec: {
        orchestrator: 'libnetwork',
        node,
        endpoint,
        interfaceName: `cali${endpoint}`,
        ipNetworks: [hostCidr(address)],
        ...(number === 0 ? { allowSpoofedSourcePrefixes: [parseCidr(`10.70.${index}.0/24`)] } : {}),
      },
    });
    // libnetwork-plugin wrote neither handle nor attributes.
    const secondary = { node, pool: nonce, network: 'web', endpoint };
    const handle = `docker.${node}.10-65-${index}-${last}`;
    hold(draft, address, number === 2 ? {} : { handle_id: handle, secondary });
  }
  for (const [number, kind] of ['ipip', 'vxlan', 'wireguard'].entries()) {
    hold(draft, `10.65.${index}.${130 + number}`, {
      handle_id: `${kind}-tunnel-addr-${node}`,
      // Calico 2 wrote no attributes.
      ...(kind === 'ipip' ? {} : { secondary: { node, type: `${kind}TunnelAddress` } }),
    });
  }
  draft.put('DockerNetwork', `${node}/web`, {
    id: 'web',
    node,
    ipam: 'calico',
    internal: false,
    ipv4: true,
    ipv6: false,
    subnets: [],
    options: {},
  });
  draft.put('DockerPool', `${node}/${nonce}`, {
    poolId: formatPoolId({ family: 4, nonce }),
    node,
    family: 4,
    createdAt: report.time,
  });
  draft.put('HostEndpoint', `${node}-eth0`, {
    kind: 'HostEndpoint',
    apiVersion,
    metadata: metadata(`${node}-eth0`),
    spec: { node, interfaceName: 'eth0' },
  });
  draft.put('BGPPeer', `${node}-peer`, {
    kind: 'BGPPeer',
    apiVersion,
    metadata: metadata(`${node}-peer`),
    spec: { node, peerIP: '192.0.2.1', asNumber: 64_512 },
  });
  for (const kind of ['FelixConfiguration', 'BGPConfiguration'] as const) {
    draft.put(kind, `node.${node}`, {
      kind,
      apiVersion,
      metadata: metadata(`node.${node}`),
      spec: {},
    });
  }
}

/** Blocks with addresses of several nodes. */
function putShared(draft: Draft, nodes: readonly string[]): void {
  putBlock(draft, newBlock(parseCidr('10.66.0.0/26'), gone, now));
  draft.put('Affinity4', `${gone}/10.66.0.0/26`, { state: 'confirmed', deleted: false });
  putBlock(draft, newBlock(parseCidr('10.66.0.64/26'), 'other', now));
  draft.put('Affinity4', 'other/10.66.0.64/26', { state: 'confirmed', deleted: false });
  for (const [index, node] of nodes.entries()) {
    for (const part of [0, 64]) {
      const address = `10.66.0.${part + 1 + index}`;
      const secondary = { node, pool: `n${index}`, endpoint: 'borrowed' };
      hold(draft, address, { handle_id: `docker.${node}.borrowed${part}`, secondary });
    }
  }
  const all = nodes.map((node, index) => `${node}/n${index}`);
  hold(draft, '10.66.0.20', {
    handle_id: 'docker.shared.10-66-0-20',
    secondary: { node: gone, pool: 'n0', type: 'gateway', holders: all.join(',') },
  });
  hold(draft, '10.66.0.21', { secondary: { swarm: all.join(',') } });
  hold(draft, '10.66.0.22', { secondary: { swarm: `${gone}/n0` } });
  hold(draft, '10.66.0.23', {
    handle_id: 'docker.other.23',
    secondary: { node: 'other', pool: 'n3', swarm: `${gone}/n0` },
  });
  hold(draft, '10.66.0.24', {
    handle_id: 'docker.gone.24',
    secondary: { node: gone, pool: 'n0', type: 'gateway', holders: `swarm:${gone}/n0` },
  });
}

function hold(draft: Draft, text: string, holder: AllocationAttributes): void {
  const address = parseAddress(text);
  const last = Number(text.split('.')[3]);
  const cidr = parseCidr(`${text.split('.').slice(0, 3).join('.')}.${last - (last % 64)}/26`);
  const block = getBlock(draft, cidr);
  if (block !== undefined) assignInBlock(draft, block, { address, holder });
}

const lines: string[] = [];
const deleted = (store: DeletionStore, node: string = gone) =>
  deleteNode(store, { node, isForced: false, now }, (line) => lines.push(line));

/** Returns what the deletion of the node leaves of the others: allocations, and values that are not blocks. */
async function ofOthers(
  store: DeletionStore,
  dump: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, unknown>> {
  const values = [...dump].filter(
    ([key, value]) => !/\/block\//.test(key) && !nameOfGone.test(key + value),
  );
  const held = await store.look((view) =>
    [...view.list('Block4').values()].flatMap(({ value: block }) =>
      block.allocations.flatMap((_, ordinal) => {
        const address = parseAddress(
          block.cidr.replace(
            /\d+\/26$/,
            String(Number(/(\d+)\/26$/.exec(block.cidr)?.[1]) + ordinal),
          ),
        );
        const holder = allocationOf(block, address);
        const isOthers = holder !== undefined && !nameOfGone.test(JSON.stringify(holder));
        const isPlain = isOthers && holder.secondary?.['node'] !== undefined;
        return isPlain && holder.secondary?.['holders'] === undefined
          ? [[address, holder] as const]
          : [];
      }),
    ),
  );
  return new Map<string, unknown>([...values, ...held]);
}

test('nothing of a deleted node is left, and nothing of others is touched', () =>
  withCluster(async ({ store, dump }) => {
    const before = await ofOthers(store, await dump());
    lines.length = 0;
    await deleted(store);
    const after = await dump();
    for (const [key, value] of after) assert.doesNotMatch(`${key} ${value}`, nameOfGone);
    const left = await ofOthers(store, after);
    for (const [what, value] of before) assert.deepEqual(left.get(what), value, what);
    const block = await store.look((view) => view.get('Block4', '10.66.0.0/26')?.value);
    assert.equal(block?.affinity, null);
    const holders = allocationOf(block ?? assert.fail(), parseAddress('10.66.0.20'));
    assert.deepEqual(holders?.secondary, {
      node: 'gone-b',
      pool: 'n0',
      type: 'gateway',
      holders: 'gone-b/n1,gonez/n2,other/n3',
    });
    const claimed = allocationOf(block ?? assert.fail(), parseAddress('10.66.0.21'));
    assert.deepEqual(claimed?.secondary, { swarm: 'gone-b/n1,gonez/n2,other/n3' });
    assert.equal(allocationOf(block ?? assert.fail(), parseAddress('10.66.0.22')), undefined);
    assert.ok(lines.includes('endpoints: 3 of 3 deleted'), lines.join('\n'));
    await assert.rejects(deleted(store), { code: 'datastore/not-found' });
  }));

test('a deletion killed after any transaction is finished by the next, and no address in use is free in between', async () => {
  let steps = 1;
  for (let after = 1; after <= steps; after++) {
    await withCluster(async ({ store, dump }) => {
      let written = 0;
      const killed: DeletionStore = {
        ...store,
        write: (plan) => {
          if (written >= after) return Promise.reject(new Error('killed'));
          written++;
          return store.write(plan);
        },
      };
      await deleted(killed).then(
        () => undefined,
        (error: unknown) => {
          assert.match(String(error), /killed/);
          steps = after + 1;
        },
      );
      await dump();
      await store.look((view) => {
        for (const { value } of view.list('WorkloadEndpoint').values()) {
          for (const address of endpointAddresses(value)) {
            const blocks = [...view.list('Block4').values()];
            const isHeld = blocks.some(
              ({ value: block }) =>
                address.startsWith(block.cidr.split('.').slice(0, 3).join('.')) &&
                allocationOf(block, address) !== undefined,
            );
            assert.ok(isHeld, `${address} of ${value.metadata.name} after ${after} steps`);
          }
        }
      });
      if (steps === after) return;
      await deleted(store);
      for (const [key, value] of await dump()) assert.doesNotMatch(`${key} ${value}`, nameOfGone);
    });
  }
  assert.ok(steps > 8, `${steps} steps`);
});

test('a node that runs, or may run, is deleted only by force', () =>
  withCluster(async ({ store, dump }) => {
    await store.write((draft) => draft.put('NodeReport', liveReportId(gone), report));
    const before = await dump();
    await assert.rejects(deleted(store), {
      code: 'node/runs',
      message: /node gone is running \(since 2026-11-24T11:32:11\.000Z\); stop its daemon first/,
    });
    await store.write((draft) => {
      draft.remove('NodeReport', liveReportId(gone));
      draft.remove('NodeReport', lastReportId(gone));
    });
    await assert.rejects(deleted(store), { code: 'node/may-run' });
    assert.equal((await dump()).size, before.size - 2);
    await deleteNode(store, { node: gone, isForced: true, now }, () => undefined);
    assert.equal(
      (await dump()).get('/calico/resources/v3/projectcalico.org/nodes/gone'),
      undefined,
    );
  }));

test('a daemon that starts when its node is just being deleted wins, or finds the mark', () =>
  withCluster(async ({ store }) => {
    let isStarted = false;
    const racing: DeletionStore = {
      ...store,
      write: async (plan) => {
        if (!isStarted) {
          isStarted = true;
          await store.write((draft) => draft.put('NodeReport', liveReportId(gone), report));
        }
        return store.write(plan);
      },
    };
    await assert.rejects(deleted(racing), { code: 'node/runs' });
  }));
