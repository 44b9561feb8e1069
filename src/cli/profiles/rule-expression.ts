import { CalicoError, describe } from '../../errors/error.ts';
import { parseNet } from '../../ip/cidr.ts';
import { dockerNameOf, tagFor } from '../../model/names.ts';
import {
  port,
  protocol,
  type EntityRule,
  type PolicyRule,
  type Protocol,
  type RuleAction,
} from '../../model/policy-rule.ts';
import { parseSelector } from '../../model/selector/parse.ts';

/**
 * Rule expressions, with the syntax of Calico's first command line:
 * `allow|deny|log|pass [tcp|udp|sctp|icmp [type N [code N]]|icmpv6 …|NUMBER] [from ENTITY] [to ENTITY]`, where ENTITY is
 * any of `ports 80,8000:8010`, `tag NAME`, `cidr 10.0.0.0/8`, `selector "…"`.
 */

const actions: Readonly<Record<string, RuleAction>> = {
  allow: 'Allow',
  deny: 'Deny',
  log: 'Log',
  pass: 'Pass',
};

/** Parses an expression; a tag is a Docker name. Throws `cli/bad-argument`, which lists the valid arguments. */
export function parseRuleExpression(words: readonly string[]): PolicyRule {
  const reader = new WordReader(words);
  const action = actions[reader.take('an action')];
  if (action === undefined) throw reader.rejectLast('must be allow, deny, log or pass');
  const parts: { -readonly [K in keyof PolicyRule]?: PolicyRule[K] } = { action };
  const next = reader.peek();
  if (next !== undefined && next !== 'from' && next !== 'to') {
    const parsed = protocol.safeParse(reader.take('a protocol'));
    if (!parsed.success) {
      throw reader.rejectLast('must be a protocol (tcp, udp, icmp, a number), from, or to');
    }
    parts.protocol = parsed.data;
    const icmp = takeIcmp(reader);
    if (icmp !== undefined) parts.icmp = icmp;
  }
  if (reader.takeIf('from')) parts.source = takeEntity(reader);
  if (reader.takeIf('to')) parts.destination = takeEntity(reader);
  if (reader.peek() !== undefined) {
    reader.take('');
    throw reader.rejectLast('is not expected here; after the action come protocol, from, to');
  }
  return { ...parts, action };
}

/** Returns the expression of a rule; parts without an expression are appended as JSON. */
export function ruleExpression(rule: PolicyRule): string {
  const { action, protocol: number, icmp, source, destination, ...others } = rule;
  const expression = [
    action.toLowerCase(),
    ...(number === undefined ? [] : [protocolWord(number)]),
    ...(icmp?.type === undefined ? [] : [`type ${icmp.type}`]),
    ...(icmp?.code === undefined ? [] : [`code ${icmp.code}`]),
    ...entityWords('from', source),
    ...entityWords('to', destination),
  ].join(' ');
  const rest = {
    ...others,
    ...inexpressible('source', source),
    ...inexpressible('destination', destination),
  };
  return Object.keys(rest).length === 0 ? expression : `${expression} ${JSON.stringify(rest)}`;
}

/** Returns the tags that a rule refers to, in their stored form. */
export function ruleTags({ source, destination }: PolicyRule): readonly string[] {
  return [source, destination].flatMap((entity) => {
    const tag = tagSelector.exec(entity?.selector ?? '')?.[1];
    return tag === undefined ? [] : [tag];
  });
}

class WordReader {
  readonly #words: readonly string[];
  #next = 0;

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  peek(): string | undefined {
    return this.#words[this.#next]?.toLowerCase();
  }

  take(what: string): string {
    const word = this.#words[this.#next];
    if (word === undefined) {
      const why = `${what} is missing at the end`;
      throw new CalicoError('cli/bad-argument', { what: this.#words.join(' ') || 'rule', why });
    }
    this.#next++;
    return word;
  }

  takeIf(word: string): boolean {
    if (this.peek() !== word) return false;
    this.#next++;
    return true;
  }

  rejectLast(why: string): CalicoError {
    return new CalicoError('cli/bad-argument', {
      what: `"${this.#words[this.#next - 1] ?? ''}"`,
      why,
    });
  }
}

function takeIcmp(reader: WordReader): PolicyRule['icmp'] {
  if (!reader.takeIf('type')) return undefined;
  const type = takeNumber(reader, 'an ICMP type');
  return reader.takeIf('code') ? { type, code: takeNumber(reader, 'an ICMP code') } : { type };
}

function takeNumber(reader: WordReader, what: string): number {
  const number = Number(reader.take(what));
  if (Number.isInteger(number) && number >= 0 && number <= 255) return number;
  throw reader.rejectLast(`must be ${what}, a number from 0 to 255`);
}

function takeEntity(reader: WordReader): EntityRule {
  const entity: EntityRule = {};
  const before = reader.peek();
  for (;;) {
    if (reader.takeIf('ports')) {
      entity.ports = reader
        .take('a list of ports')
        .split(',')
        .map((text) => {
          const parsed = port.safeParse(text);
          if (parsed.success) return parsed.data;
          throw reader.rejectLast('must be ports such as 80,443,8000:8010');
        });
    } else if (reader.takeIf('tag')) {
      entity.selector = `has(${tagFor(reader.take('a tag'))})`;
    } else if (reader.takeIf('cidr')) {
      const text = reader.take('a network');
      try {
        entity.nets = text.split(',').map(parseNet);
      } catch (error) {
        throw reader.rejectLast(describe(error));
      }
    } else if (reader.takeIf('selector')) {
      const text = reader.take('a selector');
      parseSelector(text);
      entity.selector = text;
    } else {
      break;
    }
  }
  if (Object.keys(entity).length > 0) return entity;
  reader.take(`ports, tag, cidr or selector (after ${before ?? 'from or to'})`);
  throw reader.rejectLast('must be ports, tag, cidr or selector');
}

function protocolWord(number: Protocol): string {
  return String(number).toLowerCase();
}

const tagSelector = /^has\(([^)]*)\)$/;

function entityWords(side: 'from' | 'to', entity: EntityRule = {}): readonly string[] {
  const { ports, nets, selector } = entity;
  const tag = tagSelector.exec(selector ?? '')?.[1];
  const words = [
    ...(ports === undefined ? [] : [`ports ${ports.join(',')}`]),
    ...(selector === undefined
      ? []
      : [tag === undefined ? `selector ${quoted(selector)}` : `tag ${dockerNameOf(tag)}`]),
    ...(nets === undefined ? [] : [`cidr ${nets.join(',')}`]),
  ];
  return words.length === 0 ? [] : [side, ...words];
}

/** Quotes a selector for a shell; it has no `$` and no backslash. */
function quoted(text: string): string {
  return text.includes("'") ? `"${text}"` : `'${text}'`;
}

/** Returns the fields of an entity that have no expression. */
function inexpressible(side: 'source' | 'destination', entity: EntityRule = {}): object {
  const { ports: _ports, nets: _nets, selector: _selector, ...others } = entity;
  return Object.keys(others).length === 0 ? {} : { [side]: others };
}
