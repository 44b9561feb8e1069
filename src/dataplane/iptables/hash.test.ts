import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { Rule } from '../../render/iptables/rule.ts';
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

test('rules that differ in the place of their comment alone have different hashes', () => {
  const rule: Rule = {
    matches: [{ kind: 'inInterface', name: 'cali+' }],
    action: { kind: 'accept' },
  };
  // Of a release that put the comment before the criteria.
  const former = createHash('sha224')
    .update(createHash('sha224').update('cali-x').digest())
    .update('-A cali-x HASH --in-interface cali+ --jump ACCEPT')
    .digest('base64url')
    .slice(0, 16);
  assert.notEqual(renderChain([rule], 'cali-x')[0]?.hash, former);
});

test('a hash is found in the output of iptables-save, and only ours', () => {
  assert.equal(
    hashIn('-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD'),
    'wUHhoiAYhphO9Mso',
  );
  assert.equal(
    hashIn('-A cali-x -i cali+ -m comment --comment "cali:wUHhoiAYhphO9Mso Return if" -j RETURN'),
    'wUHhoiAYhphO9Mso',
  );
  assert.equal(hashIn('-A FORWARD -m comment --comment "californication" -j X'), undefined);
});

test('text of users cannot leave its quotes', () => {
  const [rule] = renderChain(
    [{ matches: [], action: { kind: 'drop' }, comment: 'a"\n-j ACCEPT `x` \\' }],
    'cali-x',
  );
  assert.match(rule?.text ?? '', /--comment "cali:.{16} a__-j ACCEPT _x_ _" --jump DROP$/);
});

test('the kernel evaluates one comment per rule, after the criteria', () => {
  const [rule] = renderChain(
    [
      {
        matches: [{ kind: 'inInterface', name: 'cali+' }],
        action: { kind: 'accept' },
        comment: 'why',
      },
    ],
    'cali-x',
  );
  assert.match(
    rule?.text ?? '',
    /^--in-interface cali\+ -m comment --comment "cali:\S{16} why" --jump ACCEPT$/,
  );
});
