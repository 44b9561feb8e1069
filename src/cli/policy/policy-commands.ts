import { Option, type Command } from 'commander';
import type { CliContext } from '../context.ts';
import {
  composeIsolation,
  composeRule,
  denyTier,
  type ComposedPolicy,
  type Placement,
} from './compose.ts';
import { addPolicyTemplateCommands } from './policy-template-commands.ts';
import { parseEnd } from './ends.ts';
import { policyNotes } from './notes.ts';
import {
  addWriteOptions,
  outputOption,
  writeAndPrint,
  type DryRunOptions,
  type OutputOption,
} from './print.ts';
import { policyNamed } from './stored.ts';
import { listPolicies, showPolicy } from './text.ts';
import { parseNumber, parseTraffic, type TrafficOptions } from './traffic.ts';
import { removePolicies, yamlOf } from './write.ts';

/** `policy …`: policies without YAML, in the words of Docker and Compose. */
export function addPolicyCommands(program: Command, context: CliContext): void {
  const policy = program.command('policy').description('show and edit policies');
  for (const verb of ['allow', 'deny'] as const) {
    const command = policy
      .command(verb)
      .description(
        verb === 'allow'
          ? 'allow connections, and deny all others of the selected containers'
          : 'deny connections, whatever other policies allow',
      )
      .addOption(repeated('--from <end>', 'clients: labels, networks, all, or a selector'))
      .addOption(repeated('--to <end>', 'servers: labels, networks, all, or a selector'))
      .addOption(repeated('--port <ports>', 'ports of the servers: 80,8000-8010,53/udp,http'))
      .addOption(repeated('--proto <protocols>', 'tcp (default with --port), udp, sctp, icmp, …'))
      .option('--icmp <type>', 'ICMP type, or TYPE/CODE');
    addPlacementOptions(command)
      .addHelpText('after', ends)
      .action(async (options: RuleOptions) => {
        const composed = composeRule({
          ...placementOf(options),
          verb,
          from: parseEnd('--from', options.from),
          to: parseEnd('--to', options.to),
          traffic: parseTraffic(options),
        });
        await write(context, composed, options);
      });
  }
  const isolate = policy
    .command('isolate <containers>')
    .description('let containers accept connections from each other only');
  addPlacementOptions(isolate).action(async (containers: string, options: PlacementOptions) =>
    write(context, [composeIsolation(containers, placementOf(options))], options),
  );
  addPolicyTemplateCommands(policy, context);
  policy
    .command('ls')
    .alias('list')
    .description('list policies in the order of evaluation')
    .action(async () =>
      context.out(await context.withStore(({ rehearse }) => rehearse(listPolicies))),
    );
  policy
    .command('show <name>')
    .description('show the rules of a policy and the containers that it selects')
    .addOption(outputOption())
    .action(async (name: string, { output }: OutputOption) => {
      const text = await context.withStore(({ rehearse }) =>
        rehearse((draft) =>
          output === 'yaml' ? yamlOf(policyNamed(draft, name).resource) : showPolicy(draft, name),
        ),
      );
      context.out(text);
    });
  policy
    .command('rm <names...>')
    .alias('remove')
    .description('remove policies, and everything else that was created with them')
    .action(async (names: readonly string[]) =>
      context.out(
        await context.withStore(({ write: commit }) =>
          commit((draft) => removePolicies(draft, names)),
        ),
      ),
    );
}

const ends = `
END is one of these; several --from or --to are alternatives:
  service=db,project=shop   containers by label; all labels must match. KEY is service, project, network, name,
                            namespace, tag, or the key of any other label (label=KEY=VALUE if it has one of these names)
  service!=db               containers without this value
  10.0.0.0/8,192.0.2.7      networks and addresses
  all                       all containers on Calico networks
  any                       any address, as without the option
  "team in {'a', 'b'}"      a selector of Calico
The policy selects the containers of --to and applies to their inbound
connections; if --to has no containers, it selects those of --from and applies to their outbound connections.`;

interface PlacementOptions extends DryRunOptions {
  readonly network?: string;
  readonly name?: string;
  readonly order?: string;
  readonly tier?: string;
  readonly direction?: Placement['direction'];
}

interface RuleOptions extends PlacementOptions, TrafficOptions {
  readonly from?: readonly string[];
  readonly to?: readonly string[];
}

function addPlacementOptions(command: Command): Command {
  command
    .option('--network <name>', 'only on this network')
    .addOption(
      new Option(
        '--direction <direction>',
        'direction of the policy; both: allow at both ends',
      ).choices(['inbound', 'outbound', 'both']),
    )
    .option('--name <name>', 'name of the policy (default: from the other options)')
    .option('--order <number>', 'order in its tier; without it the last')
    .option('--tier <name>', 'tier of the policy');
  return addWriteOptions(command);
}

function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser(
    (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
  );
}

function placementOf({ network, name, order, tier, direction }: PlacementOptions): Placement {
  const why = 'must be a number; policies with lower ones are evaluated first';
  const number = order === undefined ? undefined : parseNumber(`--order ${order}`, order, why);
  return { network, name, order: number, tier, direction };
}

/** Writes the policies; they replace one that another command created only if the user chose its name. */
async function write(
  context: CliContext,
  composed: readonly ComposedPolicy[],
  { name, output, dryRun = false }: PlacementOptions,
): Promise<void> {
  const policies = composed.map(({ policy }) => policy);
  const isDenied = policies.some(({ spec }) => spec.tier === denyTier.metadata.name);
  const { labels } = context.settings();
  const resources = isDenied ? [denyTier, ...policies] : policies;
  await writeAndPrint(context, resources.map(yamlOf), {
    output,
    dryRun,
    mayReplace: () => name !== undefined,
    notes: (draft) => policyNotes(draft, composed, labels),
  });
}
