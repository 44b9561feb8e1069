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
import { tierEnd, tiersInOrder, type TierSettings } from '../compile/policy-order.ts';
import type { SelectingPolicy } from '../compile/policy-source.ts';
import type { WorkCount } from '../work-count.ts';
import { LabelIndex } from './label-index.ts';
import type { Item, Labels } from './inherited-labels.ts';

/** The tiers of a host endpoint. */
export type HostTiers = Pick<GuardedInterface, 'untracked' | 'preDnat' | 'local' | 'forwarded'>;

/**
 * The policies that select each endpoint of this host, in order. A policy that selects none costs its entry in the
 * index of labels.
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
    return this.#tiersOf(endpoint, 'host');
  }

  /**
   * Returns the tiers of the policies that select a host endpoint, in order, by what they judge. Staged policies are not
   * among them.
   */
  hostTiersOf(endpoint: string): HostTiers {
    const of = (stage: HostStage, isOnForward = false) =>
      this.#tiersOf(
        endpoint,
        stage,
        (policy) => (!isOnForward || policy.appliesOnForward) && !isStaged(policy.id),
      ).map((tier): StackTier => ({
        ...tier,
        ingress: tier.ingress.map((id) => ({ ...id, stage })),
        egress: tier.egress.map((id) => ({ ...id, stage })),
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

  #tiersOf(
    endpoint: string,
    stage: HostStage,
    applies: (policy: SelectingPolicy) => boolean = () => true,
  ): readonly StackTier[] {
    const selecting = [...this.#index.matchedBy(endpoint)]
      .flatMap((key) => this.#policies.get(key) ?? [])
      .filter((policy) => policy.stage === stage && applies(policy));
    return tiersInOrder(selecting, (name) => this.#tiers.get(name)).map(({ name, policies }) => {
      const of = (direction: Direction) =>
        policies.flatMap(({ id, directions }) => (directions.includes(direction) ? [id] : []));
      return {
        name,
        ingress: of('ingress'),
        egress: of('egress'),
        defaultAction: tierEnd(this.#tiers.get(name), stage),
        passLeaves: 'tier',
      };
    });
  }

  #report(policy: string): void {
    this.#work.policiesVisited++;
    for (const endpoint of this.#endpointsOf.ids(policy)) this.#onChange(endpoint);
  }
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
