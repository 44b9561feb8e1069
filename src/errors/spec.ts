/**
 * What one entry of the error catalogue says.
 *
 * `fault` names whose turn it is: `input` (the caller must change what was asked), `state` (what was asked
 * contradicts what exists), `unavailable` (a part we depend on does not answer; the same call may succeed
 * later), `kernel` (the kernel refused), `bug` (we broke a rule of our own).
 */
export type Fault = 'input' | 'state' | 'unavailable' | 'kernel' | 'bug';

/** One entry: whose fault, and the one-line sentence made from the detail. */
export interface ErrorSpec<Detail = never> {
  readonly fault: Fault;
  readonly text: (detail: Detail) => string;
}

/** Declares an entry; the detail's type is taken from the text function. */
export function entry<Detail>(fault: Fault, text: (detail: Detail) => string): ErrorSpec<Detail> {
  return { fault, text };
}
