import type { Command } from 'commander';
import { clusterPaths, joinedClusterFile } from '../../cluster/cluster-file.ts';
import { readHost } from '../../cluster/records.ts';
import { CalicoError } from '../../errors/error.ts';
import { deleteNode } from '../../host/delete-node.ts';
import type { Liveness } from '../../host/node-liveness.ts';
import { nodeName } from '../../host/node-name.ts';
import type { CliContext } from '../context.ts';
import { fetchStatus, isRunning } from '../control-client.ts';
import { formatPeers, peerRows } from './node-status.ts';
import type { StatusReport } from '../../telemetry/status-report.ts';
import type { Store } from '../store.ts';

const readMs = 20_000;

/** `node status` and `node delete`. */
export function addNodeCommands(program: Command, context: CliContext): void {
  const node = program.command('node').description('show and delete nodes');
  node
    .command('status')
    .description('show this node and how it reaches the others')
    .action(async () => {
      const name = nodeName(context.settings());
      // Without the datastore it still says what this node works from.
      const { text, byBgp } = await ownStatus(context, name);
      context.out(`${text}\n`);
      context.out(
        await context.withStore((store) => peersText(store, { name, byBgp }, new Date())),
      );
    });
  node
    .command('delete <names...>')
    .description('delete nodes whose hosts are gone, with their endpoints, addresses and networks')
    .option('--force', 'delete a node even if it runs or may run')
    .action(async (names: readonly string[], { force = false }: { readonly force?: boolean }) => {
      await context.withStore(async (store) => {
        await refuseHostsOfCluster(context, store, names);
        await deleteNodes(context, store, { names, isForced: force });
      });
    });
}

/** A host of a cluster also has a user and may be a member. Throws `cluster/has-host`. */
async function refuseHostsOfCluster(
  context: CliContext,
  { view }: Store,
  names: readonly string[],
): Promise<void> {
  const settings = context.settings();
  const isOfCluster = joinedClusterFile(clusterPaths(settings)) !== undefined;
  if (settings.etcdEndpoints !== undefined || !isOfCluster) return;
  for (const node of names) {
    const host = await readHost(view.datastore, node, AbortSignal.timeout(readMs));
    if (host !== undefined) throw new CalicoError('cluster/has-host', { node });
  }
}

/** Deletes nodes one after the other. Throws as `deleteNode`. */
export async function deleteNodes(
  context: CliContext,
  store: Store,
  { names, isForced }: { readonly names: readonly string[]; readonly isForced: boolean },
): Promise<void> {
  for (const node of names) {
    const isKnown = await isKnownToBeStopped(context, store, node, isForced);
    await deleteNode(store, { node, isForced: isForced || isKnown, now: new Date() }, (line) =>
      context.out(`${line}\n`),
    );
    context.out(`Node ${node} deleted\n`);
  }
}

/** In a store of one host, whose daemon does not report there, the control socket tells. Throws `node/runs`. */
async function isKnownToBeStopped(
  context: CliContext,
  { view }: Store,
  node: string,
  isForced: boolean,
): Promise<boolean> {
  const settings = context.settings();
  if (view.datastore.leases !== undefined) return false;
  const isOwn = node === nodeName(settings);
  if (!isForced && isOwn && (await isRunning(settings.controlSocket))) {
    const { startedAt } = await fetchStatus(settings.controlSocket);
    throw new CalicoError('node/runs', { node, since: startedAt });
  }
  return true;
}

interface OwnStatus {
  readonly text: string;
  readonly byBgp: StatusReport['reachedByBgp'];
}

async function ownStatus(context: CliContext, name: string): Promise<OwnStatus> {
  const { controlSocket } = context.settings();
  try {
    const { startedAt, checks, reachedByBgp } = await fetchStatus(controlSocket);
    const shown = checks.filter(
      ({ name: check }) => check === 'datastore' || check.startsWith('node'),
    );
    if (shown.some(({ ok }) => !ok)) context.setStatus(1);
    const lines = [
      `Node ${name}, up since ${startedAt}\n`,
      ...shown.map(({ name: check, ok, detail }) => `  ${ok ? '' : 'FAIL '}${check}: ${detail}\n`),
    ];
    return { text: lines.join(''), byBgp: reachedByBgp };
  } catch (error) {
    if (!(error instanceof CalicoError)) throw error;
    context.setStatus(1);
    return { text: `Node ${name}\n  ${error.message}\n`, byBgp: [] };
  }
}

async function peersText(
  { look, view }: Store,
  own: { readonly name: string; readonly byBgp: OwnStatus['byBgp'] },
  now: Date,
): Promise<string> {
  const rows = await look((stored) => peerRows(stored, own.name, own.byBgp));
  const seen = new Map<string, string>();
  for (const { node, liveness } of rows) {
    seen.set(node.metadata.name, await lastSeen(liveness, view.datastore.leases, now));
  }
  return formatPeers(rows, seen);
}

async function lastSeen(
  liveness: Liveness,
  leases: Store['view']['datastore']['leases'],
  now: Date,
): Promise<string> {
  if (liveness.state === 'unknown') return 'never reported';
  const { report, state } = liveness;
  if (state === 'gone') return report.time;
  const age = report.lease === undefined ? undefined : await leases?.ageSeconds(report.lease);
  if (age !== undefined) return `${age} s ago`;
  return `${Math.max(0, Math.round((now.getTime() - Date.parse(report.time)) / 1000))} s ago`;
}
