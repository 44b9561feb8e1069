import type { Draft } from '../../datastore/writer.ts';
import type { CliContext } from '../context.ts';
import { parseWritten, writeResources } from './write.ts';

/** How a command of `policy` writes and prints. */
export interface PrintOptions {
  readonly output: 'text' | 'yaml';
  /** Whether nothing is written; with the output `yaml` nothing ever is. */
  readonly dryRun?: boolean;
  /** Reports whether a resource that another command of `policy` created may be replaced. */
  readonly mayReplace: (command: string) => boolean;
  /** Returns the sentences to print about the written resources. */
  readonly notes: (draft: Draft) => readonly string[];
}

/**
 * Writes resources, given as YAML documents, in one transaction; prints the documents, the result of each and the notes.
 */
export async function writeAndPrint(
  context: CliContext,
  documents: readonly string[],
  { output, dryRun = false, mayReplace, notes }: PrintOptions,
): Promise<void> {
  const { stamp } = context;
  const resources = documents.map((text) => ({ text, resource: parseWritten(text) }));
  const plan = (draft: Draft) => writeResources(draft, resources, { stamp, mayReplace });
  const isRehearsal = dryRun || output === 'yaml';
  const { written, said } = await context.withStore(async ({ rehearse, write }) => {
    if (isRehearsal) return rehearse((draft) => ({ written: plan(draft), said: notes(draft) }));
    // The commit does not depend on what the notes read.
    return { written: await write(plan), said: await rehearse(notes) };
  });
  context.out(written.map(({ text }) => text).join('---\n'));
  if (output === 'yaml') return;
  for (const { resource, done } of written) {
    const { kind, metadata } = resource;
    context.out(`${kind} ${metadata.name} ${done}${dryRun ? ' (dry run)' : ''}\n`);
  }
  for (const note of said) context.out(`note: ${note}\n`);
}
