import type { HostStage } from '../../ruleset/policy.ts';
import type { SelectingPolicy } from './policy-source.ts';

/** What a tier says about its policies; without `order` it is the last. */
export interface TierSettings {
  readonly order?: number;
  readonly defaultAction?: 'Deny' | 'Pass';
}

type PlacedPolicy = Pick<SelectingPolicy, 'id' | 'order' | 'tie'>;

/** The policies of a tier in the order of evaluation. */
export interface OrderedTier<P> {
  readonly name: string;
  readonly policies: readonly P[];
}

/**
 * Returns policies in the order of evaluation, by tier; tiers that do not exist come last. Source: Calico,
 * felix/calc/policy_sorter.go.
 */
export function tiersInOrder<P extends PlacedPolicy>(
  policies: readonly P[],
  settingsOf: (tier: string) => TierSettings | undefined,
): readonly OrderedTier<P>[] {
  return [...Map.groupBy(policies, ({ id }) => id.tier)]
    .map(([name, ofTier]) => ({
      name,
      settings: settingsOf(name),
      policies: ofTier.toSorted(comparePolicies),
    }))
    .toSorted(compareTiers);
}

/**
 * Returns what happens to packets that no policy of a tier decides; a tier that does not exist denies them. Policies
 * before connection tracking and before destination NAT deny by their rules only.
 */
export function tierEnd(tier: TierSettings | undefined, stage: HostStage): 'Deny' | 'Pass' {
  return stage === 'host' ? (tier?.defaultAction ?? 'Deny') : 'Pass';
}

interface PlacedTier {
  readonly name: string;
  readonly settings: TierSettings | undefined;
}

function compareTiers(a: PlacedTier, b: PlacedTier): number {
  const existing = Number(a.settings === undefined) - Number(b.settings === undefined);
  return (
    existing || compareOrders(a.settings?.order, b.settings?.order) || (a.name < b.name ? -1 : 1)
  );
}

function comparePolicies(a: PlacedPolicy, b: PlacedPolicy): number {
  return compareOrders(a.order, b.order) || (a.tie < b.tie ? -1 : 1);
}

function compareOrders(a = Infinity, b = Infinity): number {
  return a === b ? 0 : a - b;
}
