import type { IpFamily } from '../ip/address.ts';
import { tryParseNet, type Cidr } from '../ip/cidr.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import { poolFamily, type IpPool } from '../model/kinds/ip-pool.ts';

/** The tunnels between nodes: their encapsulations, which pools use them, and their settings as Felix reads them. */

export type Encapsulation = 'vxlan' | 'ipip';

/** A tunnel: an encapsulation in one address family. IP-in-IP carries IPv4 only. */
export type TunnelName = 'vxlan4' | 'vxlan6' | 'ipip4';

/** What is the same on all nodes. */
export interface Tunnel {
  readonly name: TunnelName;
  readonly encapsulation: Encapsulation;
  readonly family: IpFamily;
  /** Its interface, named as in Felix. */
  readonly device: string;
  /**
   * Bytes that it adds to a packet. VXLAN: outer IP, UDP, VXLAN and inner Ethernet header (RFC 7348); IP-in-IP: outer
   * IP header (RFC 2003).
   */
  readonly overheadBytes: number;
}

export const tunnels: Readonly<Record<TunnelName, Tunnel>> = {
  vxlan4: {
    name: 'vxlan4',
    encapsulation: 'vxlan',
    family: 4,
    device: 'vxlan.calico',
    overheadBytes: 50,
  },
  vxlan6: {
    name: 'vxlan6',
    encapsulation: 'vxlan',
    family: 6,
    device: 'vxlan-v6.calico',
    overheadBytes: 70,
  },
  // The kernel's own interface of the module ipip: it exists as soon as the module is loaded, and cannot be deleted.
  ipip4: {
    name: 'ipip4',
    encapsulation: 'ipip',
    family: 4,
    device: 'tunl0',
    overheadBytes: 20,
  },
};

export const allTunnels: readonly Tunnel[] = Object.values(tunnels);

/** An encapsulation as text for people. */
export const encapsulationTexts: Readonly<Record<Encapsulation, string>> = {
  vxlan: 'VXLAN',
  ipip: 'IPIP',
};

/** Returns the tunnel of an encapsulation in a family; `undefined` if it does not carry the family. */
export function tunnelBy(encapsulation: Encapsulation, family: IpFamily): Tunnel | undefined {
  return allTunnels.find((one) => one.encapsulation === encapsulation && one.family === family);
}

/** Returns the encapsulation of a pool, and when it is used; `Never`: none. */
export function encapsulationOf({ spec }: IpPool): {
  readonly by: Encapsulation;
  readonly mode: 'Never' | 'Always' | 'CrossSubnet';
} {
  const ipip = spec.ipipMode === undefined || spec.ipipMode === '' ? 'Never' : spec.ipipMode;
  const vxlan = spec.vxlanMode === undefined || spec.vxlanMode === '' ? 'Never' : spec.vxlanMode;
  return ipip === 'Never' ? { by: 'vxlan', mode: vxlan } : { by: 'ipip', mode: ipip };
}

/** Returns the tunnel through which addresses of a pool are reached, always or across subnets. */
export function tunnelOf(pool: IpPool): Tunnel | undefined {
  const { by, mode } = encapsulationOf(pool);
  return mode === 'Never' ? undefined : tunnelBy(by, poolFamily(pool));
}

/** Settings of the tunnels of a node, from FelixConfiguration. */
export interface TunnelSettings {
  /** VXLAN network identifier, the same on all nodes. */
  readonly vni: number;
  /** UDP port of VXLAN. */
  readonly port: number;
  /** MTU of the interface in bytes; `undefined`: that of the interface below, less the overhead. */
  readonly mtuBytes: Readonly<Record<TunnelName, number | undefined>>;
  /** `false`: no such tunnel, whatever the pools say. */
  readonly isAllowed: Readonly<Record<Encapsulation, boolean>>;
  /** Hosts that are no nodes, whose tunnel packets are accepted all the same. */
  readonly externalNodes: readonly Cidr[];
}

/** Felix's defaults. */
const felixVni = 4096;
const felixPort = 4789;

/** Returns the settings of a node, by its own FelixConfiguration and by that of all nodes. */
export function tunnelSettings(
  ofNode: FelixConfiguration | undefined,
  ofAll: FelixConfiguration | undefined,
): TunnelSettings {
  const setting = <Key extends keyof FelixConfiguration['spec']>(key: Key) =>
    ofNode?.spec[key] ?? ofAll?.spec[key];
  const positive = (value: number | undefined) =>
    value === undefined || value === 0 ? undefined : value;
  return {
    vni: positive(setting('vxlanVNI')) ?? felixVni,
    port: positive(setting('vxlanPort')) ?? felixPort,
    mtuBytes: {
      vxlan4: positive(setting('vxlanMTU')),
      vxlan6: positive(setting('vxlanMTUV6')),
      ipip4: positive(setting('ipipMTU')),
    },
    isAllowed: {
      vxlan: setting('vxlanEnabled') !== false,
      ipip: setting('ipipEnabled') !== false,
    },
    externalNodes: (setting('externalNodesList') ?? []).flatMap((text) => tryParseNet(text) ?? []),
  };
}

/**
 * Returns the MTU in bytes for containers with addresses of some pools, on a network of this MTU: that of the tunnels
 * that may carry their packets, if it is less.
 */
export function containerMtuBytes(
  pools: readonly IpPool[],
  { mtuBytes, isAllowed }: Pick<TunnelSettings, 'mtuBytes' | 'isAllowed'>,
  uplinkBytes: number,
): number {
  const carrying = pools
    .flatMap((pool) => tunnelOf(pool) ?? [])
    .filter(({ encapsulation }) => isAllowed[encapsulation]);
  return Math.min(
    uplinkBytes,
    ...carrying.map(({ name, overheadBytes }) => mtuBytes[name] ?? uplinkBytes - overheadBytes),
  );
}
