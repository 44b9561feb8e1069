import type { Command } from 'commander';
import type { CliContext } from '../context.ts';
import type { ComposedPolicy } from './compose.ts';
import { policyNotes } from './notes.ts';
import { addWriteOptions, writeAndPrint, type DryRunOptions } from './print.ts';
import { fillTemplate, listTemplates, parameterHelp } from './template.ts';
import { parseWritten } from './write.ts';

/** `policy template …`: ready policies with parameters. */
export function addPolicyTemplateCommands(policy: Command, context: CliContext): void {
  const template = policy.command('template').description('ready policies with parameters');
  template
    .command('ls')
    .alias('list')
    .description('list the templates and their parameters')
    .action(() => context.out(listTemplates()));
  template
    .command('show <template> [parameters...]')
    .description('print the resources that apply writes')
    .addHelpText('after', parameterHelp())
    .action((name: string, args: readonly string[]) => {
      const { documents } = fillTemplate(name, args);
      context.out(documents.join('---\n'));
    });
  const apply = template
    .command('apply <template> [parameters...]')
    .description('write the resources of a template; parameters are PARAMETER=VALUE');
  addWriteOptions(apply)
    .addHelpText('after', parameterHelp())
    .action(async (name: string, args: readonly string[], options: DryRunOptions) => {
      const { documents, containers, command } = fillTemplate(name, args);
      const composed = documents.flatMap((text) => composedOf(text, containers));
      const { labels } = context.settings();
      await writeAndPrint(context, documents, {
        ...options,
        mayReplace: (other) => other === command || other.startsWith(`${command} `),
        notes: (draft) => policyNotes(draft, composed, labels),
      });
    });
}

function composedOf(
  text: string,
  containers: ReadonlyMap<string, string>,
): readonly ComposedPolicy[] {
  const resource = parseWritten(text);
  if (resource.kind !== 'GlobalNetworkPolicy') return [];
  const { selector = '', types = [] } = resource.spec;
  const directions = types.map((type) => (type === 'Ingress' ? 'inbound' : 'outbound'));
  return [{ policy: resource, directions, containers: containers.get(selector) ?? selector }];
}
