import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashIn, renderChain } from './hash.ts';

test('the jumps of the kernel chains have the hashes that Calico hosts show', () => {
  const jump = (chain: string) =>
    renderChain([{ matches: [], action: { kind: 'jump', chain: `cali-${chain}` } }], chain)[0]
      ?.hash;
  assert.equal(jump('FORWARD'), 'wUHhoiAYhphO9Mso');
  assert.equal(jump('INPUT'), 'Cz_u1IQiXIMmKD4c');
  assert.equal(jump('OUTPUT'), 'tVnHkvAo15HuiPy0');
  assert.equal(jump('PREROUTING'), '6gwbT8clXdHdC1b1');
});

test('a hash is found in the output of iptables-save, and only ours', () => {
  assert.equal(
    hashIn('-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD'),
    'wUHhoiAYhphO9Mso',
  );
  assert.equal(hashIn('-A FORWARD -m comment --comment "californication" -j X'), undefined);
});

test('text of users cannot leave its quotes', () => {
  const [rule] = renderChain(
    [{ matches: [], action: { kind: 'drop' }, comment: 'a"\n-j ACCEPT `x` \\' }],
    'cali-x',
  );
  assert.match(rule?.text ?? '', /--comment "a__-j ACCEPT _x_ _" --jump DROP$/);
});
