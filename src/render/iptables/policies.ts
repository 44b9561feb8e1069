import type { IpFamily } from '../../ip/address.ts';
import type { DenyAction } from '../../ruleset/drop-reasons.ts';
import type { HostGuards } from '../../ruleset/host-endpoint.ts';
import type { PolicyOutput } from '../../ruleset/renderer.ts';
import type { IpsetSpec } from './ipset.ts';
import {
  directions,
  policyKey,
  type Direction,
  type Dispatch,
  type Policy,
  type PolicyId,
  type Stack,
} from '../../ruleset/policy.ts';
import { countingSets, filledSet, restMembers } from './drop-chains.ts';
import { bucketOf, bucketSet, restSet, stackChain, stackSet, workloadsSet } from './names.ts';
import { guardOptions, renderHostGuards, tableOfStage, type TableChain } from './host-guards.ts';
import { renderPolicy, type RenderedPolicy, type RuleCounter } from './policy-chains.ts';
import type { Chain, RenderOptions, TableName } from './rule.ts';
import {
  bucketChainNames,
  renderBucket,
  renderDispatch,
  renderStack,
  type BucketStack,
} from './stack-chains.ts';
import { UseCounts } from './use-counts.ts';

/** Output of chains, by default of the filter table, and ipsets. All calls are idempotent. */
export interface ChainOutput {
  setChain(family: IpFamily, chain: Chain, table?: TableName): void;
  removeChain(family: IpFamily, name: string, table?: TableName): void;
  addSet(spec: IpsetSpec): void;
  removeSet(name: string): void;
  addMember(set: string, member: string): void;
  removeMember(set: string, member: string): void;
}

interface PlacedStack extends BucketStack {
  readonly stack: Stack;
}

/** A policy in a family, and what has been emitted of it. */
interface Emitted extends RenderedPolicy {
  readonly policy: Policy;
}

/**
 * Policies, stacks and dispatches as chains and ipsets. The stack of a packet is looked up in sets of (address,
 * interface), first one of sixteen buckets and then the stacks of that bucket: so an endpoint of a known stack is
 * three members, and no chain changes.
 *
 * Each change of a legacy table costs the number of its chains. So stacks that are equal in a direction share the chain of
 * that direction, and a policy has a chain only for the directions in which a stack contains it.
 */
export class IptablesPolicies implements PolicyOutput {
  readonly #families: readonly IpFamily[];
  readonly #output: ChainOutput;
  readonly #denyAction: DenyAction;
  /** By family and policy. */
  readonly #policies = new Map<string, Emitted>();
  /** By family and name. */
  readonly #stacks = new Map<string, PlacedStack>();
  /** Stacks that have a chain, by family and chain. */
  readonly #chainUses = new UseCounts();
  /** Chains of stacks that lead to a policy, by direction, family and policy. */
  readonly #policyUses = new UseCounts();
  /** The stacks of a bucket by name, by family and bucket. */
  readonly #buckets = new Map<string, Map<string, PlacedStack>>();
  readonly #guards = new Map<IpFamily, readonly TableChain[]>();
  /** Dispatches with a member, by set and member. */
  readonly #memberUses = new UseCounts();

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
    const key = policyIn(family, policy.id);
    const { chains = [], counters = [] } = this.#policies.get(key) ?? {};
    this.#policies.set(key, { policy, chains, counters });
    this.#writePolicy(family, key);
  }

  removePolicy(family: IpFamily, id: PolicyId): void {
    const key = policyIn(family, id);
    const { chains = [], counters = [] } = this.#policies.get(key) ?? {};
    for (const { name } of chains) this.#output.removeChain(family, name, tableOfStage(id.stage));
    for (const { set } of counters) this.#output.removeSet(set);
    this.#policies.delete(key);
  }

  /** Returns all chains of host endpoints and their policies. */
  guardChains(family: IpFamily): readonly TableChain[] {
    const prefix = `${family} `;
    const policies = [...this.#policies].flatMap(([key, { policy, chains }]) => {
      const { stage } = policy.id;
      if (stage === undefined || !key.startsWith(prefix)) return [];
      return chains.map((chain) => ({ table: tableOfStage(stage), chain }));
    });
    return [...(this.#guards.get(family) ?? []), ...policies];
  }

  setStack(family: IpFamily, stack: Stack): void {
    const placed = placedStack(stack);
    const { name } = placed;
    const bucket = bucketOf(name);
    const before = this.#stacks.get(`${family} ${name}`);
    this.#output.addSet(endpointsSet(stackSet(family, name), family));
    this.#output.addSet(endpointsSet(bucketSet(family, bucket), family));
    this.#stacks.set(`${family} ${name}`, placed);
    for (const direction of directions) this.#useChain(family, placed, direction);
    this.#changeBucket(family, bucket, (stacks) => stacks.set(name, placed));
    if (before !== undefined) this.#releaseChains(family, before);
  }

  removeStack(family: IpFamily, name: string): void {
    const stack = this.#stacks.get(`${family} ${name}`);
    this.#stacks.delete(`${family} ${name}`);
    this.#changeBucket(family, bucketOf(name), (stacks) => stacks.delete(name));
    if (stack !== undefined) this.#releaseChains(family, stack);
    this.#output.removeSet(stackSet(family, name));
  }

  addDispatch(dispatch: Dispatch): void {
    const member = memberOf(dispatch);
    for (const set of setsOf(dispatch)) {
      if (this.#memberUses.add(`${set} ${member}`)) this.#output.addMember(set, member);
    }
  }

  removeDispatch(dispatch: Dispatch): void {
    const member = memberOf(dispatch);
    for (const set of setsOf(dispatch)) {
      if (this.#memberUses.remove(`${set} ${member}`)) this.#output.removeMember(set, member);
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
    return [...this.#policies.values()].flatMap((one) => one.counters);
  }

  /** Emits the chain of a stack in a direction, unless another stack has it. */
  #useChain(family: IpFamily, { stack, chains }: PlacedStack, direction: Direction): void {
    if (!this.#chainUses.add(`${family} ${chains[direction]}`)) return;
    for (const id of policiesOf(stack, direction)) {
      const key = policyIn(family, id);
      if (this.#policyUses.add(`${direction} ${key}`)) this.#writePolicy(family, key);
    }
    this.#emit(family, [renderStack(stack, direction, this.#options(family))]);
  }

  #releaseChains(family: IpFamily, { stack, chains }: PlacedStack): void {
    for (const direction of directions) {
      const chain = chains[direction];
      if (!this.#chainUses.remove(`${family} ${chain}`)) continue;
      this.#remove(family, [chain]);
      for (const id of policiesOf(stack, direction)) {
        const key = policyIn(family, id);
        if (this.#policyUses.remove(`${direction} ${key}`)) this.#writePolicy(family, key);
      }
    }
  }

  /** Emits the chains of a policy to which others lead, and removes the others. */
  #writePolicy(family: IpFamily, key: string): void {
    const before = this.#policies.get(key);
    if (before === undefined) return;
    const { policy } = before;
    const { stage } = policy.id;
    const table = tableOfStage(stage);
    const options = this.#options(family);
    const now =
      stage === undefined
        ? renderPolicy(
            policy,
            options,
            directions.filter((direction) => this.#policyUses.isUsed(`${direction} ${key}`)),
          )
        : renderPolicy(policy, guardOptions(options, table));
    this.#policies.set(key, { policy, ...now });
    const isOfHost = stage !== undefined;
    for (const { set } of now.counters) this.#output.addSet(filledSet(set, family, isOfHost));
    this.#emit(family, now.chains, table);
    for (const { name } of before.chains) {
      if (!now.chains.some((one) => one.name === name))
        this.#output.removeChain(family, name, table);
    }
    for (const { set } of before.counters) {
      if (!now.counters.some((one) => one.set === set)) this.#output.removeSet(set);
    }
  }

  #changeBucket(
    family: IpFamily,
    bucket: string,
    change: (stacks: Map<string, PlacedStack>) => void,
  ): void {
    const key = `${family} ${bucket}`;
    const stacks = this.#buckets.get(key) ?? new Map<string, PlacedStack>();
    const wasEmpty = stacks.size === 0;
    change(stacks);
    if (stacks.size > 0) {
      this.#buckets.set(key, stacks);
      const sorted = [...stacks.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
      this.#emit(family, renderBucket(bucket, sorted, this.#options(family)));
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

  #remove(family: IpFamily, chains: readonly string[]): void {
    for (const chain of chains) this.#output.removeChain(family, chain);
  }
}

/** Reports whether a dispatch is programmed, by the actual members of the sets. */
export function isDispatched(
  dispatch: Dispatch,
  isHeld: (set: string, member: string) => boolean,
): boolean {
  return setsOf(dispatch).every((set) => isHeld(set, memberOf(dispatch)));
}

function placedStack(stack: Stack): PlacedStack {
  const chains = { ingress: stackChain('ingress', stack), egress: stackChain('egress', stack) };
  return { name: stack.name, stack, chains };
}

function policyIn(family: IpFamily, id: PolicyId): string {
  return `${family} ${policyKey(id)}`;
}

/** Returns the policies of a stack in a direction, each once. */
function policiesOf({ tiers }: Stack, direction: Direction): readonly PolicyId[] {
  const all = tiers.flatMap((tier) => tier[direction]);
  return [...new Map(all.map((id) => [policyKey(id), id])).values()];
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
