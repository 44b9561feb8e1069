import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { BgpGuard } from './bgp-guard.ts';

test('peers are members of the set that the rule names, which exists while there is a speaker', () => {
  const sets = new Map<string, Set<string>>();
  const ports: (number | undefined)[] = [];
  const guard = new BgpGuard({
    families: [4],
    hostRules: { change: (_, { bgpPort }) => ports.push(bgpPort) },
    kernel: {
      sets: {
        setDesired: ({ name }) => sets.set(name, new Set()),
        deleteDesired: (name) => sets.delete(name),
        addMember: (name, member) => sets.get(name)?.add(member),
        removeMember: (name, member) => sets.get(name)?.delete(member),
      },
    },
  });
  const shown = () => Object.fromEntries([...sets].map(([name, members]) => [name, [...members]]));
  guard.setListener(undefined);
  assert.deepEqual([shown(), ports], [{}, []]);
  const peers = ['192.0.2.1', '192.0.2.2', '2001:db8::1'].map(parseAddress);
  guard.setListener({ port: 179, peers });
  assert.deepEqual(shown(), { 'cali40bgp-peers': ['192.0.2.1/32', '192.0.2.2/32'] });
  guard.setListener({ port: 179, peers: peers.slice(1) });
  assert.deepEqual(shown(), { 'cali40bgp-peers': ['192.0.2.2/32'] });
  guard.setListener({ port: 1790, peers: [] });
  guard.setListener(undefined);
  assert.deepEqual(shown(), {});
  assert.deepEqual(ports, [179, 1790, undefined]);
});
