import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../ip/cidr.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import { chosenVni, containerMtuBytes, vxlanFamily, vxlanSettings } from './vxlan-settings.ts';

const apiVersion = 'projectcalico.org/v3';

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
  assert.deepEqual(vxlanSettings(undefined, undefined), {
    vni: 4096,
    port: 4789,
    mtuBytes: { 4: undefined, 6: undefined },
    isAllowed: true,
    externalNodes: [],
  });
});

test("a node's own configuration overrides that of all nodes field by field; 0 is no value", () => {
  const ofAll = configuration('default', {
    vxlanVNI: 77,
    vxlanPort: 8472,
    vxlanMTU: 1400,
    vxlanMTUV6: 0,
    externalNodesList: ['192.0.2.7', '198.51.100.0/24', 'nonsense'],
  });
  const ofNode = configuration('node.a', { vxlanMTU: 9000, vxlanEnabled: false });
  assert.deepEqual(vxlanSettings(ofNode, ofAll), {
    vni: 77,
    port: 8472,
    mtuBytes: { 4: 9000, 6: undefined },
    isAllowed: false,
    externalNodes: ['192.0.2.7/32', '198.51.100.0/24'],
  });
});

test('the VNI of a new cluster is none that Docker takes', () => {
  assert.ok(chosenVni > 1 && chosenVni < 256);
});

test('a pool uses VXLAN unless its mode is Never', () => {
  const families = (['Always', 'CrossSubnet', 'Never', ''] as const).map((vxlanMode) =>
    vxlanFamily(pool('10.0.0.0/16', { vxlanMode })),
  );
  assert.deepEqual(families, [4, 4, undefined, undefined]);
  assert.equal(vxlanFamily(pool('fd00::/48', { vxlanMode: 'Always' })), 6);
  assert.equal(vxlanFamily(pool('10.0.0.0/16', { ipipMode: 'Always' })), undefined);
});

test('containers have the MTU of the smallest tunnel that may carry their packets', () => {
  const plain = pool('10.0.0.0/16', {});
  const four = pool('10.1.0.0/16', { vxlanMode: 'CrossSubnet' });
  const six = pool('fd00::/48', { vxlanMode: 'Always' });
  const settings = { mtuBytes: { 4: undefined, 6: undefined }, isAllowed: true };
  assert.equal(containerMtuBytes([], settings, 1500), 1500);
  assert.equal(containerMtuBytes([plain], settings, 1500), 1500);
  assert.equal(containerMtuBytes([plain, four], settings, 1500), 1450);
  assert.equal(containerMtuBytes([four, six], settings, 9000), 8930);
  assert.equal(containerMtuBytes([four], { ...settings, isAllowed: false }, 1500), 1500);
  const given = { ...settings, mtuBytes: { 4: 1300, 6: undefined } };
  assert.equal(containerMtuBytes([four], given, 1500), 1300);
  assert.equal(
    containerMtuBytes([four], { ...given, mtuBytes: { 4: 9000, 6: undefined } }, 1500),
    1500,
  );
});
