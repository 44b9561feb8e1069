import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CalicoError, describe } from '../errors/error.ts';
import { asPermission } from './permission.ts';

const refused = Object.assign(new Error('EACCES: permission denied, open'), {
  code: 'EACCES',
  path: '/etc/calico/calico-cnm.env',
});
const wrapped = new CalicoError(
  'config/unreadable',
  { file: '/etc/calico/calico-cnm.env', why: refused.message },
  { cause: refused },
);

test('the error of an ordinary user without permission names the sudo command', () => {
  assert.equal(
    describe(asPermission(wrapped, ['profile', 'add', "it's"], 1000)),
    "permission denied (/etc/calico/calico-cnm.env); run as root: sudo calico-cnm profile add 'it'\\''s'",
  );
  assert.equal(
    describe(asPermission(refused, ['status'], 1000)),
    'permission denied (/etc/calico/calico-cnm.env); run as root: sudo calico-cnm status',
  );
});

test('errors of root, and all other errors, are unchanged', () => {
  assert.equal(asPermission(wrapped, ['status'], 0), wrapped);
  const other = new CalicoError('cli/bad-argument', { what: 'a', why: 'b' });
  assert.equal(asPermission(other, ['status'], 1000), other);
});
