import { CalicoError } from '../../errors/error.ts';
import type { Selector } from './ast.ts';
import { tokenize, type Token } from './tokenizer.ts';

/**
 * Parses a selector; empty text means `all()`. Throws `model/bad-selector` with the position. Grammar: Calico,
 * libcalico-go/lib/selector.
 */
export function parseSelector(text: string): Selector {
  const reader = new TokenReader(text);
  if (reader.peek().kind === 'end') return { kind: 'all' };
  const selector = disjunctionAt(reader);
  if (reader.peek().kind !== 'end') reader.reject('expected && or ||');
  return selector;
}

/** Maximum nesting of parentheses: more than any selector needs, and small enough for recursive functions. */
const deepest = 100;

class TokenReader {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokenize(text);
  }

  peek(): Token {
    return this.#tokens[this.#next] ?? { kind: 'end', at: this.#text.length };
  }

  take(): Token {
    const token = this.peek();
    this.#next++;
    return token;
  }

  takeIf(kind: Token['kind']): boolean {
    if (this.peek().kind !== kind) return false;
    this.#next++;
    return true;
  }

  /** Parses the content of parentheses. */
  inside<Result>(read: () => Result): Result {
    this.#depth++;
    if (this.#depth > deepest) this.reject(`more than ${deepest} parentheses inside each other`);
    const result = read();
    this.#depth--;
    return result;
  }

  reject(why: string): never {
    throw new CalicoError('model/bad-selector', { selector: this.#text, at: this.peek().at, why });
  }
}

function disjunctionAt(reader: TokenReader): Selector {
  return chainAt(reader, { kind: 'or', sign: '||', operandAt: conjunctionAt });
}

function conjunctionAt(reader: TokenReader): Selector {
  return chainAt(reader, { kind: 'and', sign: '&&', operandAt: unaryAt });
}

function chainAt(
  reader: TokenReader,
  chain: {
    readonly kind: 'and' | 'or';
    readonly sign: '&&' | '||';
    readonly operandAt: (reader: TokenReader) => Selector;
  },
): Selector {
  const first = chain.operandAt(reader);
  const operands = [first];
  while (reader.takeIf(chain.sign)) operands.push(chain.operandAt(reader));
  return operands.length === 1 ? first : { kind: chain.kind, operands };
}

function unaryAt(reader: TokenReader): Selector {
  let isNegated = false;
  while (reader.takeIf('!')) isNegated = !isNegated;
  const operand = primaryAt(reader);
  return isNegated ? { kind: 'not', operand } : operand;
}

function primaryAt(reader: TokenReader): Selector {
  const token = reader.peek();
  switch (token.kind) {
    case '(': {
      reader.take();
      const inner = reader.inside(() => disjunctionAt(reader));
      if (!reader.takeIf(')')) reader.reject('expected )');
      return inner;
    }
    case 'all':
    case 'global':
      reader.take();
      return { kind: token.kind };
    case 'has':
      reader.take();
      return { kind: 'has', key: token.key };
    case 'label':
      reader.take();
      return comparisonAt(reader, token.key);
    default:
      return reader.reject('expected a label, has(), all(), ! or (');
  }
}

function comparisonAt(reader: TokenReader, key: string): Selector {
  const token = reader.take();
  if (token.kind !== 'operator') return reader.reject('expected an operator');
  const { operator } = token;
  if (operator === 'in' || operator === 'not in') {
    return { kind: operator, key, values: setAt(reader) };
  }
  return { kind: operator, key, value: textAt(reader) };
}

function setAt(reader: TokenReader): readonly string[] {
  if (!reader.takeIf('{')) reader.reject('expected {');
  const values: string[] = [];
  while (!reader.takeIf('}')) {
    values.push(textAt(reader));
    if (!reader.takeIf(',') && reader.peek().kind !== '}') reader.reject('expected , or }');
  }
  return [...new Set(values)].toSorted(byBytes);
}

function textAt(reader: TokenReader): string {
  const token = reader.peek();
  if (token.kind !== 'text') return reader.reject('expected a quoted string');
  reader.take();
  return token.value;
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
