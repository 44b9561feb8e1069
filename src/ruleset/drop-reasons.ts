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
    text: 'inbound: no rule allows it',
    isChosen: false,
  },
  noMatchFrom: {
    name: 'egress',
    at: 'stack',
    direction: 'egress',
    text: 'outbound: no rule allows it',
    isChosen: false,
  },
  source: {
    name: 'source',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: source address of another, or unknown interface',
    isChosen: true,
  },
  loopback: {
    name: 'loopback',
    at: 'arrival',
    direction: 'egress',
    text: 'outbound: to a loopback address of its host',
    isChosen: false,
  },
  unknownFrom: {
    name: 'unknown-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: source address or interface of no endpoint',
    isChosen: true,
  },
  unknownTo: {
    name: 'unknown-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: address or interface of no endpoint',
    isChosen: true,
  },
  invalidFrom: {
    name: 'invalid-from',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: of no connection, and not the start of one (INVALID)',
    isChosen: true,
  },
  invalidTo: {
    name: 'invalid-to',
    at: 'policy',
    direction: 'ingress',
    text: 'inbound: of no connection, and not the start of one (INVALID)',
    isChosen: true,
  },
  tunnel: {
    name: 'tunnel',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: VXLAN or IPinIP, which only hosts may send',
    isChosen: false,
  },
  toHost: {
    name: 'to-host',
    at: 'policy',
    direction: 'egress',
    text: 'outbound: to its own host (CALICO_ENDPOINT_TO_HOST_ACTION is Drop)',
    isChosen: false,
  },
} as const satisfies Readonly<Record<string, DropReason>>;

export const dropReasons: typeof reasons = reasons;

/** Why a stack drops what none of its policies decides. */
export function noMatch(direction: Direction): DropReason {
  return direction === 'ingress' ? reasons.noMatchTo : reasons.noMatchFrom;
}
