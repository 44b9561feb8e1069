import type { IpFamily } from '../../ip/address.ts';
import {
  anyInterface,
  failsafeRules,
  forwardedRules,
  guardedStages,
  localRules,
  preDnatRules,
  untrackedFailsafeRules,
  untrackedRules,
  type Failsafes,
  type GuardedInterface,
  type HostGuards,
} from '../../ruleset/host-endpoint.ts';
import { workloadInterfacePrefix } from '../../ruleset/names.ts';
import type { Direction, HostStage } from '../../ruleset/policy.ts';
import type { Block, HostRule } from '../../ruleset/statement.ts';
import { renderJudgement, type Decided } from './judgement.ts';
import { blockChain, guardChain, type GuardBlock } from './names.ts';
import type { Chain, Match, RenderOptions, Rule, TableName } from './rule.ts';
import { verdictChains } from './verdict-chains.ts';

/** The tables that judge packets of host endpoints. */
const guardTables = ['raw', 'mangle', 'filter'] as const satisfies readonly TableName[];

/** Returns the table of the policies of a stage. */
export function tableOfStage(stage: HostStage | undefined): TableName {
  return stage === 'untracked' ? 'raw' : stage === 'preDnat' ? 'mangle' : 'filter';
}

/** Returns the options for chains of host endpoints: packets can be rejected in the filter table only. */
export function guardOptions(options: RenderOptions, table: TableName): RenderOptions {
  return {
    ...options,
    isOfHost: true,
    ...(table === 'filter' ? {} : { denyAction: 'drop' }),
  };
}

interface Judgement {
  readonly table: (typeof guardTables)[number];
  readonly block: GuardBlock;
  readonly direction: Direction;
  readonly rules: (one: GuardedInterface, family: IpFamily) => readonly HostRule[];
  readonly isUsed: (guards: HostGuards) => boolean;
}

const isUsed = (guards: HostGuards) => guardedStages(guards) !== undefined;
const judgements: readonly Judgement[] = [
  {
    table: 'filter',
    block: 'fromHostEndpoint',
    direction: 'ingress',
    rules: (one, family) => localRules(one, 'ingress', family),
    isUsed,
  },
  {
    table: 'filter',
    block: 'toHostEndpoint',
    direction: 'egress',
    rules: (one, family) => localRules(one, 'egress', family),
    isUsed,
  },
  {
    table: 'filter',
    block: 'forwardedFromHostEndpoint',
    direction: 'ingress',
    rules: (one) => forwardedRules(one, 'ingress'),
    isUsed: (guards) => guardedStages(guards)?.isForwarded === true,
  },
  {
    table: 'filter',
    block: 'forwardedToHostEndpoint',
    direction: 'egress',
    rules: (one) => forwardedRules(one, 'egress'),
    isUsed: (guards) => guardedStages(guards)?.isForwarded === true,
  },
  {
    table: 'mangle',
    block: 'preDnatFromHostEndpoint',
    direction: 'ingress',
    rules: preDnatRules,
    isUsed: (guards) => guardedStages(guards)?.isPreDnat === true,
  },
  {
    table: 'raw',
    block: 'untrackedFromHostEndpoint',
    direction: 'ingress',
    rules: (one, family) => untrackedRules(one, 'ingress', family),
    isUsed: (guards) => guardedStages(guards)?.isUntracked === true,
  },
  {
    table: 'raw',
    block: 'untrackedToHostEndpoint',
    direction: 'egress',
    rules: (one, family) => untrackedRules(one, 'egress', family),
    isUsed: (guards) => guardedStages(guards)?.isUntracked === true,
  },
];

interface FailsafeBlock {
  readonly block: Block;
  readonly rules: (failsafes: Failsafes, family: IpFamily) => readonly HostRule[];
}

const failsafeBlocks: Readonly<Record<(typeof guardTables)[number], readonly FailsafeBlock[]>> = {
  filter: [
    { block: 'failsafeInbound', rules: (ports, family) => failsafeRules(ports, 'ingress', family) },
    { block: 'failsafeOutbound', rules: (ports, family) => failsafeRules(ports, 'egress', family) },
  ],
  mangle: [
    {
      block: 'preDnatFailsafeInbound',
      rules: (ports, family) => failsafeRules(ports, 'ingress', family),
    },
  ],
  raw: [
    {
      block: 'untrackedFailsafeInbound',
      rules: (ports, family) => untrackedFailsafeRules(ports, 'ingress', family),
    },
    {
      block: 'untrackedFailsafeOutbound',
      rules: (ports, family) => untrackedFailsafeRules(ports, 'egress', family),
    },
  ],
};

/** Policies of another stage may have passed on a packet that they did not allow. */
const unknown: Decided = { allowed: false, passed: true };

/** A chain with its table. */
export interface TableChain {
  readonly table: TableName;
  readonly chain: Chain;
}

/**
 * Returns the chains of host endpoints: a dispatch by interface to the chains of each, and the failsafe ports. Source of
 * the scheme and of the names: Calico, felix/rules/endpoints.go and dispatch.go.
 */
export function renderHostGuards(
  guards: HostGuards,
  options: RenderOptions,
): readonly TableChain[] {
  const { family } = options;
  return guardTables.flatMap((table) => {
    const here = judgements.filter((one) => one.table === table && one.isUsed(guards));
    if (here.length === 0) return [];
    const ofTable = guardOptions(options, table);
    const render = (rules: readonly HostRule[]) => renderJudgement(rules, ofTable, unknown);
    const failsafes = failsafeBlocks[table].map(({ block, rules }) => ({
      name: blockChain(block),
      rules: render(rules(guards.failsafes, family)),
    }));
    const judging = here.flatMap(({ block, direction, rules }): readonly Chain[] => [
      dispatchChain(guards.interfaces, block, direction),
      ...guards.interfaces.map((one) => guardedChain(one, block, render(rules(one, family)))),
    ]);
    // Those of the filter table are there for containers.
    const verdicts = table === 'filter' ? [] : verdictChains();
    return [...verdicts, ...failsafes, ...judging].map((chain) => ({ table, chain }));
  });
}

/** Without its policies, only connections, and packets to failsafe ports pass. */
function guardedChain(
  { interface: name }: GuardedInterface,
  block: GuardBlock,
  rules: readonly Rule[],
): Chain {
  const first = rules.findIndex(({ action }) => action.kind === 'clearMark');
  return {
    name: guardChain(block, name),
    rules,
    ifRefused: {
      what: `policy of the host endpoint of ${name === anyInterface ? 'all interfaces' : name} (what starts is denied)`,
      rules: [
        ...rules.slice(0, Math.max(first, 0)),
        { matches: [], action: { kind: 'drop' }, comment: 'Refused by the kernel' },
      ],
    },
  };
}

function dispatchChain(
  interfaces: readonly GuardedInterface[],
  block: GuardBlock,
  direction: Direction,
): Chain {
  const by = (name: string): Match => ({
    kind: direction === 'ingress' ? 'inInterface' : 'outInterface',
    name,
  });
  return {
    name: blockChain(block),
    rules: interfaces.flatMap(({ interface: name }): readonly Rule[] => {
      const chain = guardChain(block, name);
      if (name !== anyInterface) return [{ matches: [by(name)], action: { kind: 'goto', chain } }];
      return [
        { matches: [by('lo')], action: { kind: 'return' }, comment: 'Of the host itself' },
        {
          matches: [by(`${workloadInterfacePrefix}+`)],
          action: { kind: 'return' },
          comment: 'Interfaces of containers',
        },
        { matches: [], action: { kind: 'goto', chain } },
      ];
    }),
  };
}
