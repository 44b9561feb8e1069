import type { IpFamily } from '../../ip/address.ts';
import { natSets, vxlanNodesSet } from '../../ruleset/names.ts';
import type { Condition, HostRule, Interfaces, Statement } from '../../ruleset/statement.ts';
import { countAndDrop } from './count-and-drop.ts';
import {
  blockChain,
  dropChain,
  hostPortsChain,
  profileChain,
  reasonSet,
  workloadsSet,
} from './names.ts';
import {
  connectionMarkBits,
  markBits,
  type Action,
  type Match,
  type RenderOptions,
  type Rule,
} from './rule.ts';

/** Renders a rule of the host as rules of a chain; a dispatch becomes the rules that look up the stack. */
export function renderHostRule(
  { when, action, comment }: HostRule,
  options: RenderOptions,
  dispatch: readonly Rule[] = [],
): readonly Rule[] {
  if (action.kind === 'dispatch') return dispatch;
  const matches = when.map((condition) => renderCondition(condition, options.family));
  const [first, ...rest] = renderStatement(action, matches, options);
  if (first === undefined) return [];
  return [comment === undefined ? first : { ...first, comment }, ...rest];
}

/** Reports whether a rule reads parts of a packet that iptables can read only by bytecode. */
export function isByBytecode({ when }: HostRule): boolean {
  return when.some(({ kind }) => kind === 'isErrorOfOtherEnd' || kind === 'isOfVni');
}

function renderCondition(condition: Condition, family: IpFamily): Match {
  switch (condition.kind) {
    case 'from':
      return { kind: 'inInterface', name: pattern(condition.interfaces) };
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
    case 'destinationPort': {
      const { port } = condition;
      return { kind: 'destinationPorts', ports: [{ first: port, last: port }] };
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
    case 'sourceIsVxlanNode':
    case 'destinationIsVxlanNode':
      return {
        kind: condition.kind === 'sourceIsVxlanNode' ? 'sourceSet' : 'destinationSet',
        set: vxlanNodesSet(family),
        ...onlyIf(condition.negated),
      };
    case 'isOfVni':
      return { kind: 'vni', family, vni: condition.vni };
    case 'connection':
      return { kind: 'connectionState', states: [connectionStates[condition.is]] };
    case 'isErrorOfOtherEnd':
      return { kind: 'fromQuotedDestination', family };
    case 'cameByPublishedPort':
      return { kind: 'connectionMarkSet', bits: connectionMarkBits.published };
    case 'isAllowed':
      return { kind: 'markSet', bits: markBits.accept };
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
  statement: Exclude<Statement, { readonly kind: 'dispatch' }>,
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
      if (reason.at !== 'stack') return [act({ kind: 'goto', chain: dropChain(reason) })];
      const set = reasonSet(family, reason);
      return countAndDrop(reason.direction, family, set, matches, denyAction);
    }
    case 'block': {
      const { block } = statement;
      // From a container to its host there are no rules after those of the block.
      const kind = block === 'workloadToHost' ? 'goto' : 'jump';
      return [act({ kind, chain: blockChain(block) })];
    }
    case 'policy': {
      const { policy, direction } = statement;
      return [
        act({ kind: 'jump', chain: profileChain(direction, policy) }),
        { ...returnIfAllowed, comment: 'Return if profile accepted' },
      ];
    }
    case 'allow':
      return [act({ kind: 'setMark', bits: markBits.accept }), returnIfAllowed];
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

const returnIfAllowed: Rule = {
  matches: [{ kind: 'markSet', bits: markBits.accept }],
  action: { kind: 'return' },
};
