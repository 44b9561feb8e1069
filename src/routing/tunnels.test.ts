import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../ip/cidr.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import { containerMtuBytes, tunnelOf, tunnelSettings } from './tunnels.ts';

const apiVersion = 'projectcalico.org/v3';

const noMtu = { vxlan4: undefined, vxlan6: undefined, ipip4: undefined };

function configuration(name: string, spec: FelixConfiguration['spec']): FelixConfiguration {
  return { kind: 'FelixConfiguration', apiVersion, metadata: { name }, spec };
}

function pool(cidr: string, spec: Omit<IpPool['spec'], 'cidr'>): IpPool {
  return {
    kind: 'IPPool',
    apiVersion,
    metadata: { name: 'p' },
    spec: { cidr: parseCidr(cidr), ...spec },
  };
}

test("without a configuration the settings are Felix's", () => {
  assert.deepEqual(tunnelSettings(undefined, undefined), {
    vni: 4096,
    port: 4789,
    mtuBytes: noMtu,
    isAllowed: { vxlan: true, ipip: true },
    externalNodes: [],
  });
});

test("a node's own configuration overrides that of all nodes field by field; 0 is no value", () => {
  const ofAll = configuration('default', {
    vxlanVNI: 77,
    vxlanPort: 8472,
    vxlanMTU: 1400,
    vxlanMTUV6: 0,
    ipipMTU: 1410,
    externalNodesList: ['192.0.2.7', '198.51.100.0/24', 'nonsense'],
  });
  const ofNode = configuration('node.a', { vxlanMTU: 9000, vxlanEnabled: false });
  assert.deepEqual(tunnelSettings(ofNode, ofAll), {
    vni: 77,
    port: 8472,
    mtuBytes: { vxlan4: 9000, vxlan6: undefined, ipip4: 1410 },
    isAllowed: { vxlan: false, ipip: true },
    externalNodes: ['192.0.2.7/32', '198.51.100.0/24'],
  });
});

test('a pool uses the tunnel of its mode, unless that is Never; IP-in-IP carries IPv4 only', () => {
  for (const field of ['vxlanMode', 'ipipMode'] as const) {
    const names = (['Always', 'CrossSubnet', 'Never', ''] as const).map(
      (mode) => tunnelOf(pool('10.0.0.0/16', { [field]: mode }))?.name,
    );
    const name = field === 'vxlanMode' ? 'vxlan4' : 'ipip4';
    assert.deepEqual(names, [name, name, undefined, undefined]);
  }
  assert.equal(tunnelOf(pool('fd00::/48', { vxlanMode: 'Always' }))?.name, 'vxlan6');
  assert.equal(tunnelOf(pool('fd00::/48', { ipipMode: 'Always' })), undefined);
});

test('containers have the MTU of the smallest tunnel that may carry their packets', () => {
  const plain = pool('10.0.0.0/16', {});
  const four = pool('10.1.0.0/16', { vxlanMode: 'CrossSubnet' });
  const six = pool('fd00::/48', { vxlanMode: 'Always' });
  const ipip = pool('10.2.0.0/16', { ipipMode: 'Always' });
  const settings = { mtuBytes: noMtu, isAllowed: { vxlan: true, ipip: true } };
  assert.equal(containerMtuBytes([], settings, 1500), 1500);
  assert.equal(containerMtuBytes([plain], settings, 1500), 1500);
  assert.equal(containerMtuBytes([plain, four], settings, 1500), 1450);
  assert.equal(containerMtuBytes([four, six], settings, 9000), 8930);
  assert.equal(containerMtuBytes([plain, ipip], settings, 1500), 1480);
  assert.equal(containerMtuBytes([four, ipip], settings, 1500), 1450);
  const onlyIpip = { ...settings, isAllowed: { vxlan: false, ipip: true } };
  assert.equal(containerMtuBytes([four], onlyIpip, 1500), 1500);
  assert.equal(containerMtuBytes([four, ipip], onlyIpip, 1500), 1480);
  const given = { ...settings, mtuBytes: { ...noMtu, vxlan4: 1300 } };
  assert.equal(containerMtuBytes([four], given, 1500), 1300);
  assert.equal(
    containerMtuBytes([four], { ...given, mtuBytes: { ...noMtu, vxlan4: 9000 } }, 1500),
    1500,
  );
});
