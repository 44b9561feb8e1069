import type { IpFamily } from '../ip/address.ts';
import type { AddressSetSpec } from '../ruleset/address-set.ts';
import type { Dispatch, Policy, Stack } from '../ruleset/policy.ts';

/**
 * Where the desired state goes; a renderer takes it. What is set may be set again. A stack comes after its policies
 * and goes before them, and so do dispatches with their stacks; rules come after the sets that they look into.
 */
export interface PolicyOutput extends SetOutput {
  setPolicy(family: IpFamily, policy: Policy): void;
  removePolicy(family: IpFamily, name: string): void;
  setStack(family: IpFamily, stack: Stack): void;
  removeStack(family: IpFamily, name: string): void;
  /** From now on, until it is removed as often. */
  addDispatch(dispatch: Dispatch): void;
  removeDispatch(dispatch: Dispatch): void;
}

/** Where sets of addresses go. */
export interface SetOutput {
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
  /** Policies and stacks. */
  policiesEmitted: number;
  /** Members of sets and dispatches. */
  membersEmitted: number;
}

export function noWork(): WorkCount {
  return {
    endpointsVisited: 0,
    selectorsEvaluated: 0,
    selectorsMoved: 0,
    policiesEmitted: 0,
    membersEmitted: 0,
  };
}
