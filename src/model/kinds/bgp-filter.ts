import { z } from 'zod';
import { cidrFamily, splitCidr } from '../../ip/cidr.ts';
import { asNumber, bgpLimits, communityProblem, rangeProblem } from '../bgp.ts';
import { net, resource } from '../fields.ts';
import { nameColumn, resourceType, type Problem, type ResourceType } from '../resource-type.ts';

const filterRule = z.looseObject({
  cidr: z.exactOptional(z.union([net, z.literal('')])),
  prefixLength: z.exactOptional(
    z.looseObject({
      min: z.exactOptional(z.int().min(0).max(128)),
      max: z.exactOptional(z.int().min(0).max(128)),
    }),
  ),
  source: z.exactOptional(z.string()),
  interface: z.exactOptional(z.string()),
  matchOperator: z.exactOptional(z.enum(['Equal', 'NotEqual', 'In', 'NotIn', ''])),
  peerType: z.exactOptional(z.enum(['eBGP', 'iBGP', ''])),
  communities: z.exactOptional(z.looseObject({ values: z.array(z.string()) })),
  asPathPrefix: z.exactOptional(z.array(asNumber)),
  priority: z.exactOptional(z.int()),
  action: z.enum(['Accept', 'Reject']),
  operations: z.exactOptional(
    z.array(
      z.looseObject({
        addCommunity: z.exactOptional(z.looseObject({ value: z.string() })),
        prependASPath: z.exactOptional(z.looseObject({ prefix: z.array(asNumber) })),
        setPriority: z.exactOptional(z.looseObject({ value: z.int() })),
      }),
    ),
  ),
});

export type BgpFilterRule = z.infer<typeof filterRule>;

const rules = z.exactOptional(z.array(filterRule));
const lists = ['exportV4', 'importV4', 'exportV6', 'importV6'] as const;

const bgpFilter = resource(
  'BGPFilter',
  z.looseObject({ exportV4: rules, importV4: rules, exportV6: rules, importV6: rules }),
);

/** Which routes BGP peers are told and taken from. */
export type BgpFilter = z.infer<typeof bgpFilter>;

export const bgpFilterType: ResourceType<BgpFilter> = resourceType({
  kind: 'BGPFilter',
  plural: 'bgpfilters',
  meaning: 'import and export filter for BGP peers',
  schema: bgpFilter,
  columns: [
    nameColumn,
    ...lists.map((list) => ({
      header: `num${list}`,
      cell: ({ spec }: BgpFilter) => String(spec[list]?.length ?? 0),
    })),
  ],
  validate: ({ spec }) => {
    for (const list of lists) {
      for (const [index, rule] of (spec[list] ?? []).entries()) {
        const problem = ruleProblem(rule, list.endsWith('V4') ? 4 : 6);
        if (problem !== undefined) {
          return { field: `spec.${list}.${index}.${problem.field}`, why: problem.why };
        }
      }
    }
    return undefined;
  },
});

const operationNames = ['addCommunity', 'prependASPath', 'setPriority'] as const;

/** Rules: the CEL rules of the Calico v3 API, `BGPFilterRuleV4`. */
function ruleProblem(rule: BgpFilterRule, family: 4 | 6): Problem | undefined {
  const { cidr = '', matchOperator = '', prefixLength, operations = [] } = rule;
  if ((cidr === '') !== (matchOperator === '')) {
    return { field: 'matchOperator', why: 'and cidr go together' };
  }
  if (cidr !== '' && cidrFamily(cidr) !== family) {
    return { field: 'cidr', why: `must be of IPv${family}` };
  }
  if (prefixLength !== undefined && cidr === '') {
    return { field: 'prefixLength', why: 'needs a cidr' };
  }
  const longest = family === 4 ? 32 : 128;
  const { min = 0, max = longest } = prefixLength ?? {};
  const shortest = cidr === '' ? 0 : splitCidr(cidr).prefixLength;
  if (max > longest || max < shortest || min > max) {
    const why = `must be from ${shortest} to ${longest}, min not above max`;
    return { field: 'prefixLength', why };
  }
  if (operations.length > 0 && rule.action !== 'Accept') {
    return { field: 'operations', why: 'need action Accept' };
  }
  if (!['', 'RemotePeers'].includes(rule.source ?? '')) {
    return { field: 'source', why: 'must be RemotePeers' };
  }
  if ((rule.communities?.values.length ?? 1) !== 1) {
    return { field: 'communities', why: 'must have one value' };
  }
  for (const [index, operation] of operations.entries()) {
    const set = operationNames.filter((name) => operation[name] !== undefined);
    if (set.length !== 1) {
      return { field: `operations.${index}`, why: `must be one of ${operationNames.join(', ')}` };
    }
  }
  const priorities = [rule.priority, ...operations.map(({ setPriority }) => setPriority?.value)];
  const priority = priorities.map((one) => rangeProblem(one, bgpLimits.priority)).find(Boolean);
  if (priority !== undefined) return { field: 'priority', why: priority };
  const communities = [
    ...(rule.communities?.values ?? []),
    ...operations.flatMap(({ addCommunity }) => addCommunity?.value ?? []),
  ];
  const wrong = communityProblem(communities);
  return wrong === undefined ? undefined : { field: 'communities', why: wrong };
}
