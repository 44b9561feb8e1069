import type { HostRules } from '../../ruleset/host-rules.ts';
import {
  blockNames,
  hookPurposes,
  type Block,
  type HookPurpose,
  type HostRule,
} from '../../ruleset/statement.ts';
import { dropChains } from './drop-chains.ts';
import { blockChain } from './names.ts';
import {
  allMarks,
  type Chain,
  type Hook,
  type RenderOptions,
  type Rule,
  type TableName,
} from './rule.ts';
import { isByBytecode, renderHostRule } from './statements.ts';

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
  /** Whether our marks are first used here: values left by other programs are ignored. */
  readonly begins?: true;
}

const places: Readonly<Record<HookPurpose, Place>> = {
  arrival: {
    table: 'raw',
    hook: 'PREROUTING',
    at: 'inserted',
    chain: 'cali-PREROUTING',
    begins: true,
  },
  toHost: { table: 'filter', hook: 'INPUT', at: 'inserted', chain: 'cali-INPUT' },
  forward: {
    table: 'filter',
    hook: 'FORWARD',
    at: 'inserted',
    chain: 'cali-FORWARD',
    begins: true,
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

const tables = ['raw', 'filter', 'nat'] as const;

/** Returns the chains and hooks of the host's rules, by table. */
export function renderHostRules(
  { hooks, blocks }: HostRules,
  options: RenderOptions,
): readonly TableRules[] {
  const hooked = hookPurposes.flatMap((purpose) => {
    const rules = hooks[purpose]?.flatMap((rule) => renderHostRule(rule, options));
    return rules === undefined ? [] : [{ place: places[purpose], rules }];
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
        ...(table === 'nat' ? [] : dropChains(table, options)),
      ],
      hooks: kernelHooks(here),
    };
  });
}

interface Hooked {
  readonly place: Place;
  readonly rules: readonly Rule[];
}

function hookChain({ place: { chain: name, begins }, rules }: Hooked): readonly Chain[] {
  if (name === undefined) return [];
  return [{ name, rules: begins === true ? [clearMarks, ...rules] : rules }];
}

const clearMarks: Rule = { matches: [], action: { kind: 'clearMark', bits: allMarks } };

function kernelHooks(hooked: readonly Hooked[]): readonly Hook[] {
  return [...Map.groupBy(hooked, ({ place }) => place.hook)].map(([chain, here]) => {
    const rules = (at: Place['at']) =>
      here
        .filter(({ place }) => place.at === at)
        .flatMap(({ place, rules: own }): readonly Rule[] =>
          place.chain === undefined
            ? own
            : [{ matches: [], action: { kind: 'jump', chain: place.chain } }],
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
  const what =
    block === 'vxlanToHost'
      ? 'VXLAN packets: those of nodes need a rule of this host, those of other hosts are not dropped'
      : 'ICMP errors of the other end of a flow (they need a rule as any packet)';
  return {
    name,
    rules: render(rules),
    ifRefused: { what, rules: render(rules.filter((rule) => !isByBytecode(rule))) },
  };
}
