import type { IpFamily } from '../../ip/address.ts';
import { bgpPeersSet, natSets, tunnelNodesSet } from '../../ruleset/names.ts';
import type { Condition, HostRule, Interfaces, Statement } from '../../ruleset/statement.ts';
import { countAndDrop } from './count-and-drop.ts';
import {
  allowChain,
  blockChain,
  dropChain,
  hostPortsChain,
  reasonSet,
  workloadsSet,
} from './names.ts';
import {
  allMarks,
  connectionMarkBits,
  markBits,
  type Action,
  type Match,
  type RenderOptions,
  type Rule,
} from './rule.ts';

/**
 * Renders a rule of the host as rules of a chain; a dispatch becomes the rules that look up the stack. Tiers are rendered
 * by `renderJudgement`.
 */
export function renderHostRule(
  { when, action, comment }: HostRule,
  options: RenderOptions,
  dispatch: readonly Rule[] = [],
): readonly Rule[] {
  if (action.kind === 'dispatch') return dispatch;
  if (action.kind === 'tier') throw new TypeError('a tier outside a judgement');
  const matches = renderConditions(when, options.family);
  const [first, ...rest] = renderStatement(action, matches, options);
  if (first === undefined) return [];
  return [comment === undefined ? first : { ...first, comment }, ...rest];
}

/** Reports whether a rule reads parts of a packet that iptables can read only by bytecode. */
export function isByBytecode({ when }: HostRule): boolean {
  return when.some(({ kind }) => kind === 'isErrorOfOtherEnd' || kind === 'isOfVni');
}

/** Renders conditions that a packet must meet together. */
export function renderConditions(
  conditions: readonly Condition[],
  family: IpFamily,
): readonly Match[] {
  const protocol = conditions.find((one) => one.kind === 'protocol')?.protocol;
  return conditions.map((condition) => renderCondition(condition, family, protocol));
}

function renderCondition(
  condition: Condition,
  family: IpFamily,
  protocol: number | undefined,
): Match {
  switch (condition.kind) {
    case 'from':
      return {
        kind: 'inInterface',
        name: pattern(condition.interfaces),
        ...onlyIf(condition.negated),
      };
    case 'to':
      return { kind: 'outInterface', name: pattern(condition.interfaces) };
    case 'isOwnSource': {
      const { negated } = condition;
      return { kind: 'sourceAndInInterfaceSet', set: workloadsSet(family), ...onlyIf(negated) };
    }
    case 'goesBack':
      return { kind: 'sourceAndOutInterfaceSet', set: workloadsSet(family) };
    case 'protocol':
      return condition;
    case 'icmpType':
      return { kind: 'icmp', family, type: condition.type };
    case 'sourcePort':
    case 'destinationPort': {
      const { kind, port } = condition;
      const ofOne = protocol === 6 ? 'tcp' : protocol === 17 ? 'udp' : undefined;
      return ofOne === undefined
        ? { kind: `${kind}s`, ports: [{ first: port, last: port }] }
        : { kind, protocol: ofOne, port };
    }
    case 'source':
      return { kind: 'sourceNet', net: condition.net };
    case 'destination':
      return { kind: 'destinationNet', net: condition.net };
    case 'sourceIn':
    case 'destinationIn':
      return {
        kind: condition.kind === 'sourceIn' ? 'sourceSet' : 'destinationSet',
        set: natSets[condition.addresses](family),
        ...onlyIf(condition.negated),
      };
    case 'destinationIsHost':
      return { kind: 'destinationIsLocal', ...onlyIf(condition.negated) };
    case 'sourceIsTunnelNode':
    case 'destinationIsTunnelNode':
      return {
        kind: condition.kind === 'sourceIsTunnelNode' ? 'sourceSet' : 'destinationSet',
        set: tunnelNodesSet(family, condition.encapsulation),
        ...onlyIf(condition.negated),
      };
    case 'sourceIsBgpPeer':
      return { kind: 'sourceSet', set: bgpPeersSet(family), ...onlyIf(condition.negated) };
    case 'isOfVni':
      return { kind: 'vni', family, vni: condition.vni };
    case 'connection':
      return { kind: 'connectionState', states: [connectionStates[condition.is]] };
    case 'isErrorOfOtherEnd':
      return { kind: 'fromQuotedDestination', family };
    case 'cameByPublishedPort':
      return { kind: 'connectionMarkSet', bits: connectionMarkBits.published };
    case 'isAllowed':
      return {
        kind: condition.negated === true ? 'markClear' : 'markSet',
        bits: markBits.accept,
      };
    default:
      return condition satisfies never;
  }
}

const connectionStates = {
  new: 'NEW',
  established: 'ESTABLISHED',
  related: 'RELATED',
  invalid: 'INVALID',
} as const;

function onlyIf(negated: true | undefined): { readonly negated?: true } {
  return negated === undefined ? {} : { negated };
}

function pattern(interfaces: Interfaces): string {
  return 'prefix' in interfaces ? `${interfaces.prefix}+` : interfaces.name;
}

function renderStatement(
  statement: Exclude<Statement, { readonly kind: 'dispatch' | 'tier' }>,
  matches: readonly Match[],
  { family, denyAction }: RenderOptions,
): readonly Rule[] {
  const act = (action: Action): Rule => ({ matches, action });
  switch (statement.kind) {
    case 'accept':
    case 'return':
    case 'masquerade':
      return [act(statement)];
    case 'drop': {
      const { reason } = statement;
      if (reason === undefined) return [act({ kind: 'drop' })];
      const { at, direction } = reason;
      if (at !== 'host') return [act({ kind: 'goto', chain: dropChain(reason) })];
      const set = reasonSet(family, reason);
      return countAndDrop(matches, { direction, family, set, action: denyAction, isOfHost: true });
    }
    case 'block': {
      const { block } = statement;
      // From a container to its host there are no rules after those of the block.
      const kind = block === 'workloadToHost' ? 'goto' : 'jump';
      return [act({ kind, chain: blockChain(block) })];
    }
    case 'allow':
      return [act({ kind: 'goto', chain: allowChain })];
    case 'begin':
      return [act({ kind: 'clearMark', bits: allMarks })];
    case 'reconsider':
      return [act({ kind: 'clearMark', bits: markBits.accept | markBits.pass })];
    case 'untrack':
      return [act({ kind: 'notrack' })];
    case 'publish': {
      // Connections not to a published port lose the mark again.
      const bits = connectionMarkBits.published;
      const enter = act({ kind: 'jump', chain: hostPortsChain });
      if (!statement.remembered) return [enter];
      return [
        act({ kind: 'setConnectionMark', bits }),
        enter,
        act({ kind: 'clearConnectionMark', bits }),
      ];
    }
    default:
      return statement satisfies never;
  }
}
