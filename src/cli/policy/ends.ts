import { CalicoError, describe } from '../../errors/error.ts';
import { builtInLabels } from '../../driver/endpoints/built-in-labels.ts';
import { parseNet, type Cidr } from '../../ip/cidr.ts';
import { isLabelKey, isLabelValue } from '../../model/fields.ts';
import { namespaceLabel } from '../../model/kinds/network-set.ts';
import { labelValueFor, tagFor } from '../../model/names.ts';
import type { Selector } from '../../model/selector/ast.ts';
import { parseSelector } from '../../model/selector/parse.ts';
import { selectorProblem } from '../../model/selector/problem.ts';

/** One end of connections: containers, networks, or both. */
export interface End {
  /** As typed, for names and sentences. */
  readonly values: readonly string[];
  /** Selects the containers (and network sets); without it the end has none. */
  readonly selector?: string;
  readonly nets: readonly Cidr[];
}

/** Selects the containers of all Calico networks, and no host endpoint. */
export const allContainers = `has(${namespaceLabel})`;

const allowed =
  "must be labels such as service=db or project=shop,service=db, networks such as 10.0.0.0/8,192.0.2.7, all, any, or a selector such as \"team in {'a', 'b'}\"";

/** Docker's words for labels of endpoints, whose values are names of Docker. */
const dockerKeys: ReadonlyMap<string, string> = new Map([
  ['project', builtInLabels.composeProject],
  ['service', builtInLabels.composeService],
  ['network', builtInLabels.network],
  ['name', builtInLabels.container],
  ['container', builtInLabels.container],
  ...Object.values(builtInLabels).map((key) => [key, key] as const),
]);

/**
 * Parses the values of an option such as `--from`: each is a list of labels that must all match, a list of networks,
 * `all`, or a selector; several values are alternatives. Returns `undefined` for any address: without values, or with
 * `any` among them. Throws `cli/bad-argument`.
 */
export function parseEnd(option: string, values: readonly string[] = []): End | undefined {
  if (values.length === 0 || values.includes('any')) return undefined;
  const parts = values.map((value) => parseValue(`${option} ${value}`, value));
  const selectors = [...new Set(parts.flatMap(({ selector }) => selector ?? []))];
  const [first, ...others] = selectors;
  const selector =
    first === undefined || others.length === 0
      ? first
      : selectors.map((one) => `(${one})`).join(' || ');
  return {
    values,
    nets: [...new Set(parts.flatMap(({ nets }) => nets))],
    ...(selector === undefined ? {} : { selector }),
  };
}

/** Parses the words for containers only; `what` begins the sentence of an error. Throws `cli/bad-argument`. */
export function parseContainers(what: string, value: string): string {
  const { selector } = parseValue(what, value);
  if (selector !== undefined) return selector;
  const why = 'must name containers, such as service=db, project=shop, or all';
  throw new CalicoError('cli/bad-argument', { what, why });
}

/** Returns the selector of containers on a network of Docker, among those that another selector matches. */
export function onNetwork(selector: string, network: string | undefined): string {
  if (network === undefined) return selector;
  const ofNetwork = comparison(builtInLabels.network, '==', labelValueFor(network));
  return selector === allContainers ? ofNetwork : `${bracketed(selector)} && ${ofNetwork}`;
}

/** Returns the keys of labels whose values a selector compares. */
export function comparedKeys(selector: Selector): readonly string[] {
  if (selector.kind === 'not') return comparedKeys(selector.operand);
  if ('operands' in selector) return selector.operands.flatMap(comparedKeys);
  return 'key' in selector && selector.kind !== 'has' ? [selector.key] : [];
}

type Part = Pick<End, 'selector' | 'nets'>;

function parseValue(what: string, value: string): Part {
  if (value === 'all') return { selector: allContainers, nets: [] };
  if (/['"(){}]/.test(value)) {
    const why = selectorProblem(value);
    if (why !== undefined) throw new CalicoError('cli/bad-argument', { what, why });
    return { selector: value, nets: [] };
  }
  if (value.includes('=')) {
    const terms = value.split(',').map((term) => parseTerm(what, term));
    return { selector: terms.join(' && '), nets: [] };
  }
  if (!/^[\d.:a-fA-F/,]*[.:][\d.:a-fA-F/,]*$/.test(value)) {
    throw new CalicoError('cli/bad-argument', { what, why: allowed });
  }
  try {
    return { nets: value.split(',').map(parseNet) };
  } catch (error) {
    throw new CalicoError('cli/bad-argument', { what, why: describe(error) }, { cause: error });
  }
}

/** Parses `KEY=VALUE`, `KEY!=VALUE`, `label=KEY=VALUE` or `tag=NAME`. */
function parseTerm(what: string, term: string): string {
  const [, typed, operator, text] = /^([^=!]*)(!?=)(.*)$/.exec(term) ?? [];
  if (typed === undefined || operator === undefined || text === undefined || text === '') {
    throw new CalicoError('cli/bad-argument', { what, why: allowed });
  }
  const sign = operator === '=' ? '==' : '!=';
  if (typed === 'label' && /^[^=!]+!?=./.test(text)) return parseLabel(what, text);
  if (typed === 'tag') return `${operator === '=' ? '' : '!'}has(${tagFor(text)})`;
  const key = dockerKeys.get(typed);
  if (key !== undefined) return comparison(key, sign, labelValueFor(text));
  if (typed === 'namespace') return comparison(namespaceLabel, sign, text);
  return parseLabel(what, term);
}

function parseLabel(what: string, text: string): string {
  const [, key = '', operator, value = ''] = /^([^=!]*)(!?=)(.*)$/.exec(text) ?? [];
  if (!isLabelKey(key)) {
    throw new CalicoError('cli/bad-argument', {
      what,
      why: `"${key}" must be project, service, network, name, namespace, tag, or the key of a label`,
    });
  }
  if (!isLabelValue(value)) {
    throw new CalicoError('cli/bad-argument', {
      what,
      why: `"${value}" must be the value of a label: at most 63 letters, digits, dots, hyphens and underscores`,
    });
  }
  return comparison(key, operator === '=' ? '==' : '!=', value);
}

function comparison(key: string, operator: '==' | '!=', value: string): string {
  return `${key} ${operator} '${value}'`;
}

function bracketed(selector: string): string {
  const { kind } = parseSelector(selector);
  return kind === 'or' ? `(${selector})` : selector;
}
