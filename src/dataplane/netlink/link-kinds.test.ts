import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { encodeKind, readKind, type LinkKind } from './link-kinds.ts';

const address4 = fc.constantFrom('192.0.2.1', '10.255.255.254').map(parseAddress);
const address6 = fc.constantFrom('2001:db8::1', 'fe80::1').map(parseAddress);
const index = fc.integer({ min: 1, max: 2 ** 31 - 1 });
const told: fc.Arbitrary<Exclude<LinkKind, { kind: 'veth' }>> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('vxlan' as const),
      vni: fc.integer({ min: 0, max: 2 ** 24 - 1 }),
      port: fc.integer({ min: 1, max: 65_535 }),
      local: fc.oneof(address4, address6),
      under: index,
    },
    { requiredKeys: ['kind', 'vni', 'port', 'local'] },
  ),
  fc.record(
    { kind: fc.constant('ipip' as const), local: address4, remote: address4 },
    { requiredKeys: ['kind', 'local'] },
  ),
  fc.constant({ kind: 'wireguard' } as const),
  fc.record({ kind: fc.constant('vrf' as const), table: fc.integer({ min: 1, max: 2 ** 32 - 1 }) }),
);

test('the attributes of a link at creation are read back', () => {
  fc.assert(
    fc.property(told, (link) => {
      assert.deepEqual(readKind(Buffer.concat(encodeKind(link))), { ...link });
    }),
  );
});

test('a veth is recognized; links of other kinds, or with missing attributes, are not', () => {
  const veth = encodeKind({ kind: 'veth', peer: Buffer.alloc(16) });
  assert.deepEqual(readKind(Buffer.concat(veth)), { kind: 'veth' });
  assert.equal(readKind(Buffer.alloc(0)), undefined);
  for (const kind of ['vxlan', 'vrf'] as const) {
    const [name = assert.fail()] = encodeKind(
      kind === 'vrf'
        ? { kind, table: 1 }
        : { kind, vni: 1, port: 1, local: parseAddress('192.0.2.1') },
    );
    assert.equal(readKind(name), undefined, kind);
  }
});
