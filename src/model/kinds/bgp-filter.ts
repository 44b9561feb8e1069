import { z } from 'zod';
import { cidrFamily } from '../../ip/cidr.ts';
import { asNumber, isCommunity } from '../bgp.ts';
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
        addCommunity: z.exactOptional(z.unknown()),
        prependASPath: z.exactOptional(z.unknown()),
        setPriority: z.exactOptional(z.unknown()),
      }),
    ),
  ),
});

type FilterRule = z.infer<typeof filterRule>;

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
  unenforced: { isPolicy: false },
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

/** Rules: the CEL rules of the Calico v3 API, `BGPFilterRuleV4`. */
function ruleProblem(rule: FilterRule, family: 4 | 6): Problem | undefined {
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
  if (max > longest || min > max) {
    return { field: 'prefixLength', why: `must be from 0 to ${longest}, min not above max` };
  }
  if (operations.length > 0 && rule.action !== 'Accept') {
    return { field: 'operations', why: 'need action Accept' };
  }
  const wrong = rule.communities?.values.find((value) => !isCommunity(value));
  return wrong === undefined
    ? undefined
    : { field: 'communities', why: `"${wrong}" is not a community aa:nn or aa:nn:mm` };
}
