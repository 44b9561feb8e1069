import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { joinResponse } from './join-response.ts';

const network: DockerNetwork = {
  id: 'n1',
  node: 'host-a',
  name: 'web',
  ipam: 'calico',
  internal: false,
  ipv4: true,
  ipv6: false,
  subnets: [{ family: 4, cidr: parseCidr('0.0.0.0/0') }],
  nextHop4: parseAddress('169.254.7.1'),
  nextHop6: parseAddress('fe80::7'),
  options: {},
};

const join = (changes: Partial<DockerNetwork>, ...addresses: readonly string[]) =>
  joinResponse({
    network: { ...network, ...changes },
    addresses: addresses.map(parseAddress),
    interfaceName: 'temp0123456789a',
    interfacePrefix: 'eth',
  });

test("the default route uses the network's next hop, which is on-link", () => {
  assert.deepEqual(join({}, '10.65.0.1'), {
    InterfaceName: { SrcName: 'temp0123456789a', DstPrefix: 'eth' },
    Gateway: '169.254.7.1',
    StaticRoutes: [{ Destination: '169.254.7.1/32', RouteType: 1, NextHop: '' }],
    DisableGatewayService: true,
  });
});

test('an IPv6 next hop is given only to endpoints with an IPv6 address', () => {
  assert.equal(join({}, '10.65.0.1').GatewayIPv6, undefined);
  const dual = join({}, '10.65.0.1', 'fd00::1');
  assert.equal(dual.GatewayIPv6, 'fe80::7');
  assert.deepEqual(
    dual.StaticRoutes.map(({ Destination }) => Destination),
    ['169.254.7.1/32', 'fe80::7/128'],
  );
  const v6only = join({}, 'fd00::1');
  assert.equal(v6only.Gateway, undefined);
  assert.equal(v6only.GatewayIPv6, 'fe80::7');
});

test('an internal network gets no default route', () => {
  const { Gateway, GatewayIPv6, StaticRoutes } = join({ internal: true }, '10.65.0.1', 'fd00::1');
  assert.deepEqual([Gateway, GatewayIPv6, StaticRoutes.length], [undefined, undefined, 2]);
});

test("with Docker's own IPAM the peers of the subnet are reached by the next hop, too", () => {
  const { StaticRoutes } = join(
    {
      ipam: 'docker',
      nextHop4: parseAddress('172.18.0.1'),
      subnets: [
        { family: 4, cidr: parseCidr('172.18.0.0/16') },
        { family: 4, cidr: parseCidr('172.19.0.0/16') },
      ],
    },
    '172.18.0.2',
  );
  assert.deepEqual(StaticRoutes, [
    { Destination: '172.18.0.1/32', RouteType: 1, NextHop: '' },
    { Destination: '172.18.0.0/17', RouteType: 0, NextHop: '172.18.0.1' },
    { Destination: '172.18.128.0/17', RouteType: 0, NextHop: '172.18.0.1' },
  ]);
});
