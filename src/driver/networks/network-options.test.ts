import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFileSync } from 'node:fs';
import {
  networkOptionKeys,
  networkOptionSynonyms,
  parseNetworkOptions,
} from './network-options.ts';

test('docs/networks.md lists every key and alias, and no others', () => {
  const page = readFileSync(`${import.meta.dirname}/../../../docs/networks.md`, 'utf8');
  const table = /## Options\n[^]*?\n\n(\|[^]*?)\n\n/.exec(page)?.[1] ?? assert.fail();
  const firstCells = table
    .split('\n')
    .slice(2)
    .map((row) => row.split('|')[1] ?? '');
  const told = firstCells.flatMap((cell) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, key = '']) => key),
  );
  assert.deepEqual(told.toSorted(), [...networkOptionKeys, ...networkOptionSynonyms].toSorted());
});

test('every documented option is read, with and without the prefix', () => {
  assert.deepEqual(
    parseNetworkOptions({
      name: 'web',
      profiles: 'a, b',
      mtu: '1400',
      'org.projectcalico.nat-outgoing': 'false',
      'org.projectcalico.label.tier': 'db',
      'label.team/owner': 'x',
      'next-hop': '169.254.9.9',
      'interface-prefix': 'cali',
    }),
    {
      name: 'web',
      nextHop4: '169.254.9.9',
      options: {
        profiles: ['a', 'b'],
        mtu: 1400,
        natOutgoing: false,
        labels: { tier: 'db', 'team/owner': 'x' },
        interfacePrefix: 'cali',
      },
    },
  );
});

test("Docker's own names for MTU and interface prefix are accepted", () => {
  const { options } = parseNetworkOptions({
    'com.docker.network.driver.mtu': '9000',
    'com.docker.network.container_iface_prefix': 'net',
  });
  assert.deepEqual(options, { mtu: 9000, interfacePrefix: 'net' });
});

test('options that dockerd handles itself are ignored', () => {
  assert.deepEqual(
    parseNetworkOptions({
      'com.docker.network.enable_ipv6': 'true',
      'com.docker.network.advertise_addr_ms': '100',
    }),
    { options: {} },
  );
});

test('an IPv6 next hop is separate from the IPv4 one', () => {
  assert.equal(parseNetworkOptions({ 'next-hop': 'FE80::0:1' }).nextHop6, 'fe80::1');
});

const refused = [
  ...['127.0.0.1', '224.0.0.5', '0.0.0.0', '::1', 'ff02::1', '::ffff:10.0.0.1'].map((hop) => ({
    name: `${hop} is no next hop`,
    options: { 'next-hop': hop },
    message: /cannot be a next hop: .* is /,
  })),
  {
    name: 'an unknown option is refused and the known ones are named',
    options: { proflies: 'a' },
    message:
      'unknown network option "proflies"; known: name, profiles, namespace, mtu, nat-outgoing, published, next-hop, interface-prefix, label.KEY',
  },
  {
    name: 'one option by two of its names is refused',
    options: { profiles: 'a', 'org.projectcalico.profile': 'b' },
    message: 'network option "org.projectcalico.profile=b": profiles is given twice',
  },
  {
    name: 'an MTU that is no number is refused',
    options: { mtu: 'big' },
    message: 'network option "mtu=big": must be a number of bytes from 576 to 65535',
  },
  {
    name: 'a next hop that is no address is refused',
    options: { 'next-hop': '300.1.1.1' },
    message: 'network option "next-hop=300.1.1.1": "300.1.1.1" is not an IP address',
  },
  {
    name: 'a label that Calico does not allow is refused',
    options: { 'label.a': 'not a value' },
    message: 'network option "label.a=not a value": "not a value" is not a legal label value',
  },
  ...['Shop', 'a.b', '-a', '', 'a'.repeat(64)].map((name) => ({
    name: `a namespace that is no DNS label is refused: "${name}"`,
    options: { namespace: name },
    message: `network option "namespace=${name}": must be at most 63 lower-case letters, digits and "-", with a letter or digit at both ends`,
  })),
  ...['kns.shop', 'ksa.shop.web'].map((name) => ({
    name: `the Profile of a namespace is refused: ${name}`,
    options: { profiles: `web,${name}` },
    message: `network option "profiles=web,${name}": "${name}" is reserved by Calico`,
  })),
  {
    name: 'an empty list of Profiles is refused',
    options: { profiles: ',' },
    message: 'network option "profiles=,": must name at least one Profile',
  },
];

for (const { name, options, message } of refused) {
  test(name, () => assert.throws(() => parseNetworkOptions(options), { message }));
}
