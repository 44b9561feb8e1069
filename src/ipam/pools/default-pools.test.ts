import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrap } from '../../datastore/bootstrap.ts';
import { GroupWriter } from '../../cache/group-writer.ts';
import { LiveMirror } from '../../cache/live-mirror.ts';
import { openSqliteStore } from '../../datastore/sqlite-store.ts';
import type { Draft } from '../../datastore/writer.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { dockerDefaultRanges, createDefaultPool, type UsedRange } from './default-pools.ts';
import { listAll } from '../../datastore/datastore.ts';

const signal = AbortSignal.timeout(600_000);
const pool4 = {
  family: 4,
  cidr: undefined,
  blockSize: 26,
  natOutgoing: true,
  nodeSelector: '',
} as const;
const same = <T>(of: T): T => of;

async function withMirror(
  use: (mirror: LiveMirror, second: LiveMirror) => Promise<void>,
): Promise<void> {
  const store = await openSqliteStore(':memory:');
  const stop = new AbortController();
  const mirrors = [new LiveMirror(store), new LiveMirror(store)] as const;
  const running = mirrors.map((mirror) => mirror.run(stop.signal));
  try {
    await Promise.all(mirrors.map((mirror) => mirror.reached(0n, signal)));
    await use(...mirrors);
  } finally {
    stop.abort();
    await store.close();
    await Promise.all(running);
  }
}

function makePool(draft: Draft, used: readonly UsedRange[], given?: string): string {
  const cidr = given === undefined ? undefined : parseCidr(given);
  const pool = { ...pool4, cidr };
  return createDefaultPool(draft, { pool, used, random: Buffer.alloc(5), stamp: same }).spec.cidr;
}

const used = (cidr: string, what: string): UsedRange => ({ cidr: parseCidr(cidr), what });

for (const { beside, chosen } of [
  { beside: dockerDefaultRanges, chosen: '10.65.0.0/16' },
  { beside: [used('10.65.3.0/24', 'a route of this host')], chosen: '10.66.0.0/16' },
  { beside: [used('10.0.0.0/8', 'a route of this host')], chosen: '100.64.0.0/16' },
]) {
  test(`the default pool is ${chosen} beside ${beside[0]?.cidr} and ${beside.length - 1} others`, () =>
    withMirror(async (mirror) => {
      const { result } = await new GroupWriter(mirror).write(
        (draft) => makePool(draft, beside),
        signal,
      );
      assert.equal(result, chosen);
    }));
}

test('a requested range is rejected with the name of the range it overlaps', () =>
  withMirror(async (mirror) => {
    const route = used('10.0.0.0/8', 'a route of this host');
    await assert.rejects(
      new GroupWriter(mirror).write((draft) => makePool(draft, [route], '10.1.0.0/16'), signal),
      /10\.1\.0\.0\/16 overlaps a route of this host \(10\.0\.0\.0\/8\)/,
    );
    assert.equal(mirror.list('IPPool').size, 0);
  }));

test('two hosts that start at the same time create one identity and one pool; a repeated start changes nothing', () =>
  withMirror(async (mirror, second) => {
    const start = (of: LiveMirror, nodeName: string) =>
      new GroupWriter(of).write((draft) => {
        bootstrap(draft, { nodeName, stamp: same });
        if ([...draft.entries('IPPool')].length === 0) makePool(draft, []);
      }, signal);
    await Promise.all([start(mirror, 'host-a'), start(second, 'host-b')]);
    const { revision } = await listAll(mirror.datastore, '/calico/', signal);
    await mirror.reached(revision, signal);
    assert.deepEqual([...mirror.list('Node').keys()].toSorted(), ['host-a', 'host-b']);
    assert.deepEqual([...mirror.list('IPPool').keys()], ['default-ipv4-ippool']);
    assert.equal(mirror.list('ClusterInformation').size, 1);
    await start(mirror, 'host-a');
    assert.equal((await listAll(mirror.datastore, '/calico/', signal)).revision, revision);
  }));

test('if the host uses all ranges, the error says how to set one', () =>
  withMirror(async (mirror) => {
    const all = [used('0.0.0.0/0', 'a route of this host')];
    await assert.rejects(
      new GroupWriter(mirror).write((draft) => makePool(draft, all), signal),
      { code: 'ipam/no-default-range' },
    );
    assert.equal(mirror.list('IPPool').size, 0);
  }));
