/**
 * Lossless JSON: integers beyond 2^53, such as IPAM sequence numbers (nanoseconds since 1970), become `bigint` and are
 * written back digit for digit. `JSON.parse` alone would round them silently. Source of the rule: Calico's block
 * values contain Go uint64.
 */

type Reviver = (
  this: unknown,
  key: string,
  value: unknown,
  context?: { readonly source?: string },
) => unknown;

const longDigits = /\d{16}/;
const integer = /^-?\d+$/;

const reviveBigIntegers: Reviver = (_key, value, context) =>
  typeof value === 'number' && !Number.isSafeInteger(value) && integer.test(context?.source ?? '')
    ? BigInt(context?.source ?? '')
    : value;

/** Parses JSON; integers that do not fit a `number` become `bigint`. Throws SyntaxError like `JSON.parse`. */
export function parseJson(text: string): unknown {
  return longDigits.test(text) ? JSON.parse(text, reviveBigIntegers) : JSON.parse(text);
}

/** Parses JSON; `undefined` if the text is none. Integers beyond 2^53 are not exact. */
export function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Writes compact JSON; `bigint` is written as an integer, members that are `undefined` are omitted. Only the parts
 * that contain a `bigint` are assembled here: a replacer function would take twice the time.
 */
export function formatJson(value: unknown): string {
  return format(value) ?? 'null';
}

function format(value: unknown): string | undefined {
  if (typeof value === 'bigint') return value.toString();
  if (!holdsBigInt(value)) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(formatJson).join(',')}]`;
  const members: string[] = [];
  for (const [key, member] of Object.entries(value)) {
    const text = format(member);
    if (text !== undefined) members.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${members.join(',')}}`;
}

function holdsBigInt(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const members: readonly unknown[] = Array.isArray(value) ? value : Object.values(value);
  return members.some((member) => typeof member === 'bigint' || holdsBigInt(member));
}
