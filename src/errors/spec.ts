/**
 * Kind of an error: `input` (the request is invalid; the caller must change it), `state` (the request contradicts existing
 * state), `unavailable` (a dependency is unavailable; the same call may succeed later), `kernel` (rejected by the kernel),
 * `bug` (an invariant of this program is violated).
 */
export type Fault = 'input' | 'state' | 'unavailable' | 'kernel' | 'bug';

/** Entry of the error catalogue: kind, and the function that returns the one-line sentence for a detail. */
export interface ErrorSpec<Detail = never> {
  readonly fault: Fault;
  readonly text: (detail: Detail) => string;
}

/** Declares an entry; the type of the detail is inferred from the text function. */
export function entry<Detail>(fault: Fault, text: (detail: Detail) => string): ErrorSpec<Detail> {
  return { fault, text };
}
