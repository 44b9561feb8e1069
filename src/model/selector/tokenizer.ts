import { CalicoError } from '../../errors/error.ts';
import type { Comparison } from './ast.ts';

/** A token of a selector, and its position. */
export type Token = { readonly at: number } & (
  | { readonly kind: '(' | ')' | '{' | '}' | ',' | '!' | '&&' | '||' | 'end' }
  | { readonly kind: 'all' | 'global' }
  | { readonly kind: 'has' | 'label'; readonly key: string }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'operator'; readonly operator: Comparison | 'in' | 'not in' }
);

const longestLabel = 512;
const blanks = /[ \t]*/y;
const punctuation = /\(|\)|\{|\}|,|&&|\|\||!(?!=)/y;
const quoted = /"([^"]*)"|'([^']*)'/y;
const label = /[A-Za-z0-9_./-]+/y;
const wordOperator =
  /(==|!=)|(contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)(?![A-Za-z0-9_./-])/y;
const has = /has\([ \t]*([A-Za-z0-9_./-]+)[ \t]*\)/y;
const all = /all\([ \t]*\)/y;
const global = /global\([ \t]*\)/y;

/** Splits a selector into tokens, `end` last; throws `model/bad-selector`. */
export function tokenize(selector: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(selector);
    if (match !== null) at = pattern.lastIndex;
    return match ?? undefined;
  };
  const reject = (why: string): never => {
    throw new CalicoError('model/bad-selector', { selector, at, why });
  };
  for (;;) {
    take(blanks);
    const start = at;
    if (at === selector.length) return [...tokens, { kind: 'end', at }];
    const sign = take(punctuation)?.[0];
    if (isPunctuation(sign)) {
      tokens.push({ kind: sign, at: start });
      continue;
    }
    const text = take(quoted);
    if (text !== undefined) {
      tokens.push({ kind: 'text', value: text[1] ?? text[2] ?? '', at: start });
      continue;
    }
    const found = take(has);
    if (found !== undefined) {
      tokens.push({ kind: 'has', key: found[1] ?? '', at: start });
      continue;
    }
    if (take(all) !== undefined) {
      tokens.push({ kind: 'all', at: start });
      continue;
    }
    if (take(global) !== undefined) {
      tokens.push({ kind: 'global', at: start });
      continue;
    }
    const key = take(label)?.[0];
    if (key === undefined) return reject(`unexpected "${selector[at] ?? ''}"`);
    if (key.length > longestLabel) return reject('the label is too long');
    tokens.push({ kind: 'label', key, at: start });
    take(blanks);
    const operatorAt = at;
    const operator = operatorOf(take(wordOperator)?.[0]);
    if (operator === undefined) {
      return reject(
        `expected ==, !=, in, not in, contains, starts with or ends with after a label`,
      );
    }
    tokens.push({ kind: 'operator', operator, at: operatorAt });
  }
}

type Punctuation = '(' | ')' | '{' | '}' | ',' | '!' | '&&' | '||';

function isPunctuation(text: string | undefined): text is Punctuation {
  return text !== undefined && ['(', ')', '{', '}', ',', '!', '&&', '||'].includes(text);
}

function operatorOf(text: string | undefined): Comparison | 'in' | 'not in' | undefined {
  switch (text?.replaceAll(/[ \t]/g, '')) {
    case '==':
      return '==';
    case '!=':
      return '!=';
    case 'contains':
      return 'contains';
    case 'startswith':
      return 'starts with';
    case 'endswith':
      return 'ends with';
    case 'notin':
      return 'not in';
    case 'in':
      return 'in';
    default:
      return undefined;
  }
}
