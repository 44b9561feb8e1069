import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FilterChain } from '../../dataplane/netlink/nftables-chains.ts';
import { otherChainChecks } from './other-chains.ts';

function chain(table: string, hook: string, more: Partial<FilterChain> = {}): FilterChain {
  const [family = '', name = ''] = table.split(' ');
  const rest = { dropsTheRest: true, mentions: () => false, ...more };
  return { family, table: name, name: `my-${hook}`, hook, ...rest };
}

/** Returns the checks of a kernel with these chains as text. */
function checksOf(...chains: readonly FilterChain[]): readonly string[] {
  return otherChainChecks((isAsked) => chains.filter(isAsked)).map(
    ({ name, ok, detail, remedy }) =>
      `${name} ${ok ? 'ok' : 'FAIL'}: ${detail}${remedy === undefined ? '' : ` -> ${remedy}`}`,
  );
}

test('a chain that drops forwarded packets is reported with the commands that accept container traffic', () => {
  assert.deepEqual(checksOf(chain('inet mine', 'forward')), [
    'nftables FAIL: chain inet mine my-forward drops forwarded packets by default; containers have no connectivity -> Accept container traffic in this chain and in the file that defines it (docs/firewalls.md): nft insert rule inet mine my-forward oifname "cali*" accept; nft insert rule inet mine my-forward iifname "cali*" accept',
  ]);
});

test('a chain for packets from and to the host is reported as ok', () => {
  const [input, output, ...more] = checksOf(chain('ip mine', 'input'), chain('ip6 mine', 'output'));
  assert.deepEqual(more, []);
  assert.match(
    input ?? '',
    /^nftables ok: chain ip mine my-input applies to traffic from containers to this host; IPv6 .*icmpv6.*\(docs\/firewalls.md\)$/,
  );
  assert.match(
    output ?? '',
    /^nftables ok: chain ip6 mine my-output applies to traffic from this host to containers/,
  );
});

test('a chain that accepts by default, or has a rule for our interfaces, is not reported', () => {
  assert.deepEqual(
    checksOf(
      chain('inet mine', 'forward', { dropsTheRest: false }),
      chain('inet mine', 'forward', { mentions: (words) => 'iifname cali1'.includes(words) }),
    ),
    [],
  );
  assert.equal(
    checksOf(chain('inet mine', 'forward', { mentions: (w) => 'eth0'.includes(w) })).length,
    1,
  );
});

test('tables of iptables and firewalld are not read; the nftables table inet filter is', () => {
  const tables = ['filter', 'security', 'mangle', 'raw', 'nat', 'firewalld'];
  assert.deepEqual(checksOf(...tables.map((table) => chain(`ip ${table}`, 'forward'))), []);
  assert.deepEqual(checksOf(chain('inet firewalld', 'forward')), []);
  assert.equal(checksOf(chain('inet filter', 'forward')).length, 1);
});
