import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Datastore } from '../datastore/datastore.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { isCalicoError } from '../errors/error.ts';
import {
  checkToken,
  createToken,
  formatToken,
  parseToken,
  redeemToken,
  tokenPrefix,
} from './tokens.ts';

const signal = AbortSignal.timeout(600_000);
const start = new Date('2026-03-01T12:00:00Z');
const later = (minutes: number) => new Date(start.getTime() + minutes * 60_000);
const fingerprint = 'f'.repeat(43);

async function withStore(use: (store: Datastore) => Promise<void>): Promise<void> {
  const store = await openSqliteStore(':memory:');
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

/** Returns why a join is rejected; `undefined`: it is accepted. */
async function whyRejected(attempt: Promise<void>): Promise<string | undefined> {
  try {
    await attempt;
    return undefined;
  } catch (error) {
    if (isCalicoError(error, 'cluster/token-rejected')) return error.detail.why;
    throw error;
  }
}

const keysOf = async (store: Datastore) => {
  const keys = [];
  for await (const { items } of store.pages(tokenPrefix, signal)) keys.push(...items);
  return keys.map(({ key }) => key);
};

describe('join tokens', () => {
  test('a token serves one join, which may be repeated', () =>
    withStore(async (store) => {
      const { token, expires } = await createToken(store, { fingerprint, now: start, signal });
      assert.deepEqual(expires, later(60));
      const { id, secret, fingerprint: read } = parseToken(` ${token}\n`);
      assert.equal(read, fingerprint);
      const use = (join: string, minutes: number) =>
        whyRejected(redeemToken(store, { id, secret, join }, { now: later(minutes), signal }));
      const check = (join: string, minutes: number) =>
        whyRejected(checkToken(store, { id, secret, join }, { now: later(minutes), signal }));
      assert.equal(await check('b', 1), undefined, 'a check does not use it');
      assert.equal(await use('a', 1), undefined);
      assert.equal(await use('b', 2), 'used');
      assert.equal(await check('b', 2), 'used');
      assert.equal(await use('a', 2), undefined);
      assert.equal(await use('a', 120), undefined, 'an interrupted join may be repeated later');
      assert.equal(await use('a', 60 * 26), 'expired');
    }));

  test('an expired or unknown token, or a wrong secret, is rejected', () =>
    withStore(async (store) => {
      const { token } = await createToken(store, {
        fingerprint,
        now: start,
        ttlMs: 60_000,
        signal,
      });
      const { id, secret } = parseToken(token);
      const use = (given: { id?: string; secret?: string }, minutes: number) =>
        whyRejected(
          redeemToken(store, { id, secret, join: 'a', ...given }, { now: later(minutes), signal }),
        );
      assert.equal(await use({ secret: 'x'.repeat(22) }, 0), 'unknown');
      assert.equal(await use({ id: 'aaaaaaaa' }, 0), 'unknown');
      assert.equal(await use({}, 1), 'expired');
    }));

  test('the datastore has no secret, and expired tokens are removed when one is created', () =>
    withStore(async (store) => {
      const first = parseToken(
        (await createToken(store, { fingerprint, now: start, signal })).token,
      );
      const { items } = await store.read([tokenPrefix + first.id], signal);
      assert.ok(!(items[0]?.value ?? first.secret).includes(first.secret));
      const second = await createToken(store, { fingerprint, now: later(60 * 24 * 3), signal });
      assert.deepEqual(await keysOf(store), [tokenPrefix + parseToken(second.token).id]);
    }));

  test('whatever the order of joins and times, at most one join is accepted', async () => {
    const step = fc.record({
      join: fc.constantFrom('a', 'b', 'c'),
      minutes: fc.integer({ min: 0, max: 80 }),
      isCheck: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), (steps) =>
        withStore(async (store) => {
          const { token } = await createToken(store, { fingerprint, now: start, signal });
          const { id, secret } = parseToken(token);
          const accepted = new Set<string>();
          for (const { join, minutes, isCheck } of steps) {
            const why = await whyRejected(
              (isCheck ? checkToken : redeemToken)(
                store,
                { id, secret, join },
                { now: later(minutes), signal },
              ),
            );
            if (why === undefined && !isCheck) accepted.add(join);
            if (why === undefined) assert.ok(accepted.size === 0 || accepted.has(join));
          }
          assert.ok(accepted.size <= 1);
        }),
      ),
      { numRuns: 50 },
    );
  });

  test('of two joins at the same time one is accepted', () =>
    withStore(async (store) => {
      const { token } = await createToken(store, { fingerprint, now: start, signal });
      const { id, secret } = parseToken(token);
      const both = await Promise.all(
        ['a', 'b'].map((join) =>
          whyRejected(redeemToken(store, { id, secret, join }, { now: start, signal })),
        ),
      );
      assert.deepEqual(new Set(both), new Set([undefined, 'used']));
    }));

  test('a text that is no token is rejected; the form of a token can be read back', () => {
    for (const text of ['', 'abc', 'a.b.c', `aaaaaaaa.${'x'.repeat(22)}.${'y'.repeat(42)}`]) {
      assert.throws(
        () => parseToken(text),
        (error) => isCalicoError(error, 'cluster/bad-token'),
      );
    }
    const token = { id: 'abcdefg2', secret: '-'.repeat(22), fingerprint: '_'.repeat(43) };
    assert.deepEqual(parseToken(formatToken(token)), token);
  });
});
