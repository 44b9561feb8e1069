import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { CalicoError } from '../errors/error.ts';
import { LiveMirror } from './live-mirror.ts';
import { raced } from './raced-store.fixture.ts';

test('a mirror that is not in sync says why: nothing has been read yet, or the last error', async () => {
  const store = await openSqliteStore(':memory:');
  const refused = new CalicoError('datastore/unavailable', { endpoint: 'x', why: 'refused' });
  for (const [thrown, why] of [
    [new Error('broken pipe'), /:memory:.*broken pipe/],
    [refused, /x.*refused/],
  ] as const) {
    const mirror = new LiveMirror({
      ...raced(store, { beforeCommit: undefined }),
      pages: () => {
        throw thrown;
      },
    });
    assert.equal(mirror.whyNotInSync().code, 'datastore/not-in-sync');
    assert.throws(() => mirror.get('Handle', 'h'), { code: 'datastore/not-in-sync' });
    await using _ = inBackground((signal) => mirror.run(signal));
    for (let tries = 0; mirror.health.lastError === undefined; tries++) {
      assert.ok(tries < 3000);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.equal(mirror.whyNotInSync().code, 'datastore/unavailable');
    assert.match(mirror.whyNotInSync().message, why);
    assert.equal(mirror.inSync, false);
  }
  await store.close();
});
