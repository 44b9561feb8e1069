import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EtcdHistory } from './etcd-history.ts';

/** Returns a history that knows of an earlier run, and the number of replacements that it has seen. */
function historyOf(cluster: string, reached: bigint) {
  const history = new EtcdHistory();
  let replaced = 0;
  history.onReplaced(() => replaced++);
  history.expect({ cluster, reached });
  return { history, count: () => replaced };
}

test('an etcd that was restored while the daemon was stopped is recognized by its ID or its revision', () => {
  for (const [header, isReplaced] of [
    [{ cluster_id: '1', revision: '100' }, false],
    [{ cluster_id: '1', revision: '101' }, false],
    // Restored with the token of before, it has the same ID.
    [{ cluster_id: '1', revision: '99' }, true],
    [{ cluster_id: '2', revision: '500' }, true],
  ] as const) {
    const { history, count } = historyOf('1', 100n);
    history.saw(header, history.revision);
    assert.equal(count(), isReplaced ? 1 : 0, JSON.stringify(header));
    history.saw(header, history.revision);
    assert.equal(count(), isReplaced ? 1 : 0);
    assert.equal(history.revision, BigInt(header.revision));
  }
});

test('what an earlier run knew does not replace what etcd has said', () => {
  const { history, count } = historyOf('1', 5n);
  history.saw({ cluster_id: '1', revision: '7' }, 5n);
  history.expect({ cluster: '2', reached: 9n });
  assert.equal(history.cluster, '1');
  assert.equal(history.revision, 7n);
  assert.equal(count(), 0);
});
