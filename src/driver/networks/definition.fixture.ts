import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { NetworkDetails } from '../docker/messages.ts';
import { newNetwork, type DriverNames } from './defined-network.ts';

/** A network `web` without any option. */
export const plainDefinition: NetworkDefinition = {
  name: 'web',
  uid: 'u1',
  createdAt: '2026-11-29T00:00:00Z',
  internal: false,
  ipv6: false,
  subnets: [],
  options: {},
  labels: {},
};

export const plainDrivers: DriverNames = {
  network: 'calico',
  ipam: 'calico-ipam',
  all: new Set(['calico', 'calico-ipam', 'shop/cnm:1']),
};

/** Returns a network as Docker shows it after the request of the daemon. */
export function dockerOf(
  definition: NetworkDefinition,
  drivers: DriverNames,
  id = 'n',
): NetworkDetails {
  const { Name, Driver, Internal, EnableIPv6, Options, Labels } = newNetwork(definition, drivers);
  const ipv4 = definition.subnets.length > 0 ? [] : [shown('0.0.0.0/0', '169.254.1.1/32')];
  const ipv6 = definition.ipv6 ? [shown('fd00:64::/48', 'fe80::1/128')] : [];
  const given = definition.subnets.map(({ cidr, range = '', gateway = '', auxiliary = {} }) => ({
    ...shown(cidr, gateway),
    IPRange: range,
    AuxiliaryAddresses: auxiliary,
  }));
  const { ipPools } = definition;
  return {
    Id: id,
    Name,
    Created: '2026-11-29T00:00:01.123456789Z',
    Driver,
    Internal,
    EnableIPv6,
    IPAM: {
      Driver: drivers.ipam,
      Config: [...given, ...ipv4, ...ipv6],
      Options: ipPools === undefined ? {} : { pool: ipPools.join(',') },
    },
    Options,
    Labels,
  };
}

function shown(Subnet: string, Gateway: string) {
  return { Subnet, Gateway, IPRange: '', AuxiliaryAddresses: {} };
}
