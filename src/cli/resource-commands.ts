import type { Command } from 'commander';
import { readFileSync } from 'node:fs';
import { CalicoError, describe } from '../errors/error.ts';
import { resourceNameFor } from '../model/names.ts';
import { isEndpointNamed } from '../model/kinds/workload-endpoint.ts';
import {
  resourceKinds,
  resourceTypeOf,
  type Resource,
  type ResourceKind,
} from '../model/kinds/index.ts';
import { resourceId } from '../model/resource-type.ts';
import { formatYaml, ordered, parseResources, resourceKind } from '../model/user-input.ts';
import { writeInSteps, type Failed } from '../datastore/steps.ts';
import type { View } from '../cache/view.ts';
import type { Draft } from '../datastore/writer.ts';
import type { CliContext } from './context.ts';
import { unenforcedNotes } from './unenforced-notes.ts';
import { applyResource, deleteResource, idsInDraft } from './resource-plans.ts';
import { formatResources, readResource, readResources } from './resource-table.ts';
import type { Store } from './store.ts';

const formats = ['table', 'yaml', 'json'] as const;

/** `get`, `apply` and `delete`. */
export function addResourceCommands(program: Command, context: CliContext): void {
  program
    .command('get <kind> [names...]')
    .description(`show resources: ${resourceKinds.join(', ').toLowerCase()}`)
    .option('-o, --output <format>', formats.join(', '), 'table')
    .action(async (word: string, names: readonly string[], { output }: OutputOption) => {
      const kind = resourceKind(word);
      const format = parseFormat(output);
      const resources = await context.withStore(({ look }) =>
        look((view) => selected(view, kind, names)),
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
      await context.withStore((store) => applyAll(store, resources, context));
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
        await context.withStore((store) => deleteAll(store, targets, context));
      },
    );
}

/**
 * Writes nothing if one of them would be refused; then in as many transactions as they need. What could not be
 * written all the same, because of others who write, is told by name.
 */
async function applyAll(
  { view, readAhead, write, rehearse }: Store,
  resources: readonly Resource[],
  { stamp, out }: CliContext,
): Promise<void> {
  const versionOf = (kind: ResourceKind, id: string) => view.get(kind, id)?.modRevision.toString();
  const plan = (some: readonly Resource[]) => (draft: Draft) =>
    some.map((resource) => applyResource(draft, resource, { stamp, versionOf }));
  const wanted = (some: readonly Resource[]) =>
    keysOf(some.map((resource) => ({ kind: resource.kind, id: resourceId(resource) })));
  await readAhead(wanted(resources));
  await rehearse(plan(resources));
  const failed = await writeInSteps(resources, async (step) => {
    await readAhead(wanted(step));
    const done = await write(plan(step));
    for (const [index, resource] of step.entries()) {
      out(`${resource.kind} ${resourceId(resource)} ${done[index] ?? ''}\n`);
    }
  });
  for (const note of unenforcedNotes(resources)) out(`note: ${note}\n`);
  throwFailed(failed, resources.length, (resource) => [resource.kind, resourceId(resource)]);
}

/** What is to be deleted. */
interface Target {
  readonly kind: ResourceKind;
  readonly id: string;
}

/** Under which keys they may be stored. */
function keysOf(targets: readonly Target[]): readonly Target[] {
  return targets.flatMap(({ kind, id }) =>
    resourceTypeOf[kind].storedIds(id).map((stored) => ({ kind, id: stored })),
  );
}

/** As `applyAll`. */
async function deleteAll(
  { readAhead, writeAll, rehearse }: Store,
  targets: readonly Target[],
  { out }: CliContext,
): Promise<void> {
  const plan = (some: readonly Target[]) => (draft: Draft) => {
    // What is gone was there when it was rehearsed: it went a step before.
    const isThere = ({ kind, id }: Target) => idsInDraft(draft, kind, id).length > 0;
    const left = some.filter(isThere);
    const all = left.map(({ kind, id }) => deleteResource(draft, kind, id));
    return all.includes('more') ? 'more' : 'done';
  };
  await readAhead(keysOf(targets));
  await rehearse((draft) => {
    for (const { kind, id } of targets) deleteResource(draft, kind, id);
  });
  const failed = await writeInSteps(targets, async (step) => {
    await readAhead(keysOf(step));
    await writeAll(plan(step));
    for (const { kind, id } of step) out(`${kind} ${id} deleted\n`);
  });
  throwFailed(failed, targets.length, ({ kind, id }) => [kind, id]);
}

/** Says of each item that was not written that it was not, if others were; throws if there is one. */
function throwFailed<Item>(
  failed: readonly Failed<Item>[],
  count: number,
  title: (item: Item) => readonly [kind: string, id: string],
): void {
  const [first] = failed;
  if (first === undefined) return;
  if (failed.length === count && count === 1) throw first.error;
  const names = failed.map(({ item }) => title(item).join(' '));
  const which = names.length > 5 ? `${names.slice(0, 5).join(', ')}, …` : names.join(', ');
  throw new CalicoError(
    'cli/partly-written',
    { failed: failed.length, count, which, why: describe(first.error) },
    { cause: first.error },
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
function selected(view: View, kind: ResourceKind, names: readonly string[]): readonly Resource[] {
  if (names.length === 0) return readResources(view, kind);
  const found = names.flatMap((name) => {
    const ofName = named(view, kind, name);
    if (ofName.length === 0) throw new CalicoError('datastore/not-found', { kind, name });
    return ofName;
  });
  return [...new Map(found.map((resource) => [resourceId(resource), resource])).values()];
}

/**
 * The resources that a name means, in the order of their own: one of that name or Docker's, with its namespace or in
 * each namespace, or all endpoints of a container; none if there is no such.
 */
function named(view: View, kind: ResourceKind, name: string): readonly Resource[] {
  const exact = readResource(view, kind, name) ?? readResource(view, kind, resourceNameFor(name));
  if (exact !== undefined) return [exact];
  if (!resourceTypeOf[kind].isNamespaced) return [];
  const resources = readResources(view, kind);
  const inNamespaces = [name, resourceNameFor(name)]
    .map((wanted) => resources.filter(({ metadata }) => metadata.name === wanted))
    .find((found) => found.length > 0);
  if (inNamespaces !== undefined) return inNamespaces;
  return resources.filter((one) => one.kind === 'WorkloadEndpoint' && isEndpointNamed(one, name));
}

async function deletionTargets(
  context: CliContext,
  asked: {
    readonly word: string | undefined;
    readonly names: readonly string[];
    readonly filename: string | undefined;
  },
): Promise<readonly Target[]> {
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
  return context.withStore(({ look }) =>
    look((view) => {
      const ids = names.flatMap((name) => {
        const found = named(view, kind, name).map(resourceId);
        if (new Set(found.map((id) => id.split('/')[0])).size > 1) {
          const why = `there are ${found.join(' and ')}; name one of them so`;
          throw new CalicoError('cli/bad-argument', { what: `${kind} ${name}`, why });
        }
        // What is not there is refused with the rest, by its kind.
        return found.length === 0 ? [name] : found;
      });
      return [...new Set(ids)].map((id) => ({ kind, id }));
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
