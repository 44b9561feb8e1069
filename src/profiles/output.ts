import type { IpFamily } from '../ip/address.ts';
import type { AddressSetSpec } from '../ruleset/address-set.ts';
import type { Chain } from '../render/iptables/rule.ts';

/** Where the desired state goes: chains of the filter table and address sets. Each call may be repeated. */
export interface PolicyOutput {
  setChain(family: IpFamily, chain: Chain): void;
  removeChain(family: IpFamily, name: string): void;
  wantSet(spec: AddressSetSpec): void;
  unwantSet(name: string): void;
  addMember(set: string, member: string): void;
  removeMember(set: string, member: string): void;
}

/** How much work has been done since the start, in things looked at or emitted. */
export interface WorkCount {
  endpointsVisited: number;
  selectorsEvaluated: number;
  selectorsMoved: number;
  chainsEmitted: number;
  membersEmitted: number;
}

export function noWork(): WorkCount {
  return {
    endpointsVisited: 0,
    selectorsEvaluated: 0,
    selectorsMoved: 0,
    chainsEmitted: 0,
    membersEmitted: 0,
  };
}
