import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { compileProfile } from '../compile/compiled-profile.ts';
import { evaluateStack } from './evaluate.ts';

test('a missing Profile denies, and the verdict names it', () => {
  const verdict = evaluateStack([compileProfile('gone', undefined)], 'ingress', {
    packet: {
      source: parseAddress('10.0.0.1'),
      destination: parseAddress('10.0.1.1'),
      protocol: 6,
      sourcePort: 1,
      destinationPort: 80,
    },
    isMember: () => false,
    hasNamedPort: () => false,
  });
  assert.deepEqual(verdict, { isAllowed: false, policy: 'gone' });
});

test('an ICMP code without a type does not match every type: the Profile denies', () => {
  const { problem } = compileProfile('p', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'p' },
    spec: { ingress: [{ action: 'Allow', protocol: 'ICMP', icmp: { code: 4 } }] },
  });
  assert.equal(problem, 'Profile p: ingress rule 1: an icmp code needs its type');
});

test('a verdict names the deciding rule; Log and Pass do not decide', () => {
  const profile = (name: string, ...actions: readonly ('Allow' | 'Deny' | 'Pass' | 'Log')[]) =>
    compileProfile(name, {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name },
      spec: { egress: actions.map((action) => ({ action })) },
    });
  const packet = {
    source: parseAddress('10.0.0.1'),
    destination: parseAddress('10.0.1.1'),
    protocol: 6,
    sourcePort: 1,
    destinationPort: 80,
  };
  const profiles = [profile('first', 'Log', 'Pass', 'Deny'), profile('second', 'Log', 'Allow')];
  const of = { packet, isMember: () => false, hasNamedPort: () => false };
  assert.deepEqual(evaluateStack(profiles, 'egress', of), {
    isAllowed: true,
    policy: 'second',
    rule: { tier: 'profiles', policy: 'second', direction: 'egress', index: 2 },
  });
  assert.deepEqual(evaluateStack(profiles, 'ingress', of), { isAllowed: false });
});

test('packets that only hosts may send are denied from an endpoint, whatever its policies, and allowed to it', () => {
  const open = compileProfile('open', {
    kind: 'Profile',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'open' },
    spec: { ingress: [{ action: 'Allow' }], egress: [{ action: 'Allow' }] },
  });
  const verdict = (direction: 'ingress' | 'egress', protocol: number, destinationPort: number) =>
    evaluateStack([open], direction, {
      packet: {
        source: parseAddress('10.0.0.1'),
        destination: parseAddress('10.0.1.1'),
        protocol,
        sourcePort: 1,
        destinationPort,
      },
      isMember: () => false,
      hasNamedPort: () => false,
    }).isAllowed;
  const [ipip, tcp, udp, vxlan] = [4, 6, 17, 4789];
  assert.deepEqual([verdict('egress', udp, vxlan), verdict('egress', ipip, 0)], [false, false]);
  assert.deepEqual([verdict('egress', udp, 53), verdict('egress', tcp, vxlan)], [true, true]);
  assert.deepEqual([verdict('ingress', udp, vxlan), verdict('ingress', ipip, 0)], [true, true]);
});
