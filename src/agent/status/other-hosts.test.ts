import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherHostChecks } from './other-hosts.ts';

test('the check names the other hosts of the datastore, at most the first three', () => {
  const detailOf = (...nodes: readonly string[]) => otherHostChecks('b', nodes)[0]?.detail;
  assert.equal(detailOf('b'), undefined);
  assert.match(
    detailOf('b', 'c', 'a') ?? '',
    /^a, c share this datastore\. .* does not distribute routes between/,
  );
  assert.match(detailOf('e', 'd', 'c', 'b', 'a') ?? '', /^a, c, d and 1 more share /);
});
