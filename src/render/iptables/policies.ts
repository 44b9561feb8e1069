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
import { bucketChain, bucketOf, bucketSet, restSet, stackSet, workloadsSet } from './names.ts';
import { guardOptions, renderHostGuards, tableOfStage, type TableChain } from './host-guards.ts';
import { renderPolicy, type RenderedPolicy, type RuleCounter } from './policy-chains.ts';
import type { Chain, RenderOptions, TableName } from './rule.ts';
import {
  bucketTarget,
  renderBucket,
  renderDispatch,
  stackChains,
  type BucketStack,
  type StackChain,
} from './stack-chains.ts';
import { UseCounts } from './use-counts.ts';
import { verdictChains } from './verdict-chains.ts';

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
  readonly all: Readonly<Record<Direction, readonly StackChain[]>>;
}

interface Bucket {
  /** By name. */
  readonly stacks: Map<string, PlacedStack>;
  /** The chains to which the dispatch leads. */
  readonly targets: Readonly<Record<Direction, string>>;
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
 * Each change of a legacy table costs the number of its rules and chains. So stacks that are equal in a direction share
 * the chain of that direction, and those that go on equally behind their first tier share the rest; stacks of a bucket
 * that have the same chain are not looked up; and a policy has a chain only for the directions in which a stack
 * contains it.
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
  /** By family and bucket. */
  readonly #buckets = new Map<string, Bucket>();
  readonly #guards = new Map<IpFamily, readonly TableChain[]>();
  /** Dispatches with a member, by set and member. */
  readonly #memberUses = new UseCounts();

  constructor(families: readonly IpFamily[], output: ChainOutput, denyAction: DenyAction = 'drop') {
    this.#families = families;
    this.#output = output;
    this.#denyAction = denyAction;
  }

  /** Writes the sets and chains that exist without any policy. */
  start(): void {
    for (const family of this.#families) {
      this.#output.addSet(endpointsSet(workloadsSet(family), family));
      for (const spec of countingSets(family)) this.#output.addSet(spec);
      for (const member of restMembers(family)) this.#output.addMember(restSet(family), member);
      this.#emit(family, verdictChains());
      for (const direction of directions) this.#renderRoot(family, direction);
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
    const guards = this.#guards.get(family) ?? [];
    if (!guards.some(({ table }) => table === 'filter')) return [...guards, ...policies];
    const verdicts = verdictChains().map((chain) => ({ table: 'filter', chain }) as const);
    return [...verdicts, ...guards, ...policies];
  }

  setStack(family: IpFamily, stack: Stack): void {
    const placed = placedStack(stack);
    const { name } = placed;
    const bucket = bucketOf(name);
    const before = this.#stacks.get(`${family} ${name}`);
    this.#output.addSet(endpointsSet(stackSet(family, name), family));
    this.#output.addSet(endpointsSet(bucketSet(family, bucket), family));
    this.#stacks.set(`${family} ${name}`, placed);
    for (const direction of directions) {
      for (const chain of placed.all[direction]) this.#useChain(family, chain, direction);
    }
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

  /** Emits a chain of a stack, unless another stack has it. */
  #useChain(family: IpFamily, chain: StackChain, direction: Direction): void {
    if (!this.#chainUses.add(`${family} ${chain.name}`)) return;
    for (const id of chain.policies()) {
      const key = policyIn(family, id);
      if (this.#policyUses.add(`${direction} ${key}`)) this.#writePolicy(family, key);
    }
    this.#emit(family, [chain.render(this.#options(family))]);
  }

  #releaseChains(family: IpFamily, { all }: PlacedStack): void {
    for (const direction of directions) {
      for (const { name, policies } of all[direction]) {
        if (!this.#chainUses.remove(`${family} ${name}`)) continue;
        this.#remove(family, [name]);
        for (const id of policies()) {
          const key = policyIn(family, id);
          if (this.#policyUses.remove(`${direction} ${key}`)) this.#writePolicy(family, key);
        }
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
    const stacks = this.#buckets.get(key)?.stacks ?? new Map<string, PlacedStack>();
    change(stacks);
    if (stacks.size === 0) {
      this.#buckets.delete(key);
      this.#output.removeSet(bucketSet(family, bucket));
    }
    const sorted = [...stacks.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const targets = this.#buckets.get(key)?.targets;
    const target = (direction: Direction) => bucketTarget(direction, bucket, sorted);
    const now = { ingress: target('ingress'), egress: target('egress') };
    if (stacks.size > 0) this.#buckets.set(key, { stacks, targets: now });
    for (const direction of directions) {
      const looked = bucketChain(direction, bucket);
      if (stacks.size > 0 && now[direction] === looked) {
        this.#emit(family, [renderBucket(direction, bucket, sorted, this.#options(family))]);
      } else {
        this.#remove(family, [looked]);
      }
      if (stacks.size === 0 || targets?.[direction] !== now[direction]) {
        this.#renderRoot(family, direction);
      }
    }
  }

  #renderRoot(family: IpFamily, direction: Direction): void {
    const prefix = `${family} `;
    const targets = [...this.#buckets].flatMap(([key, { targets: of }]) =>
      key.startsWith(prefix) ? [[key.slice(prefix.length), of[direction]] as const] : [],
    );
    const sorted = targets.toSorted(([a], [b]) => (a < b ? -1 : 1));
    this.#emit(family, [renderDispatch(direction, sorted, this.#options(family))]);
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
  const all = { ingress: stackChains(stack, 'ingress'), egress: stackChains(stack, 'egress') };
  const chains = { ingress: all.ingress[0].name, egress: all.egress[0].name };
  return { name: stack.name, chains, all };
}

function policyIn(family: IpFamily, id: PolicyId): string {
  return `${family} ${policyKey(id)}`;
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
