import assert from 'node:assert/strict';
import test from 'node:test';
import { engineInfo } from './messages.ts';

test('security options show that an engine is rootless', () => {
  const read = (SecurityOptions: unknown) => engineInfo.parse({ ID: 'x', SecurityOptions });
  assert.equal(read(['name=seccomp,profile=builtin', 'name=rootless']).isRootless, true);
  assert.equal(read(['name=seccomp,profile=builtin', 'name=userns']).isRootless, false);
  assert.equal(read(null).isRootless, false);
  assert.equal(engineInfo.parse({ ID: 'x' }).isRootless, false);
});
