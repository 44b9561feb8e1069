import type { Mirror } from '../cache/mirror.ts';
import type { IpAddress } from '../ip/address.ts';
import { cidrContains } from '../ip/cidr.ts';
import { peerOf } from '../routing/peers.ts';
import { configurationsOf } from '../model/kinds/felix-configuration.ts';
import { containerMtuBytes, tunnelSettings } from '../routing/tunnels.ts';

/**
 * Returns the MTU in bytes for a container with these addresses, on a host whose uplink has this MTU: less if one of
 * its IP pools is reached through tunnels.
 */
export function mtuOfContainer(
  mirror: Pick<Mirror, 'list' | 'get'>,
  node: string,
  {
    addresses,
    uplinkBytes,
  }: { readonly addresses: readonly IpAddress[]; readonly uplinkBytes: number },
): number {
  const pools = [...mirror.list('IPPool').values()]
    .map(({ value }) => value)
    .filter(({ spec }) => addresses.some((address) => cidrContains(spec.cidr, address)));
  const [ofNode, ofAll] = configurationsOf(node).map(
    (name) => mirror.get('FelixConfiguration', name)?.value,
  );
  return containerMtuBytes(pools, tunnelSettings(ofNode, ofAll), uplinkBytes);
}

/** Returns the addresses of the Node of this host, by which other hosts reach it. */
export function underlayAddresses(mirror: Pick<Mirror, 'get'>, node: string): readonly IpAddress[] {
  const own = mirror.get('Node', node)?.value;
  const { underlay } = own === undefined ? { underlay: undefined } : peerOf(own);
  return [underlay?.[4]?.address, underlay?.[6]?.address].filter((one) => one !== undefined);
}
