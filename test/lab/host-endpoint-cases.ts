import assert from 'node:assert/strict';
import { isCalicoError } from '../../src/errors/error.ts';
import type { Libc } from '../../src/dataplane/netlink/libc.ts';
import { parseAddress, type IpAddress } from '../../src/ip/address.ts';
import type { GlobalNetworkPolicy } from '../../src/model/kinds/global-network-policy.ts';
import type { HostEndpoint } from '../../src/model/kinds/host-endpoint.ts';
import { here as node } from './kernel-agent.ts';
import { sendRaw } from './raw-packets.ts';

/** Addresses, resources and packets of the tests of host endpoints. */

export const apiVersion = 'projectcalico.org/v3';

/**
 * The host with an uplink to `out`, a bridge with a container `lan` whose port 80 is published as Docker does it, and a
 * container `here` on a Calico network.
 */
export const addresses = {
  host: parseAddress('203.0.113.2'),
  out: parseAddress('203.0.113.1'),
  lan: parseAddress('172.20.0.2'),
  bridge: parseAddress('172.20.0.1'),
  here: parseAddress('10.65.0.1'),
} as const;

/** Returns the host endpoint `all`, of all interfaces unless told otherwise. */
export function hep(spec: HostEndpoint['spec'], labels = { role: 'host' }): HostEndpoint {
  return {
    kind: 'HostEndpoint',
    apiVersion,
    metadata: { name: 'all', labels },
    spec: { node, interfaceName: '*', ...spec },
  };
}

/** Returns a policy that selects it. */
export function gnp(name: string, spec: GlobalNetworkPolicy['spec']): GlobalNetworkPolicy {
  return {
    kind: 'GlobalNetworkPolicy',
    apiVersion,
    metadata: { name },
    spec: { selector: "role == 'host'", ...spec },
  };
}

/** Returns a packet by its protocol and ends: `tcp out -> host:22`. */
export function packetOf(text: string, sourcePort: number) {
  const [, protocol = '', from = '', to = '', port = ''] =
    /^(tcp|udp) (\S+) -> (\S+):(\d+)$/.exec(text) ?? assert.fail(text);
  const ends: Readonly<Record<string, IpAddress>> = { ...addresses, lo: parseAddress('127.0.0.1') };
  return {
    protocol: protocol === 'tcp' ? 6 : 17,
    source: ends[from] ?? assert.fail(from),
    destination: ends[to] ?? assert.fail(to),
    sourcePort,
    destinationPort: Number(port),
  };
}

/** A packet that the host itself may not send is an error for the sender, like one that is lost for others. */
export function send(libc: Libc, packet: Buffer, to: IpAddress): void {
  try {
    sendRaw(libc, packet, to);
  } catch (error) {
    if (!String(error).endsWith('not sent: 1')) throw error;
  }
}

/** nf_tables releases the sets of rules that were removed after a while. */
export function destroyIfUnused(destroy: () => void): void {
  try {
    destroy();
  } catch (error) {
    if (!isCalicoError(error, 'kernel/refused')) throw error;
  }
}
