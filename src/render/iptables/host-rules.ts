import { isDeepStrictEqual } from 'node:util';
import type { HostRules } from '../../ruleset/host-rules.ts';
import {
  blockNames,
  hookPurposes,
  type Block,
  type Condition,
  type HookPurpose,
  type HostRule,
} from '../../ruleset/statement.ts';
import { dropChains } from './drop-chains.ts';
import { blockChain } from './names.ts';
import {
  type Chain,
  type Hook,
  type Match,
  type RenderOptions,
  type Rule,
  type TableName,
} from './rule.ts';
import { isByBytecode, renderConditions, renderHostRule } from './statements.ts';

/** The host's rules of one table: chains, and the hooks that jump to them. */
export interface TableRules {
  readonly table: TableName;
  readonly chains: readonly Chain[];
  readonly hooks: readonly Hook[];
}

/**
 * Where our rules for a purpose are: in a chain that the first or last rule of a built-in chain jumps to, or, without
 * one, in the built-in chain.
 */
interface Place {
  readonly table: TableName;
  readonly hook: Hook['chain'];
  readonly at: 'inserted' | 'appended';
  readonly chain?: string;
}

const places: Readonly<Record<HookPurpose, Place>> = {
  arrival: {
    table: 'raw',
    hook: 'PREROUTING',
    at: 'inserted',
    chain: 'cali-PREROUTING',
  },
  toHost: { table: 'filter', hook: 'INPUT', at: 'inserted', chain: 'cali-INPUT' },
  firstForward: { table: 'filter', hook: 'FORWARD', at: 'inserted' },
  forwardHostEndpoints: {
    table: 'filter',
    hook: 'FORWARD',
    at: 'inserted',
    chain: 'cali-FORWARD-hep',
  },
  beforeDnat: {
    table: 'mangle',
    hook: 'PREROUTING',
    at: 'inserted',
    chain: 'cali-PREROUTING',
  },
  departure: {
    table: 'raw',
    hook: 'OUTPUT',
    at: 'inserted',
    chain: 'cali-OUTPUT',
  },
  forward: {
    table: 'filter',
    hook: 'FORWARD',
    at: 'inserted',
    chain: 'cali-FORWARD',
  },
  afterForward: { table: 'filter', hook: 'FORWARD', at: 'appended' },
  fromHost: { table: 'filter', hook: 'OUTPUT', at: 'inserted', chain: 'cali-OUTPUT' },
  redirectArriving: {
    table: 'nat',
    hook: 'PREROUTING',
    at: 'inserted',
    chain: 'cali-PREROUTING',
  },
  redirectFromHost: { table: 'nat', hook: 'OUTPUT', at: 'inserted', chain: 'cali-OUTPUT' },
  leaving: { table: 'nat', hook: 'POSTROUTING', at: 'appended', chain: 'cali-POSTROUTING' },
};

const tables = ['raw', 'mangle', 'filter', 'nat'] as const;

/** Returns the chains and hooks of the host's rules, by table. */
export function renderHostRules(
  { hooks, blocks }: HostRules,
  options: RenderOptions,
): readonly TableRules[] {
  const hooked = hookPurposes.flatMap((purpose) => {
    const rules = hooks[purpose];
    if (rules === undefined) return [];
    const place = places[purpose];
    const common = place.chain === undefined ? undefined : commonInterfaces(rules);
    const inChain = common === undefined ? rules : rules.map(withoutFirstCondition);
    return [
      {
        place,
        entry: renderConditions(common === undefined ? [] : [common], options.family),
        rules: inChain.flatMap((rule) => renderHostRule(rule, options)),
      },
    ];
  });
  return tables.map((table) => {
    const here = hooked.filter(({ place }) => place.table === table);
    return {
      table,
      chains: [
        ...here.flatMap(hookChain),
        ...blockNames.flatMap((block): readonly Chain[] => {
          const rules = blocks[block];
          const isHere = (block === 'natOutgoing' ? 'nat' : 'filter') === table;
          return isHere && rules !== undefined ? [renderBlock(block, rules, options)] : [];
        }),
        ...(table === 'raw' || table === 'filter' ? dropChains(table, options) : []),
      ],
      hooks: kernelHooks(here),
    };
  });
}

interface Hooked {
  readonly place: Place;
  /** What a packet must match to enter the chain. */
  readonly entry: readonly Match[];
  readonly rules: readonly Rule[];
}

function hookChain({ place: { chain: name }, rules }: Hooked): readonly Chain[] {
  return name === undefined ? [] : [{ name, rules }];
}

/** Returns the interfaces that all rules begin with: packets of others need not enter their chain. */
function commonInterfaces([first, ...others]: readonly HostRule[]): Condition | undefined {
  const [condition] = first?.when ?? [];
  if (condition?.kind !== 'from' && condition?.kind !== 'to') return undefined;
  const isCommon = others.every(({ when }) => isDeepStrictEqual(when[0], condition));
  return isCommon ? condition : undefined;
}

function withoutFirstCondition(rule: HostRule): HostRule {
  return { ...rule, when: rule.when.slice(1) };
}

function kernelHooks(hooked: readonly Hooked[]): readonly Hook[] {
  return [...Map.groupBy(hooked, ({ place }) => place.hook)].map(([chain, here]) => {
    const rules = (at: Place['at']) =>
      here
        .filter(({ place }) => place.at === at)
        .flatMap(({ place, entry, rules: own }): readonly Rule[] =>
          place.chain === undefined
            ? own
            : [{ matches: entry, action: { kind: 'jump', chain: place.chain } }],
        );
    return { chain, inserted: rules('inserted'), appended: rules('appended') };
  });
}

/** A kernel without the bpf match gets the block without the rules that need it. */
function renderBlock(block: Block, rules: readonly HostRule[], options: RenderOptions): Chain {
  const name = blockChain(block);
  const render = (some: readonly HostRule[]) =>
    some.flatMap((rule) => renderHostRule(rule, options));
  if (!rules.some(isByBytecode)) return { name, rules: render(rules) };
  return {
    name,
    rules: render(rules),
    ifRefused: {
      what: withoutBytecode[block] ?? `block ${block}`,
      rules: render(rules.filter((rule) => !isByBytecode(rule))),
    },
  };
}

const relatedWithout = 'ICMP errors of the other end of a flow (they need a rule as any packet)';
const withoutBytecode: Readonly<Partial<Record<Block, string>>> = {
  vxlanToHost:
    'VXLAN packets: those of nodes need a rule of this host, those of other hosts are not dropped',
  forwardedVxlan:
    'VXLAN packets that this host forwards: those of other senders to nodes are not dropped',
  relatedEgress: relatedWithout,
  relatedIngress: relatedWithout,
};
