import { catalogue } from './catalogue.ts';
import { printable } from './printable.ts';
import type { ErrorSpec } from './spec.ts';

type Catalogue = typeof catalogue;

/** Code of a `CalicoError`: `area/slug`, never reused. */
export type ErrorCode = keyof Catalogue;

/** Values in the sentence of each code. */
type Details = { readonly [C in ErrorCode]: Parameters<Catalogue[C]['text']>[0] };
export type ErrorDetail<C extends ErrorCode> = Details[C];

const specs: { readonly [C in ErrorCode]: ErrorSpec<Details[C]> } = catalogue;

/**
 * The only error class of the project. Callers test `code`, never the message.
 * The message is always one line, so that the docker CLI can print it.
 */
export class CalicoError<C extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'CalicoError';
  readonly code: C;
  readonly detail: ErrorDetail<C>;

  constructor(code: C, detail: ErrorDetail<C>, options?: { readonly cause?: unknown }) {
    super(sentence(code, detail), options);
    this.code = code;
    this.detail = detail;
  }
}

/** Reports whether a caught value is a `CalicoError` with one of the given codes (any code if none is given). */
export function isCalicoError<C extends ErrorCode>(
  error: unknown,
  ...codes: readonly C[]
): error is CalicoError<C> {
  return (
    error instanceof CalicoError &&
    (codes.length === 0 || codes.some((code) => code === error.code))
  );
}

/** Returns any thrown value as a `CalicoError`, with code `internal/unexpected` if it is another error. */
export function toCalicoError(thrown: unknown): CalicoError {
  if (isCalicoError(thrown)) return thrown;
  return new CalicoError('internal/unexpected', { what: describe(thrown) }, { cause: thrown });
}

/** Reports whether an error of Node has one of the given codes, such as `ENOENT`. */
export function hasErrorCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.some((code) => code === error.code);
}

/** Returns one line for any thrown value: its message, or its text if it has none. */
export function describe(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return text.replaceAll(/\s*\n\s*/g, ' ').trim();
}

function sentence<C extends ErrorCode>(code: C, detail: ErrorDetail<C>): string {
  return printable(specs[code].text(detail).replaceAll(/\s*\n\s*/g, ' '));
}
