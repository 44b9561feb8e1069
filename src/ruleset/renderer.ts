import type { IpFamily } from '../ip/address.ts';
import type { AddressSetSpec } from './address-set.ts';
import type { DropCounters } from './drop-counters.ts';
import type { HostRules } from './host-rules.ts';
import type { Dispatch, Policy, Stack } from './policy.ts';
import type { PublishedPort } from './published-port.ts';

/** Where sets of addresses go. */
export interface SetOutput {
  addSet(spec: AddressSetSpec): void;
  removeSet(name: string): void;
  addMember(set: string, member: string): void;
  removeMember(set: string, member: string): void;
}

/**
 * Where policy goes. What is set may be set again. A stack comes after its policies and goes before them, and so do
 * dispatches with their stacks; rules come after the sets that they look into.
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

/** What carries out the ruleset on this host, with one of the kernel's firewalls. */
export interface Renderer {
  readonly policies: PolicyOutput;
  readonly drops: DropCounters;
  /** Puts out what is there without any rule; to be called first. */
  start(): void;
  /** The host's own rules in a family; those of before that are not among them stay. */
  setHostRules(family: IpFamily, rules: HostRules): void;
  /** Ports that are published no more, and others that are. */
  changePublished(removed: readonly PublishedPort[], added: readonly PublishedPort[]): void;
  /** Whether the kernel knows which stack judges what a dispatch is about. */
  isDispatched(dispatch: Dispatch): boolean;
  /** Whether a connection with this mark was begun by a published port that lets in. */
  cameByPublishedPort(mark: number): boolean;
}
