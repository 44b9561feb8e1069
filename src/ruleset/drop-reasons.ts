import type { Direction } from './policy.ts';

/**
 * Why a packet is dropped without a policy's rule that says so. Each reason is counted by address and interface.
 */
export interface DropReason {
  /** Part of the names of its counters. */
  readonly name: string;
  /** Where it is dropped: on arrival, before all other rules; at dispatch to a stack; by the stack; by a host endpoint. */
  readonly at: 'arrival' | 'policy' | 'stack' | 'host';
  readonly direction: Direction;
  /** Text of `calico-cnm status`. */
  readonly text: string;
  /**
   * Whether the sender chooses the counted address: then the number of separate counters is limited, and the rest is
   * counted together.
   */
  readonly isChosen: boolean;
  /** Whether policy denies the packet: then it is rejected instead, if this host rejects denied packets. */
  readonly isDenial: boolean;
}

/**
 * What happens to packets that policy denies: they are dropped silently, or rejected with the ICMP error
 * *port unreachable*, so that clients do not wait for a timeout. Source: Felix, `IptablesFilterDenyAction`.
 */
export type DenyAction = 'drop' | 'reject';

const reasons = {
  noMatchTo: {
    name: 'ingress',
    at: 'stack',
    direction: 'ingress',
    text: 'inbound: no matching rule',
    isChosen: false,
    isDenial: true,
  },
  noMatchFrom: {
    name: 'egress',
    at: 'stack',
    direction: 'egress',
    text: 'outbound: no matching rule',
    isChosen: false,
    isDenial: true,
  },
  hostNoMatchTo: {
    name: 'host-ingress',
    at: 'host',
    direction: 'ingress',
    text: 'inbound: no matching rule',
    isChosen: true,
    isDenial: true,
  },
  hostNoMatchFrom: {
    name: 'host-egress',
    at: 'host',
    direction: 'egress',
    text: 'outbound: no matching rule',
    isChosen: true,
    isDenial: true,
  },
  hostInvalidTo: {
    name: 'host-invalid-to',
    at: 'host',
    direction: 'ingress',
    text: 'inbound: invalid conntrack state',
    isChosen: true,
    isDenial: true,
  },
  hostInvalidFrom: {
    name: 'host-invalid-from',
    at: 'host',
    direction: 'egress',
    text: 'outbound: invalid conntrack state',
    isChosen: true,
    isDenial: true,
  },
  source: {
    name: 'source',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: spoofed source',
    isChosen: true,
    isDenial: false,
  },
  loopback: {
    name: 'loopback',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: loopback address of the host',
    isChosen: false,
    isDenial: false,
  },
  unknownFrom: {
    name: 'unknown-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: unknown source endpoint',
    isChosen: true,
    isDenial: true,
  },
  unknownTo: {
    name: 'unknown-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: unknown destination endpoint',
    isChosen: true,
    isDenial: true,
  },
  invalidFrom: {
    name: 'invalid-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: invalid conntrack state',
    isChosen: true,
    isDenial: true,
  },
  invalidTo: {
    name: 'invalid-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: invalid conntrack state',
    isChosen: true,
    isDenial: true,
  },
  tunnel: {
    name: 'tunnel',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: VXLAN or IPIP from a container',
    isChosen: false,
    isDenial: true,
  },
  vxlan: {
    name: 'vxlan',
    at: 'policy',
    direction: 'egress',
    text: 'VXLAN from an unknown host',
    isChosen: true,
    isDenial: false,
  },
  ipip: {
    name: 'ipip',
    at: 'policy',
    direction: 'egress',
    text: 'IPIP from an unknown host',
    isChosen: true,
    isDenial: false,
  },
  toHost: {
    name: 'to-host',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: to host (CALICO_ENDPOINT_TO_HOST_ACTION=Drop)',
    isChosen: false,
    isDenial: false,
  },
} as const satisfies Readonly<Record<string, DropReason>>;

export const dropReasons: typeof reasons = reasons;

/** Returns the reason of drops without a matching rule, by the stack of a container or by a host endpoint. */
export function noMatch(direction: Direction, isOfHost = false): DropReason {
  if (isOfHost) return direction === 'ingress' ? reasons.hostNoMatchTo : reasons.hostNoMatchFrom;
  return direction === 'ingress' ? reasons.noMatchTo : reasons.noMatchFrom;
}
