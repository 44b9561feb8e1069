import type { Command } from 'commander';
import { setLocked } from '../cache/lock.ts';
import type { CliContext } from './context.ts';

/** `datastore lock` and `unlock`: the lock that Calico's own migration sets, and knows. */
export function addDatastoreCommands(program: Command, context: CliContext): void {
  const datastore = program
    .command('datastore')
    .description('lock the datastore for maintenance, and unlock it');
  for (const [verb, locked, description] of [
    ['lock', true, 'let nothing be written, by any host; running containers go on'],
    ['unlock', false, 'let containers be started again, and policy be changed'],
  ] as const) {
    datastore
      .command(verb)
      .description(description)
      .action(async () => {
        const isChanged = await context.withStore(({ write }) =>
          write((draft) => setLocked(draft, locked)),
        );
        context.out(`the datastore ${isChanged ? 'is' : 'was already'} ${verb}ed\n`);
      });
  }
}
