import { mock } from 'node:test';

/**
 * Stands in for `node:test` in a mutation run: tests are collected, not run, so that one process can run any of them
 * as often as it likes. It has what the unit tests use of node:test, and refuses the rest.
 */

type Body = () => unknown;
interface Options {
  readonly skip?: boolean | string;
}

/** The tests of one file, in order, and what it wants to have done before them. */
export interface CollectedFile {
  readonly tests: { readonly name: string; readonly body: Body }[];
  readonly before: Body[];
}

let file: CollectedFile | undefined;

/** What a file's import registers. Throws what the file throws, and if it uses what is not here. */
export async function collect(load: () => Promise<unknown>): Promise<CollectedFile> {
  const collected: CollectedFile = { tests: [], before: [] };
  file = collected;
  await load();
  file = undefined;
  return collected;
}

export { mock, test as it };

export function test(name: string, ...rest: [Body] | [Options, Body]): void {
  const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
  if (body.length > 0) throw new Error(`"${name}" wants a context, which a mutation run lacks`);
  if (options.skip === undefined || options.skip === false) loading().tests.push({ name, body });
}

export function describe(name: string, body: Body): void {
  const hooks = loading().before.length;
  if (body() !== undefined) throw new Error(`"${name}" is asynchronous`);
  if (loading().before.length !== hooks) throw new Error(`"${name}" has hooks of its own`);
}

export function before(body: Body): void {
  loading().before.push(body);
}

/** Never runs: the tests may be run again, and the temporary files they leave are removed with the process's folder. */
export function after(): void {}

function loading(): CollectedFile {
  if (file === undefined) throw new Error('a test is made while tests run');
  return file;
}

// A file may import the function by whatever name.
// oxlint-disable-next-line import/no-default-export
export default test;
