import { Option, type Command } from 'commander';
import type { Draft } from '../../datastore/writer.ts';
import type { CliContext } from '../context.ts';
import { parseWritten, writeResources } from './write.ts';

/** The option of commands that print resources. */
export interface OutputOption {
  readonly output: 'text' | 'yaml';
}

/** The options of commands that write resources. */
export interface DryRunOptions extends OutputOption {
  /** Whether nothing is written; with the output `yaml` nothing ever is. */
  readonly dryRun?: boolean;
}

/** How a command of `policy` writes and prints. */
interface PrintOptions extends DryRunOptions {
  /** Reports whether a resource that another command of `policy` created may be replaced. */
  readonly mayReplace: (command: string) => boolean;
  /** Returns the sentences to print about the written resources. */
  readonly notes: (draft: Draft) => readonly string[];
}

/** Declares `OutputOption`. */
export function outputOption(): Option {
  return new Option('-o, --output <format>', 'format of the output')
    .choices(['text', 'yaml'])
    .default('text');
}

/** Adds `DryRunOptions` to a command. */
export function addWriteOptions(command: Command): Command {
  return command
    .option('--dry-run', 'check and print, write nothing')
    .addOption(
      outputOption().default('text', 'text; yaml prints the resources and writes nothing'),
    );
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
