import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { datastoreContract } from '../../src/datastore/contract.fixture.ts';
import { openEtcdStore } from '../../src/datastore/etcd-store.ts';
import { GroupWriter } from '../../src/datastore/group-writer.ts';
import { LiveMirror } from '../../src/datastore/live-mirror.ts';
import { startEtcd, type Etcd } from '../lab/etcd.ts';

const signal = AbortSignal.timeout(110_000);

describe('etcd', () => {
  let etcd: Etcd;
  before(async () => {
    etcd = await startEtcd();
  });
  after(() => etcd[Symbol.asyncDispose]());

  const open = () => openEtcdStore({ endpoints: [etcd.endpoint] });

  datastoreContract(() => {
    etcd.etcdctl('del', '--prefix', '/');
    return open();
  });

  test('a stopped etcd is told by its address soon, and is used again when it is back', async () => {
    const store = await open();
    await store.get('/calico/x', signal);
    await etcd.stop();
    const started = Date.now();
    await assert.rejects(
      store.commit({ compares: [], writes: [{ key: '/calico/x', value: '1' }] }, signal),
      (error: unknown) => error instanceof Error && error.message.includes(etcd.endpoint),
    );
    assert.ok(Date.now() - started < 20_000, 'it does not wait for etcd');
    await etcd.start();
    await retried(() => store.get('/calico/x', signal));
    await store.close();
  });

  test('a write into a stalled etcd is answered, and the answer is what happened', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    await store.get('/calico/x', signal);
    etcd.stall();
    setTimeout(() => etcd.resume(), 2500);
    const outcome = await store
      .commit(
        {
          compares: [{ key: '/calico/stalled', modRevision: 0n }],
          writes: [{ key: '/calico/stalled', value: '1' }],
        },
        signal,
      )
      .then(
        ({ kind }) => kind,
        () => 'failed',
      );
    const stored = await retried(() => store.get('/calico/stalled', signal));
    assert.equal(outcome, stored === undefined ? 'failed' : 'committed');
    await store.close();
  });

  test('a mirror whose history was compacted away lists anew and tells what changed meanwhile', async () => {
    const store = await open();
    etcd.etcdctl('del', '--prefix', '/');
    const stop = new AbortController();
    const mirror = new LiveMirror(store);
    const running = mirror.run(stop.signal);
    await mirror.reached(0n, signal);
    const writer = new GroupWriter(mirror);
    await writer.write((draft) => draft.put('Handle', 'old', {}), signal);
    await etcd.stop();
    await etcd.start();
    etcd.etcdctl('del', '/calico/ipam/v2/handle/old');
    etcd.etcdctl('put', '/calico/ipam/v2/handle/new', '{}');
    const { header } = headerOf(etcd.etcdctl('get', '/x', '-w', 'json'));
    etcd.etcdctl('compact', String(header.revision));
    await mirror.reached(BigInt(header.revision), signal);
    assert.deepEqual([...mirror.list('Handle').keys()], ['new']);
    stop.abort();
    await running;
    await store.close();
  });
});

function headerOf(text: string): { readonly header: { readonly revision: number } } {
  const parsed: unknown = JSON.parse(text);
  assert.ok(typeof parsed === 'object' && parsed !== null && 'header' in parsed);
  const { header } = parsed;
  assert.ok(typeof header === 'object' && header !== null && 'revision' in header);
  return { header: { revision: Number(header.revision) } };
}

async function retried<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask();
    } catch (error) {
      if (attempt > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
