import type { IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';
import type { HostGuards } from '../../ruleset/host-endpoint.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { IpsetSpec } from './ipset.ts';
import {
  policyKey,
  type Dispatch,
  type Policy,
  type PolicyId,
  type Stack,
} from '../../ruleset/policy.ts';
import { countingSets, filledSet, restMembers } from './drop-chains.ts';
import { bucketOf, bucketSet, restSet, stackSet, workloadsSet } from './names.ts';
import { guardOptions, renderHostGuards, tableOfStage, type TableChain } from './host-guards.ts';
import { policyChainNames, renderPolicy, type RuleCounter } from './policy-chains.ts';
import type { Chain, RenderOptions, TableName } from './rule.ts';
import {
  bucketChainNames,
  renderBucket,
  renderDispatch,
  renderStack,
  stackChainNames,
} from './stack-chains.ts';

/** Output of chains, by default of the filter table, and ipsets. All calls are idempotent. */
export interface ChainOutput {
  setChain(family: IpFamily, chain: Chain, table?: TableName): void;
  removeChain(family: IpFamily, name: string, table?: TableName): void;
  addSet(spec: IpsetSpec): void;
  removeSet(name: string): void;
  addMember(set: string, member: string): void;
  removeMember(set: string, member: string): void;
}

/**
 * Policies, stacks and dispatches as chains and ipsets. The stack of a packet is looked up in sets of (address,
 * interface), first one of sixteen buckets and then the stacks of that bucket: so an endpoint of a known stack is
 * three members, and no chain changes.
 */
export class IptablesPolicies implements PolicyOutput {
  readonly #families: readonly IpFamily[];
  readonly #output: ChainOutput;
  readonly #denyAction: DenyAction;
  /** By family and policy. */
  readonly #counters = new Map<string, readonly RuleCounter[]>();
  /** The stacks of a bucket, by family and bucket. */
  readonly #buckets = new Map<string, Set<string>>();
  /** The chains of host endpoints, and those of their policies by family and policy. */
  readonly #guards = new Map<IpFamily, readonly TableChain[]>();
  readonly #guardPolicies = new Map<string, readonly TableChain[]>();
  /** Number of dispatches with a member, by set and member. */
  readonly #uses = new Map<string, number>();

  constructor(families: readonly IpFamily[], output: ChainOutput, denyAction: DenyAction = 'drop') {
    this.#families = families;
    this.#output = output;
    this.#denyAction = denyAction;
  }

  /** Writes the sets that exist without any policy. */
  start(): void {
    for (const family of this.#families) {
      this.#output.addSet(endpointsSet(workloadsSet(family), family));
      for (const spec of countingSets(family)) this.#output.addSet(spec);
      for (const member of restMembers(family)) this.#output.addMember(restSet(family), member);
      this.#renderRoots(family);
    }
  }

  setPolicy(family: IpFamily, policy: Policy): void {
    const key = `${family} ${policyKey(policy.id)}`;
    const before = this.#counters.get(key) ?? [];
    const { stage } = policy.id;
    const table = tableOfStage(stage);
    const options = this.#options(family);
    const { chains, counters } = renderPolicy(
      policy,
      stage === undefined ? options : guardOptions(options, table),
    );
    this.#counters.set(key, counters);
    const isOfHost = stage !== undefined;
    for (const { set } of counters) this.#output.addSet(filledSet(set, family, isOfHost));
    this.#emit(family, chains, table);
    if (stage !== undefined) {
      this.#guardPolicies.set(
        key,
        chains.map((chain) => ({ table, chain })),
      );
    }
    for (const { set } of before) {
      if (!counters.some((one) => one.set === set)) this.#output.removeSet(set);
    }
  }

  removePolicy(family: IpFamily, id: PolicyId): void {
    const key = `${family} ${policyKey(id)}`;
    this.#remove(family, policyChainNames(id), tableOfStage(id.stage));
    for (const { set } of this.#counters.get(key) ?? []) this.#output.removeSet(set);
    this.#counters.delete(key);
    this.#guardPolicies.delete(key);
  }

  /** Returns all chains of host endpoints and their policies. */
  guardChains(family: IpFamily): readonly TableChain[] {
    const prefix = `${family} `;
    const policies = [...this.#guardPolicies].filter(([key]) => key.startsWith(prefix));
    return [...(this.#guards.get(family) ?? []), ...policies.flatMap(([, chains]) => chains)];
  }

  setStack(family: IpFamily, stack: Stack): void {
    const { name } = stack;
    const bucket = bucketOf(name);
    this.#output.addSet(endpointsSet(stackSet(family, name), family));
    this.#output.addSet(endpointsSet(bucketSet(family, bucket), family));
    this.#emit(family, renderStack(stack, this.#options(family)));
    this.#changeBucket(family, bucket, (stacks) => stacks.add(name));
  }

  removeStack(family: IpFamily, name: string): void {
    this.#changeBucket(family, bucketOf(name), (stacks) => stacks.delete(name));
    this.#remove(family, stackChainNames(name));
    this.#output.removeSet(stackSet(family, name));
  }

  addDispatch(dispatch: Dispatch): void {
    const member = memberOf(dispatch);
    for (const set of setsOf(dispatch)) {
      const key = `${set} ${member}`;
      const uses = this.#uses.get(key) ?? 0;
      this.#uses.set(key, uses + 1);
      if (uses === 0) this.#output.addMember(set, member);
    }
  }

  removeDispatch(dispatch: Dispatch): void {
    const member = memberOf(dispatch);
    for (const set of setsOf(dispatch)) {
      const key = `${set} ${member}`;
      const uses = this.#uses.get(key) ?? 0;
      if (uses > 1) {
        this.#uses.set(key, uses - 1);
        continue;
      }
      this.#uses.delete(key);
      this.#output.removeMember(set, member);
    }
  }

  setHostGuards(family: IpFamily, guards: HostGuards): void {
    const before = this.#guards.get(family) ?? [];
    const now = renderHostGuards(guards, this.#options(family));
    this.#guards.set(family, now);
    for (const { table, chain } of now) this.#output.setChain(family, chain, table);
    for (const { table, chain } of before) {
      const isKept = now.some((one) => one.table === table && one.chain.name === chain.name);
      if (!isKept) this.#output.removeChain(family, chain.name, table);
    }
  }

  addSet(spec: IpsetSpec): void {
    this.#output.addSet(spec);
  }

  removeSet(name: string): void {
    this.#output.removeSet(name);
  }

  addMember(set: string, member: string): void {
    this.#output.addMember(set, member);
  }

  removeMember(set: string, member: string): void {
    this.#output.removeMember(set, member);
  }

  /** Returns what each counting set of a rule counts. */
  counters(): readonly RuleCounter[] {
    return [...this.#counters.values()].flat();
  }

  #changeBucket(family: IpFamily, bucket: string, change: (stacks: Set<string>) => void): void {
    const key = `${family} ${bucket}`;
    const stacks = this.#buckets.get(key) ?? new Set<string>();
    const wasEmpty = stacks.size === 0;
    change(stacks);
    if (stacks.size > 0) {
      this.#buckets.set(key, stacks);
      this.#emit(family, renderBucket(bucket, [...stacks].toSorted(), this.#options(family)));
    } else {
      this.#buckets.delete(key);
      this.#remove(family, bucketChainNames(bucket));
      this.#output.removeSet(bucketSet(family, bucket));
    }
    if (wasEmpty !== (stacks.size === 0)) this.#renderRoots(family);
  }

  #renderRoots(family: IpFamily): void {
    const prefix = `${family} `;
    const buckets = [...this.#buckets.keys()].flatMap((key) =>
      key.startsWith(prefix) ? [key.slice(prefix.length)] : [],
    );
    this.#emit(family, renderDispatch(buckets.toSorted(), this.#options(family)));
  }

  #options(family: IpFamily): RenderOptions {
    return { family, denyAction: this.#denyAction };
  }

  #emit(family: IpFamily, chains: readonly Chain[], table: TableName = 'filter'): void {
    for (const chain of chains) this.#output.setChain(family, chain, table);
  }

  #remove(family: IpFamily, chains: readonly string[], table: TableName = 'filter'): void {
    for (const chain of chains) this.#output.removeChain(family, chain, table);
  }
}

/** Reports whether a dispatch is programmed, by the actual members of the sets. */
export function isDispatched(
  dispatch: Dispatch,
  isHeld: (set: string, member: string) => boolean,
): boolean {
  return setsOf(dispatch).every((set) => isHeld(set, memberOf(dispatch)));
}

/** Returns the sets that a dispatch is a member of: all workloads, its stack, its bucket. */
function setsOf({ family, stack }: Dispatch): readonly string[] {
  return [workloadsSet(family), stackSet(family, stack), bucketSet(family, bucketOf(stack))];
}

function memberOf({ address, interface: name }: Dispatch): string {
  return `${address},${name}`;
}

function endpointsSet(name: string, family: IpFamily): IpsetSpec {
  return { name, family, type: 'net,interface', countsPackets: false };
}
