import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Etcd3 } from 'etcd3';
import {
  enableAuth,
  putMoveRole,
  putNodeUser,
  removeMoveRole,
  removeNodeUser,
} from '../../src/cluster/auth.ts';
import { openEtcd } from '../../src/cluster/etcd-access.ts';
import { startNamespaceAccess } from '../../src/cluster/etcd/namespace-access.ts';
import { adminUser, etcdUserOf } from '../../src/cluster/roles.ts';
import { canWrite } from '../../src/datastore/can-write.ts';
import { listAll, type Datastore } from '../../src/datastore/datastore.ts';
import { openDatastore } from '../../src/datastore/open-datastore.ts';
import { liveReportId } from '../../src/model/kinds/node-report.ts';
import { entryTypeOf } from '../../src/model/kinds/index.ts';
import { makeAuthority, type Authority } from '../lab/certificates.ts';
import { startEtcd, type CertificateFiles, type Etcd } from '../lab/etcd.ts';
import { eventually } from '../lab/poll.ts';
import { runCommand } from '../lab/process.ts';
import { makeTemporaryFolder } from '../lab/temporary-folder.ts';

const program = new URL('../../src/main.ts', import.meta.url).pathname;
const signal = AbortSignal.timeout(600_000);
const clusterRoot = '/calico-cnm/cluster/';
const reportOf = (node: string) => entryTypeOf.NodeReport.key(liveReportId(node));

describe('roles of nodes in etcd', { timeout: 600_000 }, () => {
  const made = new AsyncDisposableStack();
  let authority: Authority;
  let etcd: Etcd;
  let admin: Etcd3;
  let first: CertificateFiles;
  let adminFiles: CertificateFiles;
  let node: Datastore;
  let neighbour: Datastore;
  before(async () => {
    const folder = made.use(makeTemporaryFolder('calico-roles-')).path;
    authority = await makeAuthority(folder, 'ca');
    const root = await authority.issue(adminUser);
    adminFiles = root;
    etcd = made.use(await startEtcd({ tls: await authority.issue('etcd'), admin: root, folder }));
    admin = new Etcd3({
      hosts: etcd.endpoint,
      credentials: {
        rootCertificate: readFileSync(root.ca),
        certChain: readFileSync(root.cert),
        privateKey: readFileSync(root.key),
      },
    });
    made.defer(() => admin.close());
    for (const name of ['host', 'host-b']) await putNodeUser(admin.auth, name);
    await enableAuth(admin.auth);
    first = await authority.issue(etcdUserOf('host'));
    node = await open(first);
    neighbour = await open(await authority.issue(etcdUserOf('host-b')));
  });
  after(() => made.disposeAsync());

  const open = async ({ ca, cert, key }: CertificateFiles) => {
    const files = { caFile: ca, certFile: cert, keyFile: key };
    const endpoints = [etcd.endpoint];
    const store = await openDatastore({ kind: 'etcd', endpoints, ...files });
    made.defer(() => store.close());
    return store;
  };
  const put = (store: Datastore, key: string, value: string | undefined = '{}', lease = '0') =>
    store.commit({ compares: [], writes: [{ key, value, lease }] }, signal);
  const denied = { code: 'datastore/denied' };
  const refused = { code: 'datastore/refused' };

  test('a node writes its own records and not those of a neighbour whose name begins like its own', async () => {
    for (const [kind, own, others] of [
      ['Node', 'host', 'host-b'],
      [
        'WorkloadEndpoint',
        'libnetwork/host-libnetwork-libnetwork-e',
        'libnetwork/host--b-libnetwork-libnetwork-e',
      ],
      ['DockerNetwork', 'host/n', 'host-b/n'],
      ['NetworkReport', 'host/web', 'host-b/web'],
    ] as const) {
      const { key } = entryTypeOf[kind];
      await put(node, key(own));
      await put(neighbour, key(others));
      await assert.rejects(put(node, key(others)), denied);
      await assert.rejects(put(neighbour, key(own)), denied);
      await assert.rejects(put(neighbour, key(own), undefined), denied);
    }
    await assert.rejects(put(node, entryTypeOf.GlobalNetworkPolicy.key('web')), denied);
  });

  test('a node may write its endpoints in a namespace once it has a network there, and keeps that right', async () => {
    const options = {
      endpoints: [etcd.endpoint],
      caFile: adminFiles.ca,
      certFile: adminFiles.cert,
      keyFile: adminFiles.key,
    };
    await using opened = await openEtcd(options);
    const access = startNamespaceAccess(opened, signal);
    const { key } = entryTypeOf.WorkloadEndpoint;
    const own = (name: string) => `shop/${name}-libnetwork-libnetwork-`;
    const network = {
      id: 'n',
      node: 'host',
      ipam: 'docker',
      internal: false,
      ipv4: true,
      ipv6: false,
    };
    const stored = { ...network, subnets: [], options: { namespace: 'shop' } };
    assert.equal(await canWrite(node, key(own('host')), signal), false);
    await assert.rejects(put(node, key(`${own('host')}e`)), denied);
    await put(node, entryTypeOf.DockerNetwork.key('host/n'), JSON.stringify(stored));
    assert.ok(await eventually(() => canWrite(node, key(own('host')), signal)));
    assert.equal(access.ended(), undefined);
    await putNodeUser(admin.auth, 'host');
    await put(node, key(`${own('host')}e`));
    await assert.rejects(put(node, key(`${own('host--b')}e`)), denied);
    await assert.rejects(put(node, key('prod/host-libnetwork-libnetwork-e')), denied);
    const { items } = await node.read([`${key(own('host'))}?`], signal);
    assert.deepEqual(items, [], 'the question writes nothing');
    access.stop();
  });

  test('a node cannot read the tokens of the cluster', async () => {
    etcd.etcdctl('put', `${clusterRoot}tokens/1`, 'secret');
    etcd.etcdctl('put', `${clusterRoot}hosts/host-b`, '{}');
    const { items } = await node.read([`${clusterRoot}hosts/host-b`], signal);
    assert.equal(items.length, 1);
    await assert.rejects(node.read([`${clusterRoot}tokens/1`], signal), refused);
    await assert.rejects(listAll(node, clusterRoot, signal), refused);
  });

  test('a node ends its own lease, and not that of a neighbour', async () => {
    const { leases } = node;
    assert.ok(leases && neighbour.leases);
    const [own, other] = [await leases.grant(60), await neighbour.leases.grant(60)];
    await put(node, reportOf('host'), '{}', own);
    await put(neighbour, reportOf('host-b'), '{}', other);
    await assert.rejects(leases.revoke(other), refused);
    await leases.revoke(own);
    const { items } = await node.read([reportOf('host'), reportOf('host-b')], signal);
    assert.deepEqual(
      items.map(({ key }) => key),
      [reportOf('host-b')],
    );
  });

  test('no transaction of a node fails while hosts join and leave', async () => {
    const over = new AbortController();
    let count = 0;
    const writing = Promise.all(
      [node, neighbour].map(async (store, index) => {
        for (; !over.signal.aborted; count++) {
          await put(store, entryTypeOf.Handle.key(`h${index}`), String(count));
          await store.read(['/calico/x'], signal);
        }
      }),
    );
    for (const name of ['c', 'd', 'e', 'f']) await putNodeUser(admin.auth, name);
    for (const name of ['c', 'd', 'e', 'f']) await removeNodeUser(admin.auth, name);
    await putMoveRole(admin.auth, 'host');
    await putNodeUser(admin.auth, 'host');
    over.abort();
    await writing;
    assert.ok(count > 20, `${count} transactions`);
  });

  test('granting again takes away what a role no longer has', async () => {
    const extra = {
      permType: 'Readwrite',
      key: Buffer.from('/'),
      range_end: Buffer.from('0'),
    } as const;
    await admin.auth.roleGrantPermission({ name: etcdUserOf('host-b'), perm: extra });
    await put(neighbour, entryTypeOf.Tier.key('extra'));
    await putNodeUser(admin.auth, 'host-b');
    await putNodeUser(admin.auth, 'host-b');
    await enableAuth(admin.auth);
    await assert.rejects(put(neighbour, entryTypeOf.Tier.key('extra')), denied);
    await put(neighbour, entryTypeOf.Node.key('host-b'));
  });

  test('the role of a move ends with it', async () => {
    await put(node, entryTypeOf.Tier.key('moved'));
    await removeMoveRole(admin.auth, 'host');
    await removeMoveRole(admin.auth, 'host');
    await assert.rejects(put(node, entryTypeOf.Tier.key('moved')), denied);
  });

  test('a command that the node may not do says what was denied', async () => {
    const policy = {
      apiVersion: 'projectcalico.org/v3',
      kind: 'GlobalNetworkSet',
      metadata: { name: 'web' },
      spec: { nets: ['192.0.2.0/24'] },
    };
    const { ca, cert, key } = first;
    const { status, stdout, stderr } = await runCommand(
      [process.execPath, program, 'apply', '-f', '-'],
      {
        input: JSON.stringify(policy),
        env: {
          ETCD_ENDPOINTS: etcd.endpoint,
          ETCD_CA_CERT_FILE: ca,
          ETCD_CERT_FILE: cert,
          ETCD_KEY_FILE: key,
        },
      },
    );
    assert.deepEqual(
      { status, stdout, stderr },
      {
        status: 1,
        stdout: '',
        stderr: `calico-cnm: permission denied on datastore ${etcd.endpoint}: this host cannot write GlobalNetworkSet web; check the role of its user\n`,
      },
    );
  });

  test('a removed node is denied everything; its open watch ends when the member restarts', async () => {
    const seen: string[] = [];
    const { revision } = await neighbour.read(['/calico/x'], signal);
    const watching = (async () => {
      for await (const { changes } of neighbour.watch('/calico/', revision, signal)) {
        seen.push(...changes.map(({ value }) => value ?? ''));
      }
    })();
    const lost = { code: 'datastore/watch-lost' };
    const ended = assert.rejects(watching, lost);
    const key = entryTypeOf.Profile.key('secret');
    await put(node, key, 'before');
    while (!seen.includes('before')) await sleep(20);
    await removeNodeUser(admin.auth, 'host-b');
    await removeNodeUser(admin.auth, 'host-b');
    await assert.rejects(put(neighbour, entryTypeOf.Node.key('host-b')), denied);
    await assert.rejects(neighbour.read([key], signal), refused);
    await put(node, key, 'removed');
    while (!seen.includes('removed')) await sleep(20);
    await etcd.stop();
    await etcd.start();
    await ended;
    await put(node, key, 'cut');
    const again = neighbour.watch('/calico/', revision, signal)[Symbol.asyncIterator]().next();
    await assert.rejects(again, lost);
    assert.ok(!seen.includes('cut'));
  });
});
