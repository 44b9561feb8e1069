import type { Command } from 'commander';
import { setLocked } from '../cache/lock.ts';
import type { CliContext } from './context.ts';

/** `datastore lock` and `unlock`: the lock that Calico's own migration uses. */
export function addDatastoreCommands(program: Command, context: CliContext): void {
  const datastore = program
    .command('datastore')
    .description('lock or unlock the datastore for maintenance');
  for (const [verb, locked, description] of [
    ['lock', true, 'lock: all hosts stop writing; running containers keep their network'],
    ['unlock', false, 'unlock: allow writes again'],
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
