import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadSettings } from '../config/load.ts';
import { deniedWrite } from '../datastore/commit-outcome.ts';
import { entryTypeOf } from '../model/kinds/index.ts';
import { clusterPaths, writeClusterFile, type ClusterFile } from './cluster-file.ts';
import { datastoreAccess } from './datastore-access.ts';

const folder = mkdtempSync(join(tmpdir(), 'calico-access-'));
after(() => rmSync(folder, { recursive: true }));

const settingsWith = (environment: Readonly<Record<string, string>> = {}) => ({
  ...loadSettings(environment, '/nonexistent').settings,
  datastoreFile: join(folder, 'calico.db'),
});
const paths = clusterPaths(settingsWith());
mkdirSync(paths.folder);
const endpoints = ['https://192.0.2.1:2379', 'https://192.0.2.2:2379'];
const write = (changes: Partial<ClusterFile>) =>
  writeClusterFile(paths, {
    uid: 'u',
    node: 'host-1',
    part: 'client',
    state: 'joined',
    endpoints,
    ...changes,
  });

test('a host that has joined uses the etcd of its cluster, unless the settings name another one', () => {
  assert.equal(datastoreAccess(settingsWith(), 'node').kind, 'sqlite');
  write({ state: 'joining' });
  assert.equal(datastoreAccess(settingsWith(), 'node').kind, 'sqlite');
  write({});
  const { role, ...used } = { role: undefined, ...datastoreAccess(settingsWith(), 'node') };
  assert.ok(role);
  const { ca: caFile, nodeCert: certFile, nodeKey: keyFile } = paths;
  assert.deepEqual(used, { kind: 'etcd', endpoints, caFile, certFile, keyFile });
  const other = { ETCD_ENDPOINTS: 'http://192.0.2.9:2379' };
  assert.deepEqual(datastoreAccess(settingsWith(other), 'admin'), {
    kind: 'etcd',
    endpoints: ['http://192.0.2.9:2379'],
  });
});

test('a command uses the admin credential where it is; elsewhere the error of a denied write says where', () => {
  write({});
  const client = datastoreAccess(settingsWith(), 'admin');
  assert.ok(client.kind === 'etcd' && client.role !== undefined);
  assert.equal(client.certFile, paths.nodeCert);
  const writes = [
    { key: entryTypeOf.Node.key('host-1'), value: '' },
    { key: entryTypeOf.GlobalNetworkPolicy.key('web'), value: '' },
  ];
  const { message } = deniedWrite(writes, endpoints.join(','), client.role, undefined);
  assert.equal(
    message,
    'permission denied on datastore https://192.0.2.1:2379,https://192.0.2.2:2379: this host cannot write GlobalNetworkPolicy web; run the command as root on a host with the admin credential: 192.0.2.1, 192.0.2.2',
  );
  writeFileSync(paths.adminKey, '');
  const member = datastoreAccess(settingsWith(), 'admin');
  assert.ok(member.kind === 'etcd' && member.role === undefined);
  assert.equal(member.certFile, paths.adminCert);
  const daemon = datastoreAccess(settingsWith(), 'node');
  assert.ok(daemon.kind === 'etcd' && daemon.certFile === paths.nodeCert);
});
