import { rmSync } from 'node:fs';
import type { Command } from 'commander';
import { cleanThisHost } from '../agent/reclaim/clean.ts';
import { domainAddressesFile } from '../agent/saved-domain-addresses.ts';
import { datastoreAccess } from '../cluster/datastore-access.ts';
import { Bird, birdFolder } from '../bird/bird.ts';
import { emptyConfigText } from '../bird/config-text.ts';
import { hostRulesFile, readHostRules, restoreHostRules } from '../dataplane/host-rules-file.ts';
import { openKernelSockets } from '../dataplane/kernel-sockets.ts';
import { ToolRunner } from '../dataplane/process.ts';
import { checkStart } from '../host/check-start.ts';
import { Ipv6Forwarding } from '../dataplane/host-settings.ts';
import { CalicoError } from '../errors/error.ts';
import { nodeName } from '../host/node-name.ts';
import type { CliContext } from './context.ts';
import { isRunning } from './control-client.ts';

const cleanMs = 60_000;
const restoreMs = 20_000;

interface CleanOptions {
  readonly list?: true;
  readonly keep?: string;
}

/** `run`, `clean` and `restore-host-rules`, which a unit runs at boot. */
export function addHostCommands(
  program: Command,
  context: CliContext,
  run: () => Promise<void>,
): void {
  program
    .command('run')
    .description('run the daemon: Docker plugin and node agent')
    .option('--check', 'validate settings and datastore, and exit')
    .action(async ({ check }: { readonly check?: true }) => {
      if (check) await checkStart(datastoreAccess(context.settings(), 'node'));
      else await run();
    });
  program
    .command('clean')
    .description(
      'remove all rules, sets, routes and interfaces of calico-cnm from this host and restore its settings (daemon must be stopped)',
    )
    .option('--list', 'list the networks of this host in the datastore, and exit')
    .option('--keep <settings>', 'sysctls to leave unchanged, comma-separated')
    .action(({ list, keep }: CleanOptions) =>
      list ? listNetworks(context) : clean(context, (keep ?? '').split(',')),
    );
  program
    .command('restore-host-rules', { hidden: true })
    .description('write the saved rules of host endpoints to the kernel, unless it has rules')
    .action(async () => {
      const saved = readHostRules(hostRulesFile(context.settings()));
      if (saved === undefined) return;
      const sockets = openKernelSockets();
      try {
        const { ipset } = sockets;
        const signal = AbortSignal.timeout(restoreMs);
        await restoreHostRules(saved, { ipset, runner: new ToolRunner() }, signal);
      } finally {
        sockets.close();
      }
    });
}

async function clean(context: CliContext, keep: readonly string[]): Promise<void> {
  const { controlSocket } = context.settings();
  if (await isRunning(controlSocket)) {
    const why = 'the daemon is running; stop it first: systemctl stop calico-cnm';
    throw new CalicoError('cli/bad-argument', { what: 'clean', why });
  }
  const bird = new Bird(birdFolder(controlSocket), new ToolRunner());
  await bird.stop(emptyConfigText(bird.logFile), AbortSignal.timeout(cleanMs));
  rmSync(birdFolder(controlSocket), { recursive: true, force: true });
  for (const file of [hostRulesFile, domainAddressesFile]) {
    rmSync(file(context.settings()), { force: true });
  }
  const forwarding = new Ipv6Forwarding(controlSocket);
  await cleanThisHost(forwarding, new Set(keep), AbortSignal.timeout(cleanMs));
}

async function listNetworks(context: CliContext): Promise<void> {
  const node = nodeName(context.settings());
  const networks = await context.withStore(({ look }) =>
    look((view) => [...view.list('DockerNetwork', `${node}/`).values()]),
  );
  for (const { value } of networks) {
    if (value.node === node) context.out(`${value.id} ${plainOrQuoted(value.name ?? value.id)}\n`);
  }
}

/** Returns a name, as a JSON string if it has special characters, so that it stays on one line. */
function plainOrQuoted(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : JSON.stringify(name);
}
