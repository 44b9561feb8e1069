import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { clusterPaths, writeClusterFile, type ClusterFile } from '../../cluster/cluster-file.ts';
import { lockCommand } from '../../cluster/command-lock.ts';
import { bootstrap } from '../../datastore/bootstrap.ts';
import { withMoveMark } from '../../model/kinds/cluster-information.ts';
import { createStamp } from '../../model/stamp.ts';
import { departure } from './cluster-leave.ts';
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

test('a command without its group is answered with both', async () => {
  for (const [typed, meant] of [
    ['init', 'cluster init'],
    ['migrate', 'datastore migrate'],
  ] as const) {
    const { status, error } = await line.run([typed]);
    assert.equal(status, 2);
    assert.match(error, new RegExp(`unknown command '${typed}' \\(Did you mean ${meant}\\?\\)`));
  }
  const { error } = await line.run(['cluster', 'statsu']);
  assert.match(error, /unknown command 'statsu' \(Did you mean status\?\); see/);
});

test('a restore needs a file, or the option for the data of this host, and not both', async () => {
  for (const argv of [['restore'], ['restore', '/b.db', '--own-data']]) {
    await refused(
      argv,
      /cluster restore: name the file of a backup, or without one type --own-data/,
    );
  }
});

test('a validity that is no number of minutes is rejected', async () => {
  for (const ttl of ['0', '-1', 'x', '10081']) {
    const { status, error } = await line.run(['cluster', 'token', 'create', '--ttl', ttl]);
    assert.equal(status, 2, error);
  }
});

/** A host whose command was interrupted in this state. */
const interrupted = (file: Pick<ClusterFile, 'state' | 'step'>) => {
  const host = startCommandLine();
  const paths = clusterPaths({ datastoreFile: join(host.folder, 'calico.db') });
  mkdirSync(paths.etcd, { recursive: true });
  writeFileSync(paths.nodeKey, 'key');
  const endpoints = ['https://192.0.2.1:2379'];
  writeClusterFile(paths, { uid: 'u', node: 'n', part: 'client', endpoints, ...file });
  return { host, paths };
};

test('of an interrupted command every other one says what to type', async () => {
  for (const [state, command] of [
    ['initializing', 'init'],
    ['joining', 'join'],
    ['leaving', 'leave'],
  ] as const) {
    using host = interrupted({ state }).host;
    const was = `calico-cnm: calico-cnm cluster ${command} was interrupted on this host`;
    for (const argv of [
      ['token', 'create'],
      ['remove', 'other'],
    ]) {
      await refused(argv, new RegExp(`^${was}; finish`), host);
    }
    // It says how far it has got.
    await refused(['status'], new RegExp(`^${was} \\(.+\\); run it again .* ${command}`), host);
  }
});

test('while a command runs, another one is told so, and status does not call it interrupted', async () => {
  using host = interrupted({ state: 'joining' }).host;
  const sentence = /^calico-cnm: calico-cnm cluster join \(process \d+\) runs on this host; wait/;
  {
    using lock = lockCommand(join(host.folder, 'calico-cnm.sock'), 'cluster join');
    for (const argv of [['leave'], ['remove', 'other'], ['init'], ['status']]) {
      await refused(argv, sentence, host);
    }
    assert.ok(lock);
  }
  await refused(['status'], /cluster join was interrupted/, host);
});

test('a host that leaves by force keeps what it knows, and says what it does not', () => {
  const host = { node: 'host-4', datastoreFile: '/d/calico.db' };
  const rest = /^if members of the cluster run, on one of them: calico-cnm cluster remove host-4$/;
  const one = { networks: 1, containers: 2, otherNodes: ['host-1'], otherContainers: 1 };
  const lines = departure(host, { kind: 'left', ...one, savedAt: '2026-11-30T15:00:00.000Z' });
  assert.match(
    lines[0] ?? '',
    /^node host-4 has left its cluster and keeps 1 network and 2 endpoints in \/d\/calico\.db$/,
  );
  assert.match(lines[1] ?? '', /^not brought along: 1 other node \(host-1\) and 1 endpoint there/);
  assert.match(lines[2] ?? '', /^the data is that of 2026-11-30T15:00:00\.000Z/);
  assert.match(lines[3] ?? '', rest);
  const alone = departure(host, { kind: 'left', ...one, otherNodes: [], otherContainers: 0 });
  assert.equal(alone.length, 2);
});

test('an interrupted init or join is given up by leave, until the data begins to move', async () => {
  for (const [state, command] of [
    ['initializing', 'init'],
    ['joining', 'join'],
  ] as const) {
    const { host, paths } = interrupted({ state });
    using line = host;
    const stamp = createStamp({ now: () => new Date(), uuid: randomUUID });
    const mark = { id: 'm', node: 'n', from: 'a', to: 'b', since: '' };
    const setMark = (state?: 'copying') =>
      line.write((draft) => {
        bootstrap(draft, { nodeName: 'n', stamp });
        const present = draft.get('ClusterInformation', 'default') ?? assert.fail();
        const marked = withMoveMark(present, state && { ...mark, state });
        draft.put('ClusterInformation', 'default', marked);
      });
    await setMark('copying');
    const sentence = new RegExp(`cluster ${command} was interrupted .* running it again$`, 'm');
    await refused(['leave'], sentence, line);
    assert.equal(existsSync(paths.file), true);
    await setMark();
    const { status, out, error } = await line.run(['cluster', 'leave']);
    assert.equal(status, 0, error);
    assert.match(out, new RegExp(`^cluster ${command} is given up; this host has its own`));
    assert.equal(/cluster remove n$/m.test(out), command === 'join');
    assert.deepEqual(
      [existsSync(paths.folder), existsSync(join(line.folder, 'calico.db'))],
      [false, true],
    );
  }
});

test('an interrupted leave goes on where it was, and puts aside only a datastore of before the cluster', async () => {
  for (const { step, isPutAside } of [
    { step: 'left', isPutAside: true },
    // Its daemon has begun anew since.
    { step: 'put aside', isPutAside: false },
    // The last host of a cluster has taken its data back.
    { step: undefined, isPutAside: false },
  ]) {
    const { host, paths } = interrupted({
      state: 'leaving',
      ...(step === undefined ? {} : { step }),
    });
    using line = host;
    const file = join(line.folder, 'calico.db');
    writeFileSync(file, 'data');
    const { status, out, error } = await line.run(['cluster', 'leave']);
    assert.equal(status, 0, error);
    assert.match(out, step === undefined ? /the cluster is dissolved/ : /n has left the cluster/);
    assert.equal(existsSync(paths.folder), false);
    assert.equal(existsSync(file), !isPutAside);
    const kept = readdirSync(line.folder).find((name) => name.startsWith('calico.db')) ?? '';
    assert.equal(kept, isPutAside ? 'calico.db.before-cluster' : 'calico.db');
    assert.equal(readFileSync(join(line.folder, kept), 'utf8'), 'data');
  }
});
