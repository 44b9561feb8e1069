import { catalogue } from './catalogue.ts';
import { printable } from './printable.ts';
import type { ErrorSpec } from './spec.ts';

type Catalogue = typeof catalogue;

/** Every code that an error of ours can carry: `area/slug`, never reused. */
export type ErrorCode = keyof Catalogue;

/** The values that the sentence of each code is made from. */
type Details = { readonly [C in ErrorCode]: Parameters<Catalogue[C]['text']>[0] };
export type ErrorDetail<C extends ErrorCode> = Details[C];

const specs: { readonly [C in ErrorCode]: ErrorSpec<Details[C]> } = catalogue;

/**
 * The only error class of the project. Callers look at `code`, never at the message.
 * The message is always one line, fit to be shown by the docker CLI.
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

/** Whether a caught value is our error with one of the given codes (any code if none is given). */
export function isCalicoError<C extends ErrorCode>(
  error: unknown,
  ...codes: readonly C[]
): error is CalicoError<C> {
  return (
    error instanceof CalicoError &&
    (codes.length === 0 || codes.some((code) => code === error.code))
  );
}

/** Turns whatever was thrown into our error, so that the edge always has a code and one line. */
export function toCalicoError(thrown: unknown): CalicoError {
  if (isCalicoError(thrown)) return thrown;
  return new CalicoError('internal/unexpected', { what: describe(thrown) }, { cause: thrown });
}

/** One line for any thrown value: the message if it has one, its text otherwise. */
export function describe(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return text.replaceAll(/\s*\n\s*/g, ' ').trim();
}

function sentence<C extends ErrorCode>(code: C, detail: ErrorDetail<C>): string {
  return printable(specs[code].text(detail).replaceAll(/\s*\n\s*/g, ' '));
}
