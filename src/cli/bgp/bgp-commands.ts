import type { Command } from 'commander';
import { Option } from 'commander';
import { bgpReport, type BgpReport } from '../../bird/report.ts';
import type { Draft } from '../../datastore/writer.ts';
import {
  addPeer,
  addReflector,
  removePeer,
  removeReflector,
  setDraining,
  setEnabled,
  setMesh,
  type PeerRequest,
} from './bgp-plans.ts';
import type { CliContext } from '../context.ts';
import { fetchReport } from '../control-client.ts';
import { sessionRestartNotes } from '../resources/session-restart-notes.ts';
import { formatTable } from '../table.ts';

const defaultClusterId = '244.0.0.1';

/** `bgp`: switch BGP on and off, reflectors, and the state of the sessions. */
export function addBgpCommands(program: Command, context: CliContext): void {
  const bgp = program.command('bgp').description('set up BGP and show its sessions');
  bgp
    .command('enable')
    .description('let all hosts speak BGP, with the BIRD that is installed on them')
    .action(() => edit(context, (draft) => setEnabled(draft, context.stamp, true)));
  bgp
    .command('disable')
    .description('stop BGP on all hosts')
    .action(() => edit(context, (draft) => setEnabled(draft, context.stamp, false)));
  bgp
    .command('status')
    .description('show the BGP sessions of this host, and why those are down that are')
    .addOption(
      new Option('-o, --output <format>', 'format of the output')
        .choices(['text', 'json'])
        .default('text'),
    )
    .action(async ({ output }: { readonly output: string }) => {
      const report = bgpReport.parse(await fetchReport(context.settings().controlSocket, '/bgp'));
      context.out(output === 'json' ? `${JSON.stringify(report, null, 2)}\n` : formatBgp(report));
      const isUp = report.sessions.every(({ state }) => state === 'Established');
      if (!report.isOn || !isUp || report.why !== undefined) context.setStatus(1);
    });
  const reflector = bgp.command('reflector').description('make nodes route reflectors');
  reflector
    .command('add <node>')
    .description('make a node a route reflector, with a session to every node')
    .option('--cluster-id <id>', 'cluster of the reflector, an IPv4 address', defaultClusterId)
    .action((node: string, { clusterId }: { readonly clusterId: string }) =>
      edit(context, (draft) => addReflector(draft, context.stamp, { name: node, clusterId })),
    );
  reflector
    .command('remove <node>')
    .description('make a node an ordinary one again')
    .action((node: string) => edit(context, (draft) => removeReflector(draft, node)));
  const peer = bgp.command('peer').description('sessions with routers');
  peer
    .command('add <address>')
    .description('add sessions of all hosts, or of some, with a router; ADDRESS may have a port')
    .requiredOption('--as <number>', 'AS number of the router')
    .option('--name <name>', 'name of the BGPPeer (default: from the address)')
    .addOption(new Option('--node <node>', 'only of this host').conflicts('nodeSelector'))
    .option('--node-selector <selector>', 'only of the hosts with these labels')
    .option('--password <name/key>', 'password file, below /etc/calico/bgp-passwords on each host')
    .action((address: string, options: Omit<PeerRequest, 'address'>) =>
      edit(context, (draft) => addPeer(draft, context.stamp, { ...options, address })),
    );
  peer
    .command('remove <peer>')
    .description('remove the sessions with a router, by its address or the name of the BGPPeer')
    .action((which: string) => edit(context, (draft) => removePeer(draft, which)));
  bgp
    .command('drain <node>')
    .description('make the routes of a host the last choice of its peers, before maintenance')
    .action((node: string) => edit(context, (draft) => setDraining(draft, node, true)));
  bgp
    .command('undrain <node>')
    .description('end the draining of a host')
    .action((node: string) => edit(context, (draft) => setDraining(draft, node, false)));
  bgp
    .command('mesh <state>')
    .description('switch the node-to-node mesh on or off')
    .action((state: string) => edit(context, (draft) => setMesh(draft, context.stamp, state)));
}

async function edit(context: CliContext, plan: (draft: Draft) => string): Promise<void> {
  const said = await context.withStore(async ({ write, rehearse }) => {
    const restarts = await rehearse((draft) => sessionRestartNotes(draft, plan));
    for (const note of restarts) context.out(`warning: ${note}\n`);
    return write(plan);
  });
  context.out(`${said}\n`);
}

/** Formats a report as text. */
export function formatBgp(report: BgpReport): string {
  const { why, isOn, node, routerId, isDraining, sessions, problems, ended } = report;
  if (!isOn) return `${why ?? 'BGP is off'}\n`;
  const rows = sessions.map((session) => [
    session.peer,
    session.of,
    session.type,
    String(session.as),
    session.state,
    session.since ?? '',
    String(session.imported),
    String(session.filtered),
    String(session.exported),
  ]);
  const header = ['peer', 'of', 'type', 'as', 'state', 'since', 'in', 'filtered', 'out'];
  return [
    `Node ${node}, router ID ${routerId}\n`,
    ...(isDraining ? [`is being drained; undo it: calico-cnm bgp undrain ${node}\n`] : []),
    ...(why === undefined ? [] : [`FAIL ${why}\n`]),
    ...(rows.length === 0 ? ['no sessions\n'] : [formatTable(header, rows)]),
    ...sessions.flatMap((session) =>
      session.why === undefined ? [] : [`${session.peer} is down: ${session.why}\n`],
    ),
    ...sessions.flatMap(({ peer, imported, isAtLimit }) =>
      isAtLimit
        ? [`${peer} announces more than ${imported} routes; the others are not used\n`]
        : [],
    ),
    ...problems.map((problem) => `no effect: ${problem}\n`),
    ...(ended === undefined
      ? []
      : [`sessions ended by a change of resources at ${ended.at}: ${ended.peers.join(', ')}\n`]),
  ].join('');
}
