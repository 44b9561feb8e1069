import { resolve } from 'node:path';
import { networkInterfaces } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { memberAccess } from '../../cluster/admin-access.ts';
import {
  clusterPaths,
  readClusterFile,
  writeClusterFile,
  type ClusterFile,
} from '../../cluster/cluster-file.ts';
import { datastoreAccess } from '../../cluster/datastore-access.ts';
import { addressIn, clientPort, etcdUrl } from '../../cluster/etcd/configuration.ts';
import { isWorking } from '../../cluster/etcd/observed-members.ts';
import { Systemd } from '../../cluster/etcd/units.ts';
import { backUp } from '../../cluster/restoring/backup.ts';
import { checkAddresses } from '../../cluster/restoring/check-addresses.ts';
import { requireSnapshot } from '../../cluster/restoring/snapshot-file.ts';
import { ownDatabase, restoreMember } from '../../cluster/restoring/restore-member.ts';
import { openPatiently, type DatastoreOptions } from '../../datastore/open-datastore.ts';
import { CalicoError } from '../../errors/error.ts';
import type { CliContext } from '../context.ts';
import { asOnlyCommand } from './only-command.ts';

const restoreMs = 600_000;

/** `cluster backup` and `cluster restore`. */
export function addBackupCommands(cluster: Command, context: CliContext): void {
  cluster
    .command('backup <file>')
    .description('write a consistent copy of the datastore to a file')
    .action(async (file: string) => {
      const bytes = await backUp(backedUp(context), resolve(file));
      context.out(`backup written to ${file} (${(bytes / 1e6).toFixed(1)} MB)\n`);
    });
  cluster
    .command('restore [file]')
    .description('make this host the only member of its cluster, with the data of a backup')
    .option('--own-data', 'without a backup: with the data of the etcd of this host')
    .option(
      '--wait <seconds>',
      'how long to wait for the hosts to write what is newer',
      seconds,
      30,
    )
    .action((file: string | undefined, { wait, ownData = false }: RestoreArguments) =>
      asOnlyCommand(context, 'cluster restore', () =>
        restore(context, file === undefined ? undefined : resolve(file), { wait, ownData }),
      ),
    );
}

interface RestoreArguments {
  readonly wait: number;
  readonly ownData?: boolean;
}

/** In a cluster, a backup has everything, which the administrator alone may read. */
function backedUp(context: CliContext): DatastoreOptions {
  const settings = context.settings();
  const paths = clusterPaths(settings);
  const isOfCluster =
    settings.etcdEndpoints === undefined && readClusterFile(paths)?.state === 'joined';
  return isOfCluster ? memberAccess(paths).datastore : datastoreAccess(settings, 'admin');
}

async function restore(
  context: CliContext,
  backup: string | undefined,
  { wait: waitSeconds, ownData: isOwnData = false }: RestoreArguments,
): Promise<void> {
  const { progress } = context;
  if ((backup === undefined) !== isOwnData) {
    const why = 'name the file of a backup, or without one type --own-data';
    throw new CalicoError('cli/bad-argument', { what: 'cluster restore', why });
  }
  const paths = clusterPaths(context.settings());
  const access = memberAccess(paths);
  const file = backup ?? ownDatabase(paths);
  if (file === undefined) throw new CalicoError('cluster/no-own-data', {});
  if (backup !== undefined) requireSnapshot(backup);
  const { node } = access.file;
  const address = ownAddress(access.file.endpoints, node);
  const signal = AbortSignal.timeout(restoreMs);
  await refuseRunning(access.datastore, address);
  const { restoring: _, ...known } = access.file;
  const restoring = backup ?? '--own-data';
  const begins = () => writeClusterFile(paths, { ...known, restoring });
  const mark = await restoreMember(
    {
      file,
      isOwnData,
      node,
      address,
      paths,
      units: new Systemd(),
      now: () => new Date(),
      progress,
      begins,
    },
    signal,
  );
  const endpoints = [etcdUrl(address, clientPort)];
  const restored: ClusterFile = { ...known, part: 'member', endpoints };
  writeClusterFile(paths, { ...restored, restoring });
  if (mark === undefined) {
    writeClusterFile(paths, restored);
    context.out(`etcd was restored from ${file}; it has no data of Calico\n`);
    return;
  }
  const datastore = await openPatiently({ ...access.datastore, endpoints });
  try {
    const waitMs = waitSeconds * 1000;
    const { reports, silent } = await checkAddresses(datastore, mark, { waitMs, progress, signal });
    writeClusterFile(paths, restored);
    const conflicts = reports.flatMap((report) => report.conflicts);
    for (const conflict of conflicts) context.out(`conflict: ${conflict}\n`);
    for (const name of silent) {
      context.out(
        `node ${name} has not responded: addresses that its containers received since the backup may be allocated again; if the host is gone: calico-cnm cluster remove ${name}\n`,
      );
    }
    context.out(`etcd was restored from ${file} on this host (node ${node})\n`);
    if (conflicts.length + silent.length > 0) context.setStatus(1);
  } finally {
    await datastore.close();
  }
}

/** Returns the address of the endpoint that this host has. Throws `cluster/no-address`. */
function ownAddress(endpoints: readonly string[], node: string): string {
  const own = new Set(
    Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
  );
  const hosts = endpoints.map(addressIn);
  const found = hosts.find((host) => own.has(host));
  if (found !== undefined) return found;
  throw new CalicoError('cluster/no-address', { node });
}

/** Throws `cluster/members-run` if another member runs, with a leader: two clusters would serve the same hosts. */
async function refuseRunning(
  options: Extract<DatastoreOptions, { kind: 'etcd' }>,
  address: string,
): Promise<void> {
  const { EtcdAdmin } = await import('../../cluster/etcd/admin.ts');
  const admin = await EtcdAdmin.open(options);
  try {
    const others = options.endpoints.filter((one) => one !== etcdUrl(address, clientPort));
    const states = await Promise.all(others.map((url) => admin.status({ clientUrls: [url] })));
    const running = others.filter((_, index) => isWorking(states[index]));
    if (running.length === 0) return;
    const members = running.map((url) => new URL(url).hostname).join(', ');
    throw new CalicoError('cluster/members-run', { members });
  } finally {
    admin.close();
  }
}

function seconds(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number <= 3600) return number;
  throw new InvalidArgumentError('It is a number of seconds up to 3600.');
}
