import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChangeBatch, CommitResult, Datastore } from '../datastore/datastore.ts';
import { openMirroredStore } from './mirrored-store.fixture.ts';

/** Results of writes while the watch is late or silent. */

const signal = AbortSignal.timeout(600_000);

/** Holds back the events of a watch. */
class Gate {
  #isOpen = true;
  readonly #wake: (() => void)[] = [];

  close(): void {
    this.#isOpen = false;
  }

  open(): void {
    this.#isOpen = true;
    for (const wake of this.#wake.splice(0)) wake();
  }

  async *through(
    batches: AsyncIterable<ChangeBatch>,
    stop: AbortSignal,
  ): AsyncGenerator<ChangeBatch> {
    stop.addEventListener('abort', () => this.open());
    for await (const batch of batches) {
      while (!this.#isOpen) await new Promise<void>((resolve) => this.#wake.push(resolve));
      yield batch;
    }
  }
}

function gated(store: Datastore, gate: Gate): Datastore {
  return {
    endpoint: store.endpoint,
    read: (keys, stop) => store.read(keys, stop),
    pages: (prefix, stop) => store.pages(prefix, stop),
    commit: (transaction, stop) => store.commit(transaction, stop),
    watch: (prefix, after, stop) => gate.through(store.watch(prefix, after, stop), stop),
    close: () => store.close(),
  };
}

const handleKey = (id: string) => `/calico/ipam/v2/handle/${id}`;

test('a commit succeeds however late the watch is; later plans wait for the watch', async () => {
  const gate = new Gate();
  await using late = await openMirroredStore((store) => gated(store, gate), 300);
  const { mirror, writer } = late;
  gate.close();
  const { revision } = await writer.write((draft) => draft.put('Handle', 'a', {}), signal);
  assert.equal(
    (await mirror.datastore.read([handleKey('a')], signal)).items[0]?.modRevision,
    revision,
  );
  assert.equal(mirror.get('Handle', 'a'), undefined);
  const after = writer.write((draft) => draft.get('Handle', 'a'), signal);
  gate.open();
  assert.deepEqual((await after).result, {});
});

test('while the watch is silent, nothing is written on top of writes that it has not reported', async () => {
  const gate = new Gate();
  await using late = await openMirroredStore((store) => gated(store, gate), 300);
  const { mirror, writer } = late;
  gate.close();
  await writer.write((draft) => draft.put('Handle', 'a', {}), signal);
  const transactions = writer.transactions;
  const blind = writer.write((draft) => draft.put('Handle', 'b', {}), signal);
  await assert.rejects(blind, { code: 'datastore/unavailable' });
  assert.equal(writer.transactions, transactions);
  gate.open();
  await writer.write((draft) => draft.put('Handle', 'b', {}), signal);
  assert.ok(mirror.get('Handle', 'a') !== undefined && mirror.get('Handle', 'b') !== undefined);
});

test('a conflict that the watch has not reported fails as unavailable, and nothing is written', async () => {
  const gate = new Gate();
  await using late = await openMirroredStore((store) => gated(store, gate), 300);
  const { mirror, writer } = late;
  gate.close();
  const key = handleKey('a');
  await mirror.datastore.commit({ compares: [], writes: [{ key, value: '{"block":{}}' }] }, signal);
  const mine = writer.write((draft) => draft.put('Handle', 'a', { deleted: true }), signal);
  await assert.rejects(mine, { code: 'datastore/unavailable' });
  assert.equal((await mirror.datastore.read([key], signal)).items[0]?.value, '{"block":{}}');
  gate.open();
  await writer.write((draft) => draft.put('Handle', 'a', { deleted: true }), signal);
  assert.equal(mirror.get('Handle', 'a')?.value.deleted, true);
});

test('a conflict with a key that was created and removed before the watch reports it is retried', async () => {
  const gate = new Gate();
  const key = handleKey('a');
  await using late = await openMirroredStore(
    (real) => ({
      ...gated(real, gate),
      commit: async (transaction, stop) => {
        const result = await real.commit(transaction, stop);
        if (result.kind === 'conflict') {
          await real.commit({ compares: [], writes: [{ key, value: undefined }] }, stop);
          gate.open();
        }
        return result;
      },
    }),
    5000,
  );
  const { mirror, writer } = late;
  gate.close();
  // The watch is held at another key, so it reports the creation and the removal in one batch.
  for (const other of [handleKey('other'), key]) {
    const writes = [{ key: other, value: '{"block":{}}' }];
    await mirror.datastore.commit({ compares: [], writes }, signal);
  }
  await writer.write((draft) => draft.put('Handle', 'a', { deleted: true }), signal);
  assert.equal(mirror.get('Handle', 'a')?.value.deleted, true);
});

test('a removal of which only an upper bound of the revision is known completes when its keys are removed', async () => {
  const vague = (result: CommitResult): CommitResult => ({
    ...result,
    revision: result.revision + 1000n,
  });
  await using store = await openMirroredStore((real) => ({
    ...gated(real, new Gate()),
    commit: async (transaction, stop) => {
      const result = await real.commit(transaction, stop);
      return transaction.writes.every(({ value }) => value === undefined) ? vague(result) : result;
    },
  }));
  const { mirror, writer } = store;
  await writer.write((draft) => draft.put('Handle', 'a', {}), signal);
  await writer.write((draft) => draft.remove('Handle', 'a'), signal);
  assert.equal(mirror.get('Handle', 'a'), undefined);
  // The next write does not wait for a revision that never comes.
  await writer.write((draft) => draft.put('Handle', 'b', {}), signal);
});
