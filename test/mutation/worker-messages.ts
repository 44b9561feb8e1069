import { z } from 'zod';

/** What the run and its workers tell each other, a line of JSON each. A test's id is `<file>#<its place in the file>`. */

/** By argument: what to load, and a mutant that is on from the first line of code on. */
export const loadTask = z.object({
  files: z.array(z.string()),
  mutant: z.object({ id: z.string(), maxHits: z.number() }).optional(),
});
export type LoadTask = z.infer<typeof loadTask>;

/** By stdin: tests to run until one fails. */
export const runTask = z.object({
  mutant: z.string().optional(),
  /** Whether to count which mutants each test comes by. */
  isCounted: z.boolean(),
  /** `maxHits`: how often a test may come by the mutant before that is an endless loop. */
  tests: z.array(z.object({ id: z.string(), maxHits: z.number() })),
});
export type RunTask = z.infer<typeof runTask>;

export const report = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('loaded'),
    tests: z.array(z.string()),
    /** The mutants that code came by that runs when it is loaded. */
    atLoad: z.array(z.string()),
  }),
  z.object({ kind: z.literal('began'), id: z.string() }),
  z.object({ kind: z.literal('passed'), id: z.string(), milliseconds: z.number() }),
  z.object({
    kind: z.literal('failed'),
    id: z.string(),
    isEndless: z.boolean(),
    /** Otherwise it may come from what another test left running. */
    isCaught: z.boolean(),
    why: z.string(),
  }),
  z.object({
    kind: z.literal('allPassed'),
    /** By test. */
    hits: z.record(z.string(), z.record(z.string(), z.number())),
  }),
]);
export type Report = z.infer<typeof report>;
