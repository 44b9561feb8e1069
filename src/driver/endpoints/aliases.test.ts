import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aliasesOf } from './aliases.ts';

const id = 'c'.repeat(64);

test('aliases are the names without the own name and the short ID, as a host name can be', () => {
  const names = ['app', id.slice(0, 12), 'shop', 'a_b.c', 'shop', 'a,b', 'with space', '-x', ''];
  assert.equal(aliasesOf(names, id, 'app'), 'a_b.c,shop');
  assert.equal(aliasesOf(['app', id.slice(0, 12)], id, 'app'), undefined);
  assert.equal(aliasesOf(['app'], id, undefined), 'app');
});
