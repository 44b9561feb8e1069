import { IdsByKey } from '../../model/ids-by-key.ts';
import { selectorId } from '../../model/selector/canonical.ts';
import type { GuardedInterface } from '../../ruleset/host-endpoint.ts';
import {
  isStaged,
  type Direction,
  type HostStage,
  type PolicyId,
  type StackTier,
} from '../../ruleset/policy.ts';
import type { SelectingPolicy } from '../compile/policy-source.ts';
import type { WorkCount } from '../work-count.ts';
import { LabelIndex } from './label-index.ts';
import type { Item, Labels } from './labelled-items.ts';

/** What a tier says about its policies; without `order` it is the last. */
interface TierSettings {
  readonly order?: number;
  readonly defaultAction?: 'Deny' | 'Pass';
}

/** The tiers of a host endpoint. */
export type HostTiers = Pick<GuardedInterface, 'untracked' | 'preDnat' | 'local' | 'forwarded'>;

/**
 * The policies that select each endpoint of this host, in order. A policy that selects none costs its entry in the
 * index of labels. Source of the order: Calico, felix/calc/policy_sorter.go.
 */
export class SelectedPolicies {
  readonly #onChange: (endpoint: string) => void;
  readonly #work: WorkCount;
  readonly #index: LabelIndex;
  readonly #policies = new Map<string, SelectingPolicy>();
  readonly #tiers = new Map<string, TierSettings>();
  readonly #endpointsOf = new IdsByKey();
  /** The policies of a tier that select an endpoint. */
  readonly #activeInTier = new IdsByKey();

  /** The listener is notified of each endpoint whose policies, or their order, may have changed. */
  constructor(onChange: (endpoint: string) => void, work: WorkCount) {
    this.#onChange = onChange;
    this.#work = work;
    this.#index = new LabelIndex(
      {
        onMatch: (policy, endpoint) => {
          this.#endpointsOf.add(policy, endpoint);
          this.#activeInTier.add(this.#policies.get(policy)?.id.tier, policy);
          onChange(endpoint);
        },
        onMismatch: (policy, endpoint) => {
          this.#endpointsOf.remove(policy, endpoint);
          if (this.#endpointsOf.size(policy) === 0) {
            this.#activeInTier.remove(this.#policies.get(policy)?.id.tier, policy);
          }
          onChange(endpoint);
        },
      },
      work,
    );
  }

  setEndpoint(id: string, item: Item): void {
    this.#index.setItem(id, item);
  }

  removeEndpoint(id: string): void {
    this.#index.removeItem(id);
  }

  setProfileLabels(profile: string, labels: Labels | undefined): void {
    this.#index.setParent(profile, labels);
  }

  /** Sets a tier; `undefined`: it was deleted. */
  setTier(name: string, tier: TierSettings | undefined): void {
    if (tier === undefined) this.#tiers.delete(name);
    else this.#tiers.set(name, tier);
    for (const policy of this.#activeInTier.ids(name)) this.#report(policy);
  }

  setPolicy(key: string, policy: SelectingPolicy): void {
    const before = this.#policies.get(key);
    if (before !== undefined) {
      if (selectorId(before.selector) !== selectorId(policy.selector)) {
        this.#index.removeSelector(key);
      } else if (!isSamePlace(before, policy)) {
        if (this.#endpointsOf.size(key) > 0) {
          this.#activeInTier.remove(before.id.tier, key);
          this.#activeInTier.add(policy.id.tier, key);
        }
        this.#report(key);
      }
    }
    this.#policies.set(key, policy);
    this.#index.addSelector(key, policy.selector);
  }

  removePolicy(key: string): void {
    this.#index.removeSelector(key);
    this.#policies.delete(key);
  }

  /** Returns the tiers of the policies that select a container's endpoint, in order, staged ones included. */
  tiersOf(endpoint: string): readonly StackTier[] {
    return this.#tiersOf(endpoint, ({ stage }) => stage === 'host');
  }

  /**
   * Returns the tiers of the policies that select a host endpoint, in order, by what they judge. Those before connection
   * tracking and before destination NAT deny by their rules only. Staged policies are not among them.
   */
  hostTiersOf(endpoint: string): HostTiers {
    const of = (stage: HostStage, isOnForward = false) =>
      this.#tiersOf(
        endpoint,
        (policy) =>
          policy.stage === stage &&
          (!isOnForward || policy.appliesOnForward) &&
          !isStaged(policy.id),
      ).map((tier): StackTier => ({
        ...tier,
        ingress: tier.ingress.map((id) => ({ ...id, stage })),
        egress: tier.egress.map((id) => ({ ...id, stage })),
        ...(stage === 'host' ? {} : { defaultAction: 'Pass' }),
      }));
    return {
      untracked: of('untracked'),
      preDnat: of('preDnat'),
      local: of('host'),
      forwarded: of('host', true),
    };
  }

  /** Returns the staged policies that select an endpoint of this host. */
  stagedHere(): readonly PolicyId[] {
    return [...this.#policies]
      .filter(([key, { id }]) => isStaged(id) && this.#endpointsOf.size(key) > 0)
      .map(([, { id }]) => id);
  }

  #tiersOf(endpoint: string, applies: (policy: SelectingPolicy) => boolean): readonly StackTier[] {
    const selecting = [...this.#index.matchedBy(endpoint)]
      .flatMap((key) => this.#policies.get(key) ?? [])
      .filter(applies);
    return [...Map.groupBy(selecting, ({ id }) => id.tier)]
      .toSorted(([a], [b]) => this.#compareTiers(a, b))
      .map(([name, policies]) => {
        const sorted = policies.toSorted(comparePolicies);
        const of = (direction: Direction) =>
          sorted.flatMap(({ id, directions }) => (directions.includes(direction) ? [id] : []));
        return {
          name,
          ingress: of('ingress'),
          egress: of('egress'),
          defaultAction: this.#tiers.get(name)?.defaultAction ?? 'Deny',
          passLeaves: 'tier',
        };
      });
  }

  /** Tiers that do not exist come last. */
  #compareTiers(a: string, b: string): number {
    const [first, second] = [this.#tiers.get(a), this.#tiers.get(b)];
    const existing = Number(first === undefined) - Number(second === undefined);
    return existing || compareOrders(first?.order, second?.order) || (a < b ? -1 : 1);
  }

  #report(policy: string): void {
    this.#work.policiesVisited++;
    for (const endpoint of this.#endpointsOf.ids(policy)) this.#onChange(endpoint);
  }
}

function comparePolicies(a: SelectingPolicy, b: SelectingPolicy): number {
  return compareOrders(a.order, b.order) || (a.tie < b.tie ? -1 : 1);
}

function compareOrders(a = Infinity, b = Infinity): number {
  return a === b ? 0 : a - b;
}

function isSamePlace(a: SelectingPolicy, b: SelectingPolicy): boolean {
  return (
    a.id.tier === b.id.tier &&
    a.order === b.order &&
    a.tie === b.tie &&
    a.stage === b.stage &&
    a.appliesOnForward === b.appliesOnForward &&
    a.directions.join() === b.directions.join()
  );
}
