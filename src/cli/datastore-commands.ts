import { Argument, type Command } from 'commander';
import { setLocked } from '../cache/lock.ts';
import { clusterPaths, joinedClusterFile } from '../cluster/cluster-file.ts';
import { requestMove } from '../cluster/moving/request.ts';
import type { Settings } from '../config/settings.ts';
import type { DatastoreOptions } from '../datastore/open-datastore.ts';
import { CalicoError } from '../errors/error.ts';
import { datastoreOptions } from '../host/from-settings.ts';
import type { CliContext } from './context.ts';

/** `datastore lock` and `unlock`: the lock that Calico's own migration uses; `migrate`. */
export function addDatastoreCommands(program: Command, context: CliContext): void {
  const datastore = program
    .command('datastore')
    .description('lock, unlock or migrate the datastore');
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
  datastore
    .command('migrate')
    .description(
      'move the data of this host to the etcd of ETCD_ENDPOINTS or back to the SQLite file, while its containers run',
    )
    .addArgument(new Argument('<to>', 'the datastore to move to').choices(['etcd', 'sqlite']))
    .action(async (to: 'etcd' | 'sqlite') => {
      const settings = context.settings();
      if (joinedClusterFile(clusterPaths(settings)) !== undefined) {
        throw new CalicoError('cluster/no-migration', {});
      }
      const { endpoint, moved, kept } = await requestMove(
        settings.controlSocket,
        { to: targetOf(settings, to), target: 'empty' },
        context.progress,
      );
      const already = kept === 0 ? '' : `, ${kept} were there`;
      context.out(`this host uses ${endpoint} (${moved} values moved${already})\n`);
    });
}

/** Throws `cli/bad-argument` if the settings name no etcd. */
function targetOf(settings: Settings, to: 'etcd' | 'sqlite'): DatastoreOptions {
  if (to === 'sqlite') return { kind: 'sqlite', file: settings.datastoreFile };
  const options = datastoreOptions(settings);
  if (options.kind === 'etcd') return options;
  const why = 'no etcd is set; name it: ETCD_ENDPOINTS=URL calico-cnm datastore migrate etcd';
  throw new CalicoError('cli/bad-argument', { what: 'datastore migrate', why });
}
