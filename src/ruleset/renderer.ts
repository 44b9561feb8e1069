import type { IpFamily } from '../ip/address.ts';
import type { AddressSetSpec } from './address-set.ts';
import type { DropCounters } from './drop-counters.ts';
import type { HostGuards } from './host-endpoint.ts';
import type { HostRules } from './host-rules.ts';
import type { Dispatch, Policy, PolicyId, Stack } from './policy.ts';
import type { PublishedPort } from './published-port.ts';

/** Output of address sets. */
export interface SetOutput {
  addSet(spec: AddressSetSpec): void;
  removeSet(name: string): void;
  addMember(set: string, member: string): void;
  removeMember(set: string, member: string): void;
}

/**
 * Output of policy. Set operations are idempotent. A stack is added after its policies and removed before them,
 * dispatches likewise with their stacks; rules are added after the sets that they use.
 */
export interface PolicyOutput extends SetOutput {
  setPolicy(family: IpFamily, policy: Policy): void;
  removePolicy(family: IpFamily, id: PolicyId): void;
  setStack(family: IpFamily, stack: Stack): void;
  removeStack(family: IpFamily, name: string): void;
  /** Reference counted: stays until it is removed as often. */
  addDispatch(dispatch: Dispatch): void;
  removeDispatch(dispatch: Dispatch): void;
  /** Sets the host endpoints in a family, after their policies are set and before former ones are removed. */
  setHostGuards(family: IpFamily, guards: HostGuards): void;
}

/** Programs the ruleset on this host, with one of the kernel's firewalls. */
export interface Renderer {
  readonly policies: PolicyOutput;
  readonly drops: DropCounters;
  /** Writes the static chains and sets; call it first. */
  start(): void;
  /** Sets the host's rules in a family; hooks and blocks that are not among them are removed. */
  setHostRules(family: IpFamily, rules: HostRules): void;
  /** Removes and adds published ports. */
  changePublished(removed: readonly PublishedPort[], added: readonly PublishedPort[]): void;
  /** Reports whether a dispatch is programmed. */
  isDispatched(dispatch: Dispatch): boolean;
  /** Reports whether a connection with this mark was started through a published port that allows connections. */
  cameByPublishedPort(mark: number): boolean;
}
