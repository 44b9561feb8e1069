import { randomUUID } from 'node:crypto';
import { Command, CommanderError, Option } from 'commander';
import { loadSettings } from '../config/load.ts';
import { datastoreAccess } from '../cluster/datastore-access.ts';
import { createStamp } from '../model/stamp.ts';
import { describe } from '../errors/error.ts';
import { isHealthy } from '../telemetry/status-report.ts';
import { version } from '../version.ts';
import { addClusterCommands } from './cluster/cluster-commands.ts';
import { addBgpCommands } from './bgp/bgp-commands.ts';
import { addContainerCommands } from './profiles/container-commands.ts';
import type { CliContext } from './context.ts';
import { fetchStatus } from './control-client.ts';
import { addDatastoreCommands } from './datastore-commands.ts';
import { addHostCommands } from './host-commands.ts';
import { addIpamCommands } from './ipam-commands.ts';
import { addNetworkCommands } from './networks/network-commands.ts';
import { addNodeCommands } from './nodes/node-commands.ts';
import { addPolicyCommands } from './policy/policy-commands.ts';
import { addPortsCommand } from './ports-command.ts';
import { asPermission } from './permission.ts';
import { addProfileCommands } from './profiles/profile-commands.ts';
import { addResourceCommands } from './resources/resource-commands.ts';
import { formatStatus } from './status-text.ts';
import { withStore } from './store.ts';

/** The environment of a command. */
export interface CliWorld {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** File for settings that are not in the environment. */
  readonly settingsFile: string;
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  readonly readInput: () => Promise<string>;
  /** Runs the daemon until it is stopped. Returns its exit status. */
  readonly run: () => Promise<number>;
}

/** Runs one command. Returns the exit status: 0 for success, 1 for a failure, 2 for an invalid command. */
export async function runCommand(argv: readonly string[], world: CliWorld): Promise<number> {
  let status = 0;
  const settings = () => loadSettings(world.environment, world.settingsFile).settings;
  const context: CliContext = {
    out: world.out,
    progress: (line) => world.error(`${line}\n`),
    readInput: world.readInput,
    settings,
    withStore: (use) => withStore(datastoreAccess(settings(), 'admin'), use),
    stamp: createStamp({ now: () => new Date(), uuid: randomUUID }),
    setStatus: (changed) => {
      status = changed;
    },
  };
  const program = new Command('calico-cnm')
    .description('Calico networking and network policy for Docker')
    .version(`calico-cnm ${version}`, '-v, --version', 'print the version')
    .exitOverride()
    .configureOutput({
      writeOut: world.out,
      writeErr: world.error,
      outputError: (text, write) => write(usageError(text, program)),
    });
  addHostCommands(program, context, async () => {
    status = await world.run();
  });
  program
    .command('status')
    .description('show node status')
    .addOption(
      new Option('-o, --output <format>', 'format of the output')
        .choices(['text', 'json'])
        .default('text'),
    )
    .action(async ({ output }: { readonly output: string }) => {
      const report = await fetchStatus(settings().controlSocket);
      world.out(output === 'json' ? `${JSON.stringify(report, null, 2)}\n` : formatStatus(report));
      status = isHealthy(report) ? 0 : 1;
    });
  addResourceCommands(program, context);
  addProfileCommands(program, context);
  addPolicyCommands(program, context);
  addContainerCommands(program, context);
  addNetworkCommands(program, context);
  addIpamCommands(program, context);
  addNodeCommands(program, context);
  addBgpCommands(program, context);
  addPortsCommand(program, context);
  addDatastoreCommands(program, context);
  addClusterCommands(program, context);
  program
    .command('version')
    .description('print the version')
    .action(() => world.out(`calico-cnm ${version}\n`));
  try {
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    world.error(`calico-cnm: ${describe(asPermission(error, argv))}\n`);
    return 1;
  }
  return status;
}

/** Returns the error of an invalid command on one line. */
function usageError(text: string, program: Command): string {
  const message = text
    .replace(/^error: /, '')
    .replaceAll(/\s*\n\s*/g, ' ')
    .trim()
    .replace(/\.$/, '');
  const [, typed] = /^unknown command '([\w-]+)'$/.exec(message) ?? [];
  const groups = program.commands.filter(({ commands }) =>
    commands.some((one) => one.name() === typed),
  );
  const meant = groups.map((group) => `${group.name()} ${typed}`).join(' or ');
  const hint = meant === '' ? '' : ` (Did you mean ${meant}?)`;
  return `calico-cnm: ${message}${hint}; see calico-cnm --help\n`;
}
