import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Option, type Command } from 'commander';
import type { View } from '../../cache/view.ts';
import { datastoreAccess } from '../../cluster/datastore-access.ts';
import type { Settings } from '../../config/settings.ts';
import { defineNetwork, removeDefinition } from '../../driver/networks/definition-plans.ts';
import { namespaceOfOptions } from '../../driver/networks/network-options.ts';
import { CalicoError } from '../../errors/error.ts';
import { livenessOf } from '../../host/node-liveness.ts';
import { nodeName } from '../../host/node-name.ts';
import { poolForSubnet } from '../../ipam/pools/subnet-pools.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { CliContext } from '../context.ts';
import { parseDefinition, type NetworkFlags } from './network-definition.ts';
import { unreachableNodes } from './network-reach.ts';
import { formatTable } from '../table.ts';

const pollMs = 300;
const defaultWaitSeconds = 10;

/** `network create|ls|inspect|rm`: networks of all hosts, from one definition in the datastore. */
export function addNetworkCommands(program: Command, context: CliContext): void {
  const network = program.command('network').description('manage networks of all hosts');
  network
    .command('create')
    .description("create a network in every host's Docker, now and on hosts that join later")
    .argument('<name>', 'name of the network')
    .addOption(repeated('--subnet <cidr>', 'subnet; without it addresses come from the IP pools'))
    .addOption(repeated('--gateway <address>', 'next hop of the containers, inside a subnet'))
    .addOption(repeated('--ip-range <cidr>', 'part of a subnet that addresses are allocated from'))
    .addOption(repeated('--aux-address <name=address>', 'address that is never allocated'))
    .addOption(repeated('--ipam-opt <key=value>', 'pool=NAME,…: IP pools of the addresses'))
    .option('--internal', 'no access to or from outside the network')
    .option('--ipv6', 'IPv6 addresses as well')
    .option('--namespace <name>', 'namespace of its endpoints; same as --opt namespace=NAME')
    .addOption(repeated('--label <key=value>', 'label of the Docker network'))
    .addOption(repeated('-o, --opt <key=value>', 'option of calico-cnm, such as mtu=1400'))
    .addOption(waitOption)
    .action((name: string, flags: NetworkFlags & Waiting) => create(context, name, flags));
  network
    .command('ls')
    .alias('list')
    .description('list networks and their state on the hosts')
    .action(async () => context.out(await context.withStore(({ look }) => look(listText))));
  network
    .command('inspect')
    .description('show definition and state per host of networks, as JSON')
    .argument('<names...>', 'names of networks')
    .action(async (names: readonly string[]) => {
      const shown = await context.withStore(({ look }) =>
        look((view) => names.map((name) => inspected(view, name))),
      );
      context.out(`${JSON.stringify(shown, null, 2)}\n`);
    });
  network
    .command('rm')
    .alias('remove')
    .description('remove networks from all hosts; rejected while a container uses them')
    .argument('<names...>', 'names of networks')
    .addOption(waitOption)
    .action(async (names: readonly string[], waiting: Waiting) => {
      for (const name of names) await remove(context, name, waiting);
    });
}

interface Waiting {
  readonly wait: number;
}

const waitOption = new Option('--wait <seconds>', 'how long to wait for the hosts')
  .default(defaultWaitSeconds)
  .argParser((text) => {
    if (/^\d{1,4}$/.test(text)) return Number(text);
    const why = 'must be a number of seconds';
    throw new CalicoError('cli/bad-argument', { what: `--wait ${text}`, why });
  });

function repeated(flags: string, description: string): Option {
  return new Option(flags, description)
    .default([], '')
    .argParser((text: string, before: readonly string[]) => [...before, text]);
}

/** The state of a network on one host. */
interface HostRow {
  readonly host: string;
  /** Whether its daemon runs, as far as it reports that. */
  readonly isLive: boolean;
  /** Of its daemon's report; `away` if there is none. */
  readonly state: 'creating' | 'created' | 'differs' | 'failed' | 'away';
  readonly why?: string;
}

async function create(
  context: CliContext,
  name: string,
  flags: NetworkFlags & Waiting,
): Promise<void> {
  const settings = context.settings();
  const wanted = parseDefinition(name, flags, {
    ...modeOf(settings),
    uid: randomUUID(),
    createdAt: new Date().toISOString(),
  });
  const node = nodeName(settings);
  const { stamp } = context;
  const notes = await context.withStore(async ({ rehearse, write, look }) => {
    // What every host would reject is rejected here.
    await rehearse((draft) => {
      for (const { cidr, range } of wanted.subnets) {
        const { ipPools } = wanted;
        poolForSubnet(draft, {
          subnet: cidr,
          ...(range === undefined ? {} : { range }),
          ...(ipPools === undefined ? {} : { ipPools }),
          stamp,
        });
      }
    });
    const stored = await write((draft) => defineNetwork(draft, wanted));
    return look((view) => unreachableNodes(view, stored, node));
  });
  const rows = await settled(context, name, flags.wait);
  context.out(
    formatTable(
      ['host', 'state'],
      rows.map((row) => [row.host, stateText(row)]),
    ),
  );
  for (const note of notes) context.out(`warning: ${note}\n`);
  if (rows.some(({ state }) => state === 'differs' || state === 'failed')) context.setStatus(1);
}

/** A datastore that other hosts share may get hosts of other subnets: pools for its networks work there as well. */
function modeOf(settings: Settings): Pick<NetworkDefinition, 'vxlanMode'> {
  return datastoreAccess(settings, 'node').kind === 'sqlite' ? {} : { vxlanMode: 'CrossSubnet' };
}

/** Waits until all hosts have reported, or for that many seconds. */
async function settled(
  context: CliContext,
  name: string,
  waitSeconds: number,
): Promise<readonly HostRow[]> {
  const end = performance.now() + waitSeconds * 1000;
  for (;;) {
    const rows = await context.withStore(({ look }) => look((view) => hostRows(view, name)));
    const isSettled = rows.every(
      ({ state, isLive }) => !isLive || (state !== 'away' && state !== 'creating'),
    );
    if (isSettled || performance.now() > end) return rows;
    await sleep(pollMs);
  }
}

async function remove(context: CliContext, name: string, { wait }: Waiting): Promise<void> {
  await context.withStore(({ write }) => write((draft) => removeDefinition(draft, name)));
  const end = performance.now() + wait * 1000;
  for (;;) {
    const left = await context.withStore(({ look }) =>
      look((view) =>
        view.get('NetworkDefinition', name)?.value.isRemoving === true
          ? hostRows(view, name).filter(({ state }) => state !== 'away')
          : undefined,
      ),
    );
    if (left === undefined) {
      context.out(`${name}\n`);
      return;
    }
    // The last report and the definition are removed together, but read one after the other.
    const isWaiting = left.length === 0 || left.some(({ isLive }) => isLive);
    if (performance.now() > end || !isWaiting) {
      const hosts = left.map(({ host, state, why }) =>
        state === 'failed' && why !== undefined ? `${host} (${why})` : host,
      );
      context.out(`${name}: still on ${hosts.join(', ')}; removed there when possible\n`);
      return;
    }
    await sleep(pollMs);
  }
}

function hostRows(view: View, name: string): readonly HostRow[] {
  const uid = view.get('NetworkDefinition', name)?.value.uid;
  const nodes = [...view.list('Node').keys()];
  view.list('NodeReport');
  const stored: Parameters<typeof livenessOf>[0] = { get: (kind, id) => view.get(kind, id)?.value };
  const reports = new Map(
    [...view.list('NetworkReport').values()]
      .filter(({ value }) => value.name === name && value.uid === uid)
      .map(({ value }) => [value.node, value]),
  );
  return [...new Set([...nodes, ...reports.keys()])].toSorted().map((host) => {
    const report = reports.get(host);
    // A datastore without leases is that of one host.
    const isLive = view.datastore.leases === undefined || livenessOf(stored, host).state === 'live';
    if (report === undefined) return { host, isLive, state: 'away' };
    const { state, why } = report;
    return why === undefined ? { host, isLive, state } : { host, isLive, state, why };
  });
}

function stateText({ state, why, isLive }: HostRow): string {
  if (state === 'away') {
    return isLive
      ? 'away: not reported yet'
      : 'away: its daemon does not run or cannot reach the datastore';
  }
  return why === undefined ? state : `${state}: ${why}`;
}

function listText(view: View): string {
  const rows = [...view.list('NetworkDefinition').values()].map(({ value }) => {
    const hosts = hostRows(view, value.name);
    const created = hosts.filter(({ state }) => state === 'created').length;
    const others = hosts.filter(({ state }) => state !== 'created');
    return [
      value.name,
      namespaceOfOptions(value.options),
      value.subnets.map(({ cidr }) => cidr).join(','),
      `${created}/${hosts.length}`,
      value.isRemoving === true
        ? 'removing'
        : others.map((row) => `${row.host} ${stateText(row)}`).join('; '),
    ];
  });
  return formatTable(['name', 'namespace', 'subnets', 'hosts', 'state'], rows);
}

function inspected(view: View, name: string): object {
  const stored = view.get('NetworkDefinition', name);
  if (stored === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'network definition', name });
  }
  return { ...stored.value, hosts: hostRows(view, name) };
}
