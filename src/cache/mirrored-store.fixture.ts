import { inBackground } from '../async/background.fixture.ts';
import type { Datastore } from '../datastore/datastore.ts';
import { parseCidr, type Cidr } from '../ip/cidr.ts';
import type { Block } from '../model/kinds/block.ts';
import { entryTypes } from '../model/kinds/index.ts';
import type { WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { GroupWriter } from './group-writer.ts';
import { fullScope, nodeScope } from './cache-scope.ts';
import { LiveMirror } from './live-mirror.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';

/** A mirror that follows a datastore until it is disposed of. */
export interface Followed extends AsyncDisposable {
  readonly mirror: LiveMirror;
}

/** Follows a datastore and resolves when the mirror is in sync; disposal closes the datastore. */
export async function followed(
  store: Datastore,
  waitMs?: number,
  scope = fullScope,
): Promise<Followed> {
  const mirror = new LiveMirror(store, undefined, undefined, waitMs, scope);
  const running = inBackground((signal) => mirror.run(signal));
  await mirror.reached(0n, AbortSignal.timeout(600_000));
  return {
    mirror,
    [Symbol.asyncDispose]: async () => {
      await running.stop();
      await store.close();
    },
  };
}

/** An empty datastore in memory with a mirror that follows it until it is disposed of. */
export interface MirroredStore extends Followed {
  readonly writer: GroupWriter;
  /** Below the mirror: it accepts values of any form. */
  readonly datastore: Datastore;
}

/**
 * Opens an empty datastore in memory and resolves when its mirror is in sync. `seen` wraps the datastore; `waitMs` is
 * how long the mirror and the writer wait for the watch.
 */
export async function openMirroredStore(
  seen: (store: Datastore) => Datastore = (store) => store,
  waitMs?: number,
): Promise<MirroredStore> {
  const datastore = seen(await openSqliteStore(':memory:'));
  const following = await followed(datastore, waitMs);
  return {
    datastore,
    mirror: following.mirror,
    writer: new GroupWriter(following.mirror, waitMs),
    [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
  };
}

/**
 * Opens a datastore in memory that is cached as in the daemon of a node. Another host has an endpoint, blocks and
 * handles in it: reading more of them than the cache has throws `MustRead`. Use it to test daemon code that reads
 * outside of plans.
 */
export async function openNodeStore(node: string): Promise<MirroredStore> {
  const store = await openSqliteStore(':memory:');
  const { WorkloadEndpoint, Block4, Block6, Handle } = entryTypes;
  const [cidr4, cidr6] = [parseCidr('10.255.255.192/26'), parseCidr('fdff:ffff::/122')];
  const writes = [
    { key: WorkloadEndpoint.key(elsewhereId), value: WorkloadEndpoint.encode(endpointElsewhere) },
    { key: Block4.key(cidr4), value: Block4.encode(blockElsewhere(cidr4)) },
    { key: Block6.key(cidr6), value: Block6.encode(blockElsewhere(cidr6)) },
    { key: Handle.key('elsewhere'), value: Handle.encode({ block: { [cidr4]: 1, [cidr6]: 1 } }) },
  ];
  await store.commit({ compares: [], writes }, AbortSignal.timeout(600_000));
  const following = await followed(store, undefined, nodeScope(node));
  return {
    datastore: store,
    mirror: following.mirror,
    writer: new GroupWriter(following.mirror),
    [Symbol.asyncDispose]: () => following[Symbol.asyncDispose](),
  };
}

const elsewhereId = 'libnetwork/elsewhere';

const endpointElsewhere: WorkloadEndpoint = {
  kind: 'WorkloadEndpoint',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'elsewhere', namespace: 'libnetwork' },
  spec: {
    orchestrator: 'libnetwork',
    node: 'elsewhere',
    workload: 'elsewhere',
    endpoint: 'elsewhere',
    interfaceName: 'calielsewhere',
    ipNetworks: [parseCidr('10.255.255.192/32')],
  },
};

/** Returns a block whose first address is allocated. */
function blockElsewhere(cidr: Cidr): Block {
  const free = Array.from({ length: 63 }, (_, index) => index + 1);
  return {
    cidr,
    affinity: 'host:elsewhere',
    allocations: [0, ...free.map(() => null)],
    unallocated: free,
    attributes: [{ handle_id: 'elsewhere', secondary: { node: 'elsewhere' } }],
    sequenceNumber: 1_787_392_800_000_000_000n,
  };
}
