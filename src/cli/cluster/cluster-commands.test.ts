import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { clusterPaths, writeClusterFile } from '../../cluster/cluster-file.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

/** What is refused before anything is sent or changed. */

const token = `abcdefgh.${'s'.repeat(22)}.${'f'.repeat(43)}`;

let line: CommandLine;
before(() => {
  line = startCommandLine();
});
after(() => line[Symbol.dispose]());

const refused = async (argv: readonly string[], sentence: RegExp, from = line) => {
  const { status, out, error } = await from.run(['cluster', ...argv]);
  assert.deepEqual({ status, out }, { status: 1, out: '' }, error);
  assert.match(error, sentence);
  assert.equal(error.trimEnd().split('\n').length, 1, 'it is one sentence');
};

test('a wrong address or token is named', async () => {
  await refused(['join', 'https://host-1', token], /"https:\/\/host-1" is not a member's address/);
  await refused(['join', 'host-1:2381', 'abc'], /this is not a join token; copy the whole line/);
});

test('a host whose daemon does not run, or that uses an etcd of its own, is told so', async () => {
  await refused(['join', 'host-1', token], /cannot reach the daemon|daemon.*not running/);
  using own = startCommandLine({ ETCD_ENDPOINTS: 'http://192.0.2.1:2379' });
  await refused(['join', 'host-1', token], /uses the etcd of ETCD_ENDPOINTS/, own);
});

test('tokens are created on members only, which are named', async () => {
  await refused(['token', 'create'], /this host belongs to no cluster of calico-cnm; create one/);
  const paths = clusterPaths({ datastoreFile: join(line.folder, 'calico.db') });
  mkdirSync(paths.folder, { recursive: true });
  const endpoints = ['192.0.2.1', '192.0.2.2', '192.0.2.3'].map((one) => `https://${one}:2379`);
  writeClusterFile(paths, { uid: 'u', node: 'n', part: 'client', state: 'joined', endpoints });
  await refused(['token', 'create'], /run it on 192\.0\.2\.1, 192\.0\.2\.2 or 192\.0\.2\.3$/m);
});

test('a validity that is no number of minutes is rejected', async () => {
  for (const ttl of ['0', '-1', 'x', '10081']) {
    const { status, error } = await line.run(['cluster', 'token', 'create', '--ttl', ttl]);
    assert.equal(status, 2, error);
  }
});
