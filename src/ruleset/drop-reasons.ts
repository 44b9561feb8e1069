import type { Direction } from './policy.ts';

/**
 * Why a packet is dropped without a policy's rule that says so. Each reason is counted by address and interface.
 */
export interface DropReason {
  /** Part of the names that a renderer gives to what counts it. */
  readonly name: string;
  /**
   * Whether it is dropped where it arrives, before anything else sees it; where it is looked which stack judges it; or
   * by the stack.
   */
  readonly at: 'arrival' | 'policy' | 'stack';
  readonly direction: Direction;
  /** What `calico-cnm status` says. */
  readonly text: string;
  /**
   * Whether the sender chooses the address that is counted: then only so many are told apart, and the
   * rest is counted together.
   */
  readonly isChosen: boolean;
}

const reasons = {
  noMatchTo: {
    name: 'ingress',
    at: 'stack',
    direction: 'ingress',
    text: 'inbound: no matching rule',
    isChosen: false,
  },
  noMatchFrom: {
    name: 'egress',
    at: 'stack',
    direction: 'egress',
    text: 'outbound: no matching rule',
    isChosen: false,
  },
  source: {
    name: 'source',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: spoofed source',
    isChosen: true,
  },
  loopback: {
    name: 'loopback',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: loopback address of the host',
    isChosen: false,
  },
  unknownFrom: {
    name: 'unknown-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: unknown source endpoint',
    isChosen: true,
  },
  unknownTo: {
    name: 'unknown-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: unknown destination endpoint',
    isChosen: true,
  },
  invalidFrom: {
    name: 'invalid-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: invalid conntrack state',
    isChosen: true,
  },
  invalidTo: {
    name: 'invalid-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: invalid conntrack state',
    isChosen: true,
  },
  tunnel: {
    name: 'tunnel',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: VXLAN or IPIP from a container',
    isChosen: false,
  },
  toHost: {
    name: 'to-host',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: to host (CALICO_ENDPOINT_TO_HOST_ACTION=Drop)',
    isChosen: false,
  },
} as const satisfies Readonly<Record<string, DropReason>>;

export const dropReasons: typeof reasons = reasons;

/** Why a stack drops what none of its policies decides. */
export function noMatch(direction: Direction): DropReason {
  return direction === 'ingress' ? reasons.noMatchTo : reasons.noMatchFrom;
}
