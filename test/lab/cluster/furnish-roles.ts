import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { Etcd3 } from 'etcd3';
import { z } from 'zod';
import { GroupWriter } from '../../../src/cache/group-writer.ts';
import { UncachedView } from '../../../src/cache/uncached-view.ts';
import { enableAuth, putNodeUser } from '../../../src/cluster/auth.ts';
import { updateHost } from '../../../src/cluster/records.ts';
import { createSharedObjects } from '../../../src/cluster/shared-objects.ts';
import { loadSettings } from '../../../src/config/load.ts';
import { openDatastore } from '../../../src/datastore/open-datastore.ts';
import { createContents } from '../../../src/daemon/initialize-datastore.ts';
import { createStamp } from '../../../src/model/stamp.ts';

/**
 * Furnishes a new etcd as `calico-cnm cluster init` does: the basic objects, which nodes cannot create, users with
 * roles, and authentication. It is a process, because etcd is in the network of the fabric. It reads what to do from its
 * standard input, so that it can be loaded before.
 */
const { endpoints, admin, nodes, hosts, settings } = z
  .object({
    endpoints: z.array(z.string()),
    admin: z.object({ ca: z.string(), cert: z.string(), key: z.string() }),
    nodes: z.array(z.string()),
    /** Hosts that have joined. */
    hosts: z.array(z.object({ node: z.string(), address: z.string() })),
    settings: z.record(z.string(), z.string()),
  })
  .parse(JSON.parse(await text(process.stdin)));

const signal = AbortSignal.timeout(120_000);
const files = { caFile: admin.ca, certFile: admin.cert, keyFile: admin.key };
const datastore = await openDatastore({ kind: 'etcd', endpoints, ...files });
const [node = ''] = nodes;
const stamp = createStamp({ now: () => new Date(), uuid: randomUUID });
await new GroupWriter(new UncachedView(datastore)).write((draft) => {
  createSharedObjects(draft, stamp);
  createContents(draft, {
    node,
    settings: loadSettings(settings, '/nonexistent').settings,
    families: [4, 6],
    stamp,
    rangesInUse: () => [],
  });
}, signal);
for (const { node, address } of hosts) {
  const joined = new Date().toISOString();
  await updateHost(
    datastore,
    node,
    () => ({ address, joined, wanted: 'member', attempt: 0 }),
    signal,
  );
}
await datastore.close();

const client = new Etcd3({
  hosts: endpoints,
  credentials: {
    rootCertificate: readFileSync(admin.ca),
    certChain: readFileSync(admin.cert),
    privateKey: readFileSync(admin.key),
  },
});
await enableAuth(client.auth);
for (const node of nodes) await putNodeUser(client.auth, node);
client.close();
