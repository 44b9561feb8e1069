import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { hostname } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import {
  clusterPaths,
  commandOf,
  readClusterFile,
  writeClusterFile,
  type ClusterPaths,
} from '../../cluster/cluster-file.ts';
import { adminOptions, nodeOptions } from '../../cluster/etcd-access.ts';
import { ensureInstalled } from '../../cluster/etcd/package.ts';
import { unitsOf } from '../../cluster/etcd/units-by-hand.ts';
import {
  beginCluster,
  createCertificates,
  startFirstMember,
  writeFirstRecords,
} from '../../cluster/first-member.ts';
import { joinPort } from '../../cluster/joining/protocol.ts';
import { requestMove } from '../../cluster/moving/request.ts';
import { checkMemberHost } from '../../cluster/preflight.ts';
import { createSharedObjects } from '../../cluster/shared-objects.ts';
import type { Settings } from '../../config/settings.ts';
import { CalicoError } from '../../errors/error.ts';
import { nodeIps } from '../../host/node-liveness.ts';
import { nodeName } from '../../host/node-name.ts';
import type { CliContext } from '../context.ts';
import { fetchStatus } from '../control-client.ts';
import { asOnlyCommand } from './only-command.ts';
import { withStore } from '../store.ts';

/** Timeout for the records, and for the daemon to accept joins, in milliseconds. */
const [recordsMs, servesMs] = [20_000, 10_000];

export type MemberCount = 1 | 3 | 5;

/** `cluster init`. `printJoin` prints the command for the other hosts. */
export function addInitCommand(
  cluster: Command,
  context: CliContext,
  printJoin: () => Promise<void>,
): void {
  cluster
    .command('init')
    .description('make this host the first member of a new cluster, with its data and containers')
    .option('--members <count>', 'hosts that become members: 1, 3 or 5', memberCount, 3)
    .action(async ({ members }: { readonly members: MemberCount }) => {
      await asOnlyCommand(context, 'cluster init', () => initCluster(context, members));
      await printJoin();
    });
}

/**
 * Makes a cluster of this host. Each step may be repeated: running it again after an interruption continues it. Throws
 * `cluster/…`, `cli/not-running`, `datastore/…`.
 */
export async function initCluster(context: CliContext, members: MemberCount): Promise<void> {
  const { progress } = context;
  const settings = context.settings();
  if (settings.etcdEndpoints !== undefined) throw new CalicoError('cluster/own-etcd', {});
  const paths = clusterPaths(settings);
  const present = readClusterFile(paths);
  if (present?.state === 'joined') {
    throw new CalicoError('cluster/already-in-cluster', { part: present.part, state: 'joined' });
  }
  if (present !== undefined && present.state !== 'initializing') {
    throw new CalicoError('cluster/interrupted', { command: commandOf[present.state] });
  }
  // The daemon moves the data.
  await fetchStatus(settings.controlSocket);
  const node = nodeName(settings);
  const address = await ownAddress(context, node);
  const isManagedPlugin = settings.managedSocket !== undefined;
  const units = unitsOf({ isManagedPlugin, paths }, progress);
  await checkMemberHost({
    address,
    paths,
    units,
    isManagedPlugin,
    writtenFiles: [process.argv[1] ?? '', settings.datastoreFile],
    now: new Date(),
  });
  if (!isManagedPlugin) await ensureInstalled(units, progress);
  const first = { node, address, names: [address, node, hostname()], paths, units };
  const file = beginCluster(first);
  progress('creating the certificates of the cluster');
  await createCertificates(first, new Date());
  progress(`starting etcd on ${address}`);
  await startFirstMember(first, file.uid);
  await writeFirstRecords(first, {
    settings: { members },
    now: new Date(),
    signal: AbortSignal.timeout(recordsMs),
  });
  await goOver(context, { settings, paths, endpoints: file.endpoints });
  writeClusterFile(paths, { ...file, state: 'joined' });
  await untilServed(address);
  progress(`node ${node} is the first member of the cluster`);
}

/** Moves the data of this host to etcd, and its daemon with it. */
async function goOver(
  context: CliContext,
  where: {
    readonly settings: Settings;
    readonly paths: ClusterPaths;
    readonly endpoints: readonly string[];
  },
): Promise<void> {
  const { settings, paths, endpoints } = where;
  const admin = adminOptions(paths, endpoints);
  const afterwards = nodeOptions(paths, endpoints);
  context.progress('moving the data of this host to etcd');
  await requestMove(
    settings.controlSocket,
    {
      to: { ...admin, endpoints: [...endpoints] },
      afterwards: { ...afterwards, endpoints: [...endpoints] },
      target: 'empty',
    },
    context.progress,
  );
  await withStore(admin, ({ write }) =>
    write((draft) => createSharedObjects(draft, context.stamp)),
  );
}

/** Returns the address of this host for other hosts, as its daemon has chosen it. Throws `cluster/no-address`. */
async function ownAddress(context: CliContext, node: string): Promise<string> {
  const [address] = await context.withStore(({ look }) =>
    look((view) => {
      const own = view.get('Node', node);
      return own === undefined ? [] : nodeIps(own.value);
    }),
  );
  if (address === undefined) throw new CalicoError('cluster/no-address', { node });
  return address;
}

/** Waits until the daemon accepts joins, so that the printed command works at once. */
async function untilServed(address: string): Promise<void> {
  const end = Date.now() + servesMs;
  while (!(await accepts(address, joinPort)) && Date.now() < end) await sleep(100);
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const answer = (isAccepted: boolean) => {
      socket.destroy();
      resolve(isAccepted);
    };
    socket.once('connect', () => answer(true));
    socket.once('error', () => answer(false));
    socket.once('timeout', () => answer(false));
  });
}

function memberCount(text: string): MemberCount {
  const count = ([1, 3, 5] as const).find((one) => String(one) === text);
  if (count === undefined) throw new InvalidArgumentError('It is 1, 3 or 5.');
  return count;
}
