import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FilterChain } from '../../dataplane/netlink/nftables-chains.ts';
import { otherChainChecks } from './other-chains.ts';

function chain(table: string, hook: string, more: Partial<FilterChain> = {}): FilterChain {
  const [family = '', name = ''] = table.split(' ');
  const rest = { dropsTheRest: true, mentions: () => false, ...more };
  return { family, table: name, name: `my-${hook}`, hook, ...rest };
}

/** What status says of a kernel with these chains, and whether it is well. */
function said(...chains: readonly FilterChain[]): readonly string[] {
  return otherChainChecks((isAsked) => chains.filter(isAsked)).map(
    ({ name, ok, detail, remedy }) =>
      `${name} ${ok ? 'well' : 'not well'}: ${detail}${remedy === undefined ? '' : ` -> ${remedy}`}`,
  );
}

test('a chain that drops forwarded packets is named, with the commands that let containers pass', () => {
  assert.deepEqual(said(chain('inet mine', 'forward')), [
    'nftables not well: chain inet mine my-forward drops forwarded packets by default; containers have no connectivity -> Accept container traffic in this chain and in the file that defines it (docs/firewalls.md): nft insert rule inet mine my-forward oifname "cali*" accept; nft insert rule inet mine my-forward iifname "cali*" accept',
  ]);
});

test('one that decides on packets from and to the host is named, and is well', () => {
  const [input, output, ...more] = said(chain('ip mine', 'input'), chain('ip6 mine', 'output'));
  assert.deepEqual(more, []);
  assert.match(
    input ?? '',
    /^nftables well: chain ip mine my-input applies to traffic from containers to this host; IPv6 .*icmpv6.*\(docs\/firewalls.md\)$/,
  );
  assert.match(
    output ?? '',
    /^nftables well: chain ip6 mine my-output applies to traffic from this host to containers/,
  );
});

test('a chain that lets the rest pass, or speaks of our interfaces, is not named', () => {
  assert.deepEqual(
    said(
      chain('inet mine', 'forward', { dropsTheRest: false }),
      chain('inet mine', 'forward', { mentions: (words) => 'iifname cali1'.includes(words) }),
    ),
    [],
  );
  assert.equal(
    said(chain('inet mine', 'forward', { mentions: (w) => 'eth0'.includes(w) })).length,
    1,
  );
});

test("tables of iptables and of firewalld are not read; nftables' own table filter of both families is", () => {
  const tables = ['filter', 'security', 'mangle', 'raw', 'nat', 'firewalld'];
  assert.deepEqual(said(...tables.map((table) => chain(`ip ${table}`, 'forward'))), []);
  assert.deepEqual(said(chain('inet firewalld', 'forward')), []);
  assert.equal(said(chain('inet filter', 'forward')).length, 1);
});
