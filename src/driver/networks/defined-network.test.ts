import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { NetworkDetails } from '../docker/messages.ts';
import { dockerOf, plainDefinition as web, plainDrivers as drivers } from './definition.fixture.ts';
import { definitionLabel, differenceOf, planNetwork } from './defined-network.ts';

const subnet = parseCidr('10.50.0.0/16');
const withSubnet: NetworkDefinition = {
  ...web,
  subnets: [
    {
      cidr: subnet,
      range: parseCidr('10.50.4.0/24'),
      gateway: parseAddress('10.50.0.1'),
      auxiliary: { printer: parseAddress('10.50.0.9') },
    },
  ],
  ipv6: true,
  ipPools: ['b', 'a'],
  options: { mtu: '1400' },
  labels: { team: 'shop' },
};

/** As Docker shows a network created by hand with the same flags. */
function byHand(definition: NetworkDefinition, id = 'hand'): NetworkDetails {
  const made = dockerOf(definition, drivers, id);
  const { [definitionLabel]: _, ...Labels } = made.Labels;
  return { ...made, Labels };
}

describe('how a network of Docker differs from its definition', () => {
  test('as created, and by hand in other words, it does not', () => {
    for (const definition of [web, withSubnet]) {
      assert.equal(differenceOf(definition, dockerOf(definition, drivers), drivers), undefined);
    }
    const same = byHand(withSubnet);
    const other: NetworkDetails = {
      ...same,
      IPAM: { ...same.IPAM, Options: { pool: 'a, b' }, Driver: 'shop/cnm:1' },
      Options: { 'org.projectcalico.mtu': '1400', 'com.docker.network.enable_ipv4': 'true' },
      Labels: { ...same.Labels, 'com.docker.compose.project': 'x' },
    };
    assert.equal(differenceOf(withSubnet, other, drivers), undefined);
    // The next hop that calico-ipam chose.
    const [config] = dockerOf({ ...web, subnets: [{ cidr: subnet }] }, drivers).IPAM.Config;
    assert.ok(config);
    const Config = [{ ...config, Gateway: '169.254.1.1/32' }];
    const shown = { ...byHand(web), IPAM: { ...same.IPAM, Config, Options: {} } };
    const plain = { ...web, subnets: [{ cidr: subnet }] };
    assert.equal(differenceOf(plain, shown, drivers), undefined);
  });

  const network = byHand(withSubnet);
  const [config] = network.IPAM.Config;
  assert.ok(config);
  const withConfig = (changed: object) => ({
    ...network,
    IPAM: { ...network.IPAM, Config: [{ ...config, ...changed }] },
  });
  const cases: readonly (readonly [NetworkDetails, RegExp])[] = [
    [{ ...network, Driver: 'bridge' }, /^driver is bridge$/],
    [{ ...network, IPAM: { ...network.IPAM, Driver: 'default' } }, /^IPAM driver is default$/],
    [{ ...network, Internal: true }, /^--internal is true, defined: false$/],
    [{ ...network, EnableIPv6: false }, /^--ipv6 is false, defined: true$/],
    [withConfig({ Subnet: '10.51.0.0/16' }), /^--subnet is 10\.51\.0\.0\/16, defined: 10\.50/],
    [withConfig({ IPRange: '' }), /^--ip-range of 10\.50\.0\.0\/16 is none, defined: 10\.50\.4/],
    [
      withConfig({ Gateway: '10.50.0.2' }),
      /^--gateway of .* is 10\.50\.0\.2, defined: 10\.50\.0\.1/,
    ],
    [withConfig({ AuxiliaryAddresses: {} }), /^--aux-address of .* is none, defined: printer=/],
    [{ ...network, Options: { mtu: '1500' } }, /^options is mtu=1500, defined: mtu=1400$/],
    [{ ...network, IPAM: { ...network.IPAM, Options: {} } }, /^--ipam-opt pool is none, .*: a,b$/],
    [{ ...network, Labels: {} }, /^label team is none, defined: shop$/],
  ];
  for (const [different, sentence] of cases) {
    test(String(sentence), () => {
      assert.match(differenceOf(withSubnet, different, drivers) ?? 'no difference', sentence);
    });
  }

  test('a subnet where the definition has none is a difference', () => {
    const shown = byHand({ ...web, subnets: [{ cidr: subnet }] });
    assert.match(differenceOf(web, shown, drivers) ?? '', /^--subnet is 10\.50.*defined: none$/);
  });
});

/** Docker's networks of a name: any number with the label, created by hand, and different. */
const named = fc
  .array(fc.constantFrom('own', 'equal', 'different'), { maxLength: 4 })
  .map((kinds) =>
    kinds.map((kind, index) => {
      const id = `n${index}`;
      if (kind === 'own') return dockerOf(web, drivers, id);
      return kind === 'equal' ? byHand(web, id) : { ...byHand(web, id), Driver: 'bridge' };
    }),
  );

/** Carries out steps as Docker does, until nothing is to be done; returns the networks. */
function settled(definition: NetworkDefinition, before: readonly NetworkDetails[]) {
  let networks = before;
  for (let step = 0; step < 10; step++) {
    const plan = planNetwork(definition, networks, drivers);
    if (plan.do === 'nothing' || plan.do === 'differs') return { plan, networks };
    networks =
      plan.do === 'create'
        ? [...networks, dockerOf(definition, drivers, `new${step}`)]
        : networks.filter(({ Id }) => Id !== plan.id);
  }
  return assert.fail('it does not settle');
}

const isForeign = ({ Labels }: NetworkDetails) => Labels[definitionLabel] === undefined;

test('a defined network: one is left, those of others stay, and a different one is reported', () => {
  fc.assert(
    fc.property(named, (before) => {
      const { plan, networks } = settled(web, before);
      const foreign = before.filter(isForeign);
      assert.deepEqual(networks.filter(isForeign), foreign);
      assert.equal(networks.length, Math.max(1, foreign.length));
      const isOne = foreign.length < 2 && foreign.every(({ Driver }) => Driver === 'calico');
      assert.equal(plan.do, isOne ? 'nothing' : 'differs');
    }),
  );
});

test('a removed definition: its own and equal networks are removed, different ones stay', () => {
  fc.assert(
    fc.property(named, (before) => {
      const { plan, networks } = settled({ ...web, isRemoving: true }, before);
      assert.equal(plan.do, 'nothing');
      assert.deepEqual(
        networks,
        before.filter((one) => isForeign(one) && one.Driver === 'bridge'),
      );
    }),
  );
});

test('a network with the label of an earlier definition is not removed', () => {
  const earlier = dockerOf({ ...web, uid: 'earlier' }, drivers);
  assert.deepEqual(planNetwork(web, [earlier], drivers), { do: 'nothing' });
});
