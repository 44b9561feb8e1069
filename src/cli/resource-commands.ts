import type { Command } from 'commander';
import { readFileSync } from 'node:fs';
import { CalicoError, describe } from '../errors/error.ts';
import { resourceNameFor } from '../model/names.ts';
import {
  formatYaml,
  ordered,
  parseResources,
  resourceKind,
  type Resource,
  type ResourceKind,
} from '../model/user-input.ts';
import type { CliContext } from './context.ts';
import { applyResource, deleteResource, resourceId } from './resource-plans.ts';
import { formatResources, readResources } from './resource-table.ts';

const formats = ['table', 'yaml', 'json'] as const;

/** `get`, `apply` and `delete`. */
export function addResourceCommands(program: Command, context: CliContext): void {
  program
    .command('get <kind> [names...]')
    .description('show resources: ippool, ipreservation, profile, workloadendpoint, node, tier')
    .option('-o, --output <format>', formats.join(', '), 'table')
    .action(async (word: string, names: readonly string[], { output }: OutputOption) => {
      const kind = resourceKind(word);
      const format = parseFormat(output);
      const resources = await context.withStore(async ({ mirror }) =>
        selected(readResources(mirror, kind), kind, names),
      );
      context.out(formatted(format, kind, resources));
    });
  program
    .command('apply')
    .description('create or change resources from YAML or JSON')
    .requiredOption('-f, --filename <file>', 'file to read; - is the standard input')
    .action(async ({ filename }: FileOption) => {
      const resources = parseResources(await readText(filename, context));
      if (resources.length === 0) {
        throw new CalicoError('cli/bad-document', { where: filename, why: 'holds no resource' });
      }
      const done = await context.withStore(({ write, mirror }) => {
        const versionOf = (kind: ResourceKind, id: string) =>
          mirror.get(kind, id)?.modRevision.toString();
        const { stamp } = context;
        return write((draft) =>
          resources.map((resource) => applyResource(draft, resource, { stamp, versionOf })),
        );
      });
      for (const [index, resource] of resources.entries()) {
        context.out(`${resource.kind} ${resourceId(resource)} ${done[index] ?? ''}\n`);
      }
    });
  program
    .command('delete [kind] [names...]')
    .description('delete resources by name, or those of a file')
    .option('-f, --filename <file>', 'file that holds them; - is the standard input')
    .action(
      async (
        word: string | undefined,
        names: readonly string[],
        { filename }: Partial<FileOption>,
      ) => {
        const targets = await deletionTargets(context, { word, names, filename });
        await context.withStore(({ write }) =>
          write((draft) => {
            for (const { kind, id } of targets) deleteResource(draft, kind, id);
          }),
        );
        for (const { kind, id } of targets) context.out(`${kind} ${id} deleted\n`);
      },
    );
}

interface OutputOption {
  readonly output: string;
}

interface FileOption {
  readonly filename: string;
}

type Format = (typeof formats)[number];

function parseFormat(text: string): Format {
  const found = formats.find((format) => format === text);
  if (found !== undefined) return found;
  const why = `must be one of ${formats.join(', ')}`;
  throw new CalicoError('cli/bad-argument', { what: `--output ${text}`, why });
}

function formatted(format: Format, kind: ResourceKind, resources: readonly Resource[]): string {
  if (format === 'table') return formatResources(kind, resources);
  if (format === 'yaml') return formatYaml(resources);
  return `${JSON.stringify(resources.map(ordered), null, 2)}\n`;
}

/** Those of the given names, which may be Docker's; all if none is given. */
function selected(
  resources: readonly Resource[],
  kind: ResourceKind,
  names: readonly string[],
): readonly Resource[] {
  if (names.length === 0) return resources;
  return names.map((name) => {
    const found = resources.find(
      ({ metadata }) => metadata.name === name || metadata.name === resourceNameFor(name),
    );
    if (found === undefined) throw new CalicoError('datastore/not-found', { kind, name });
    return found;
  });
}

async function deletionTargets(
  context: CliContext,
  asked: {
    readonly word: string | undefined;
    readonly names: readonly string[];
    readonly filename: string | undefined;
  },
): Promise<readonly { readonly kind: ResourceKind; readonly id: string }[]> {
  const { word, names, filename } = asked;
  if (filename !== undefined) {
    const resources = parseResources(await readText(filename, context));
    return resources.map((resource) => ({ kind: resource.kind, id: resourceId(resource) }));
  }
  if (word === undefined || names.length === 0) {
    throw new CalicoError('cli/bad-argument', {
      what: 'delete',
      why: 'needs a kind and names, or -f FILE',
    });
  }
  const kind = resourceKind(word);
  return context.withStore(async ({ mirror }) =>
    names.map((name) => {
      const mapped = resourceNameFor(name);
      const isMapped =
        mirror.get(kind, name) === undefined && mirror.get(kind, mapped) !== undefined;
      return { kind, id: isMapped ? mapped : name };
    }),
  );
}

async function readText(file: string, context: CliContext): Promise<string> {
  if (file === '-') return context.readInput();
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CalicoError('cli/unreadable', { file, why: describe(error) }, { cause: error });
  }
}
