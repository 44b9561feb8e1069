import type { IpFamily } from '../ip/address.ts';
import { parseNet, type Cidr } from '../ip/cidr.ts';
import { poolFamily, type IpPool } from '../model/kinds/ip-pool.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import { encapsulationOf } from './peers.ts';

/** Settings of the VXLAN tunnels of a node, from FelixConfiguration as Felix reads it. */
export interface VxlanSettings {
  /** VXLAN network identifier, the same on all nodes. */
  readonly vni: number;
  readonly port: number;
  /** MTU of the VXLAN interface in bytes; `undefined`: that of the interface below, less the overhead. */
  readonly mtuBytes: Readonly<Record<IpFamily, number | undefined>>;
  /** `false`: no VXLAN, whatever the pools say. */
  readonly isAllowed: boolean;
  /** Hosts that are no nodes, whose tunnel packets are accepted all the same. */
  readonly externalNodes: readonly Cidr[];
}

/** Bytes that VXLAN adds to a packet: outer IP, UDP, VXLAN and inner Ethernet header. Source: RFC 7348. */
export const vxlanOverheadBytes: Readonly<Record<IpFamily, number>> = { 4: 50, 6: 70 };

/** Felix's defaults. */
const felixVni = 4096;
const felixPort = 4789;

/**
 * The VNI that a cluster gets whose FelixConfiguration names none. Felix's default, 4096, is the one of Docker Swarm's
 * ingress network, and Swarm counts on from there; Docker's older overlay networks begin at 256.
 */
export const chosenVni = 200;

/** Names of the FelixConfigurations of a node, the stronger first. */
export function configurationsOf(node: string): readonly [ofNode: string, ofAll: string] {
  return [`node.${node}`, 'default'];
}

/** Returns the settings of a node, by its own FelixConfiguration and by that of all nodes. */
export function vxlanSettings(
  ofNode: FelixConfiguration | undefined,
  ofAll: FelixConfiguration | undefined,
): VxlanSettings {
  const setting = <Key extends keyof FelixConfiguration['spec']>(key: Key) =>
    ofNode?.spec[key] ?? ofAll?.spec[key];
  const positive = (value: number | undefined) =>
    value === undefined || value === 0 ? undefined : value;
  return {
    vni: positive(setting('vxlanVNI')) ?? felixVni,
    port: positive(setting('vxlanPort')) ?? felixPort,
    mtuBytes: { 4: positive(setting('vxlanMTU')), 6: positive(setting('vxlanMTUV6')) },
    isAllowed: setting('vxlanEnabled') !== false,
    externalNodes: (setting('externalNodesList') ?? []).flatMap((text) => netOf(text) ?? []),
  };
}

/** Returns the family of a pool whose addresses are reached through VXLAN, always or across subnets. */
export function vxlanFamily(pool: IpPool): IpFamily | undefined {
  const { isIpip, mode } = encapsulationOf(pool);
  return isIpip || mode === 'Never' ? undefined : poolFamily(pool);
}

/**
 * Returns the MTU in bytes for containers with addresses of some pools, on a network of this MTU: that of the tunnels
 * that may carry their packets, if it is less.
 */
export function containerMtuBytes(
  pools: readonly IpPool[],
  { mtuBytes, isAllowed }: Pick<VxlanSettings, 'mtuBytes' | 'isAllowed'>,
  uplinkBytes: number,
): number {
  const families = isAllowed ? pools.flatMap((pool) => vxlanFamily(pool) ?? []) : [];
  const tunnels = families.map(
    (family) => mtuBytes[family] ?? uplinkBytes - vxlanOverheadBytes[family],
  );
  return Math.min(uplinkBytes, ...tunnels);
}

function netOf(text: string): Cidr | undefined {
  try {
    return parseNet(text);
  } catch {
    return undefined;
  }
}
