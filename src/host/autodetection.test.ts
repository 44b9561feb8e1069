import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { settingsSchema } from '../config/settings.ts';
import { parseAddress, type IpFamily } from '../ip/address.ts';
import { parseInterfaceAddress } from '../ip/cidr.ts';
import { detectAddress, type HostInterface } from './autodetection.ts';

const link = (name: string, ...addresses: readonly string[]): HostInterface => ({
  name,
  mac: '02:00:00:00:00:01',
  addresses: addresses.map(parseInterfaceAddress),
});

/** Returns the address and the reason of a family, with settings as the user writes them. */
function chosen(
  interfaces: readonly HostInterface[],
  given: Readonly<Record<string, string>> = {},
  family: IpFamily = 4,
): readonly [string | undefined, string] {
  const settings = settingsSchema.parse(given);
  const { address, why } = detectAddress(
    {
      interfaces,
      sourceTo: (destination) =>
        destination === 'far' ? parseAddress(family === 4 ? '10.0.0.5' : 'fd00::5') : undefined,
    },
    family,
    family === 4
      ? { address: settings.ip, method: settings.ipDetection }
      : { address: settings.ip6, method: settings.ip6Detection },
  );
  return [address, why];
}

const host = [
  link('lo', '127.0.0.1/8', '::1/128', '192.0.2.1/32'),
  link('docker0', '172.17.0.1/16'),
  link('br-0123456789ab', '172.18.0.1/16'),
  link('virbr0', '192.168.122.1/24'),
  link('tunl0', '10.65.0.1/32'),
  link('cali0123456789a', '10.65.0.2/32', 'fe80::1/64'),
  link('vxlan.calico', '10.65.0.3/32'),
  link('down0'),
  link('eth0', '169.254.7.7/16', '172.16.0.11/24', '172.16.0.12/24', 'fe80::2/64'),
  link('long0', '10.0.0.5/8', 'fd00::5/64'),
];

test('the first global address of the first interface of the host itself is chosen', () => {
  assert.deepEqual(chosen(host), ['172.16.0.11/24', 'first-found: interface eth0']);
  assert.deepEqual(chosen(host, {}, 6), ['fd00::5/64', 'first-found: interface long0']);
});

test('names that only begin like a skipped one are skipped as upstream does, except lo', () => {
  for (const name of ['brave0', 'lodge0', 'enp3s0', 'bond0', 'wlan0', 'wg0', 'tailscale0'])
    assert.equal(chosen([link(name, '10.1.1.1/24')])[0], '10.1.1.1/24');
  for (const name of ['docker_gwbridge', 'veth12', 'cni-podman0', 'dummy7', 'flannel.1'])
    assert.equal(chosen([link(name, '10.1.1.1/24')])[0], undefined);
});

test('each method chooses as its setting says, and says why', () => {
  const by = (ipDetection: string) => chosen(host, { ipDetection });
  assert.deepEqual(by('interface=long.*'), ['10.0.0.5/8', 'interface=long.*: interface long0']);
  // The user may name an interface that is skipped otherwise.
  assert.deepEqual(by('interface=nothing,virbr0'), [
    '192.168.122.1/24',
    'interface=nothing,virbr0: interface virbr0',
  ]);
  assert.deepEqual(by('skip-interface=eth.*'), [
    '10.0.0.5/8',
    'skip-interface=eth.*: interface long0',
  ]);
  assert.deepEqual(by('cidr=172.16.0.12/32,10.0.0.0/8'), [
    '10.65.0.1/32',
    'cidr=172.16.0.12/32,10.0.0.0/8: interface tunl0',
  ]);
  assert.deepEqual(by('can-reach=far'), ['10.0.0.5/8', 'can-reach=far: interface long0']);
  assert.deepEqual(by('can-reach=away'), [undefined, 'can-reach=away: no route']);
  assert.deepEqual(by('interface=eth9'), [
    undefined,
    'interface=eth9: no interface has such an IPv4 address',
  ]);
});

test('a given address gets the prefix length of its interface, and none means none', () => {
  assert.deepEqual(chosen(host, { ip: '10.0.0.5' }), ['10.0.0.5/8', 'IP: interface long0']);
  assert.deepEqual(chosen(host, { ip: '10.0.0.5/24' }), ['10.0.0.5/24', 'IP: interface long0']);
  assert.deepEqual(chosen(host, { ip: '198.51.100.7' }), [
    '198.51.100.7/32',
    'IP: no interface of this host has it',
  ]);
  assert.deepEqual(chosen(host, { ip6: 'none' }, 6), [undefined, 'IP6=none']);
});

test('whatever the method, the address is one that the host has', () => {
  const methods = [
    'first-found',
    'interface=.*',
    'skip-interface=e',
    'cidr=0.0.0.0/0',
    'can-reach=far',
  ];
  fc.assert(
    fc.property(fc.subarray(host), fc.constantFrom(...methods), (interfaces, ipDetection) => {
      const [address] = chosen(interfaces, { ipDetection });
      const all = interfaces.flatMap(({ addresses }) =>
        addresses.map((one) => `${one.address}/${one.prefixLength}`),
      );
      assert.ok(address === undefined || all.includes(address));
    }),
  );
});
