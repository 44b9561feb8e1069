import { addressBits, type IpFamily } from '../../ip/address.ts';
import { cidrFamily, parseNet, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { bgpLimits, parseCommunity, rangeProblem, type Community } from '../../model/bgp.ts';
import type { BgpFilter, BgpFilterRule } from '../../model/kinds/bgp-filter.ts';

/** BGPFilters as conditions and operations, independent of a BGP speaker's syntax. */

/** One condition on a route; a rule applies if all of its conditions are met. */
export type FilterCondition =
  | {
      readonly kind: 'net';
      readonly cidr: Cidr;
      /** `false`: the network itself; `true`: also those inside. */
      readonly isInside: boolean;
      readonly negated: boolean;
      /** Least and greatest prefix length of networks inside. */
      readonly lengths?: readonly [min: number, max: number];
    }
  /** Learned from a BGP peer. */
  | { readonly kind: 'ofPeers' }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'community'; readonly community: Community }
  | { readonly kind: 'asPathPrefix'; readonly numbers: readonly number[] }
  | { readonly kind: 'priority'; readonly value: number }
  | { readonly kind: 'peerType'; readonly isInternal: boolean };

export type FilterOperation =
  | { readonly kind: 'addCommunity'; readonly community: Community }
  | { readonly kind: 'prependAsPath'; readonly numbers: readonly number[] }
  | { readonly kind: 'setPriority'; readonly value: number };

export interface FilterRule {
  readonly conditions: readonly FilterCondition[];
  readonly operations: readonly FilterOperation[];
  readonly accepts: boolean;
}

/** The rules of a filter for one direction and family. */
export interface RouteFilter {
  readonly name: string;
  readonly direction: 'import' | 'export';
  readonly family: IpFamily;
  readonly rules: readonly FilterRule[];
}

const lists = [
  ['importV4', 'import', 4],
  ['exportV4', 'export', 4],
  ['importV6', 'import', 6],
  ['exportV6', 'export', 6],
] as const;

/**
 * Returns the rules of a BGPFilter by direction and family. Throws if a rule has a value that the API does not allow:
 * such a filter would let pass what it was written to stop. Source: Calico v3 API, BGPFilter.
 */
export function compileFilter({ metadata: { name }, spec }: BgpFilter): readonly RouteFilter[] {
  return lists.map(([list, direction, family]) => ({
    name,
    direction,
    family,
    rules: (spec[list] ?? []).map((rule, index) => {
      try {
        return compileRule(rule, family);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw new Error(`spec.${list}.${index}: ${why}`, { cause: error });
      }
    }),
  }));
}

function compileRule(rule: BgpFilterRule, family: IpFamily): FilterRule {
  return {
    conditions: conditionsOf(rule, family),
    operations: (rule.operations ?? []).map((operation): FilterOperation => {
      const { addCommunity, prependASPath, setPriority } = operation;
      if (addCommunity !== undefined) {
        return { kind: 'addCommunity', community: communityOf(addCommunity.value) };
      }
      if (prependASPath !== undefined) {
        return { kind: 'prependAsPath', numbers: prependASPath.prefix };
      }
      if (setPriority !== undefined) {
        return { kind: 'setPriority', value: priorityOf(setPriority.value) };
      }
      throw new Error('operations: one of addCommunity, prependASPath and setPriority is needed');
    }),
    accepts: rule.action === 'Accept',
  };
}

function conditionsOf(rule: BgpFilterRule, family: IpFamily): readonly FilterCondition[] {
  const conditions: FilterCondition[] = [];
  const { cidr = '', matchOperator = '', prefixLength, source = '', peerType = '' } = rule;
  if (cidr !== '') {
    const { min, max } = prefixLength ?? {};
    const net = parseNet(cidr);
    const least = Math.max(min ?? 0, splitCidr(net).prefixLength);
    const greatest = max ?? addressBits(family);
    if (cidrFamily(net) !== family) throw new Error(`cidr: ${net} is not of IPv${family}`);
    if (least > greatest || greatest > addressBits(family)) {
      throw new Error('prefixLength: no network has such a length');
    }
    conditions.push({
      kind: 'net',
      cidr: net,
      isInside: matchOperator === 'In' || matchOperator === 'NotIn',
      negated: matchOperator === 'NotIn' || matchOperator === 'NotEqual',
      ...(min === undefined && max === undefined
        ? {}
        : {
            lengths: [least, greatest] as const,
          }),
    });
  }
  if (source === 'RemotePeers') conditions.push({ kind: 'ofPeers' });
  else if (source !== '') throw new Error(`source: "${source}" is unknown`);
  if (rule.interface !== undefined && rule.interface !== '') {
    if (!/^[^\s"\\]+$/.test(rule.interface)) {
      throw new Error(`interface: "${rule.interface}" is not an interface name`);
    }
    conditions.push({ kind: 'interface', name: rule.interface });
  }
  for (const value of rule.communities?.values ?? []) {
    conditions.push({ kind: 'community', community: communityOf(value) });
  }
  if (rule.asPathPrefix !== undefined && rule.asPathPrefix.length > 0) {
    conditions.push({ kind: 'asPathPrefix', numbers: rule.asPathPrefix });
  }
  if (rule.priority !== undefined) {
    conditions.push({ kind: 'priority', value: priorityOf(rule.priority) });
  }
  if (peerType !== '') conditions.push({ kind: 'peerType', isInternal: peerType === 'iBGP' });
  return conditions;
}

function priorityOf(value: number): number {
  const why = rangeProblem(value, bgpLimits.priority);
  if (why !== undefined) throw new Error(`priority: ${why}`);
  return value;
}

function communityOf(text: string): Community {
  const community = parseCommunity(text);
  if (community === undefined) throw new Error(`"${text}" is not a community aa:nn or aa:nn:mm`);
  return community;
}
