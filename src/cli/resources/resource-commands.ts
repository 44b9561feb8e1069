import { Option, type Command } from 'commander';
import { readFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { CalicoError, describe } from '../../errors/error.ts';
import { resourceNameFor } from '../../model/names.ts';
import { isEndpointNamed } from '../../model/kinds/workload-endpoint.ts';
import {
  resourceKinds,
  resourceTypeOf,
  type Resource,
  type ResourceKind,
} from '../../model/kinds/index.ts';
import { resourceId } from '../../model/resource-type.ts';
import { ordered, parseResources, resourceKind } from '../../model/user-input.ts';
import { writeInSteps, type Failed } from '../../datastore/steps.ts';
import type { View } from '../../cache/view.ts';
import type { Draft } from '../../datastore/writer.ts';
import type { CliContext } from '../context.ts';
import { nodeName } from '../../host/node-name.ts';
import { hostEndpointNotes, ownInterfaces } from './host-endpoint-notes.ts';
import { namespaceNotes } from './namespace-notes.ts';
import { appliedDomainNotes } from '../policy/domain-notes.ts';
import { deleteNodes } from '../nodes/node-commands.ts';
import { concernsSessions, sessionRestartNotes } from './session-restart-notes.ts';
import { unenforcedNotes } from './unenforced-notes.ts';
import { applyResource, deleteResource, idsInDraft } from './resource-plans.ts';
import { formatResources, readResource, readResources } from './resource-table.ts';
import type { Store } from '../store.ts';

/** `ps`, `yml` and `wide` are calicoctl's; `wide` is a table with all columns. */
const formats = ['table', 'ps', 'wide', 'yaml', 'yml', 'json'] as const;

/** `get`, `apply` and `delete`. */
export function addResourceCommands(program: Command, context: CliContext): void {
  program
    .command('get <kind> [names...]')
    .description(`list resources: ${resourceKinds.join(', ').toLowerCase()}`)
    .addOption(
      new Option('-o, --output <format>', 'format of the output').choices(formats).default('table'),
    )
    .addOption(namespaceOption().conflicts('allNamespaces'))
    .option('-A, --all-namespaces', 'resources of all namespaces (default)')
    .action(
      async (
        word: string,
        names: readonly string[],
        { output, namespace }: OutputOption & NamespaceOption,
      ) => {
        const kind = resourceKind(word);
        const { text, missing } = await context.withStore(({ look }) =>
          look((view) => {
            const found = selected(view, kind, { names, namespace });
            const isList = names.length === 0;
            return { ...found, text: formatted(output, kind, { ...found, view, isList }) };
          }),
        );
        // The resources that exist are still shown.
        if (missing.length < Math.max(1, names.length)) context.out(text);
        throwMissing(missing.map((name) => ({ kind, id: name })));
      },
    );
  program
    .command('apply')
    .description('create or update resources from a YAML or JSON file')
    .requiredOption('-f, --filename <file>', 'file to read; - reads standard input')
    .addOption(namespaceOption('namespace of resources without one (default: "default")'))
    .action(async ({ filename, namespace }: FileOption & NamespaceOption) => {
      const resources = parseResources(await readText(filename, context), namespace);
      if (resources.length === 0) {
        throw new CalicoError('cli/bad-document', { where: filename, why: 'contains no resource' });
      }
      await context.withStore((store) => applyAll(store, resources, context));
    });
  program
    .command('delete [kind] [names...]')
    .description('delete resources by name or from a file')
    .option('-f, --filename <file>', 'file with the resources; - reads standard input')
    .addOption(namespaceOption())
    .option('-s, --skip-not-exists', 'ignore resources that do not exist')
    .action(
      async (
        word: string | undefined,
        names: readonly string[],
        options: Partial<FileOption & SkipOption> & NamespaceOption,
        command: Command,
      ) => {
        const { filename, namespace, skipNotExists = false } = options;
        if (filename === undefined && (word === undefined || names.length === 0)) {
          command.error('delete needs a kind and names, or -f FILE');
        }
        const targets = await deletionTargets(context, { word, names, filename, namespace });
        const missing = await context.withStore((store) => deleteAll(store, targets, context));
        if (!skipNotExists) throwMissing(missing);
      },
    );
}

/**
 * Writes nothing if one of the resources is invalid; otherwise uses as many transactions as necessary. Reports by name
 * the resources that could not be written because of concurrent writes.
 */
async function applyAll(
  { view, look, readAhead, write, rehearse }: Store,
  resources: readonly Resource[],
  { stamp, out, settings }: CliContext,
): Promise<void> {
  const versionOf = (kind: ResourceKind, id: string) => view.get(kind, id)?.modRevision.toString();
  const plan = (some: readonly Resource[]) => (draft: Draft) =>
    some.map((resource) => applyResource(draft, resource, { stamp, versionOf }));
  const keys = (some: readonly Resource[]) =>
    keysOf(some.map((resource) => ({ kind: resource.kind, id: resourceId(resource) })));
  await readAhead(keys(resources));
  const restarts = await rehearse((draft) => restartsOf(draft, resources, plan(resources)));
  for (const note of restarts) out(`warning: ${note}\n`);
  const failed = await writeInSteps(resources, async (step) => {
    await readAhead(keys(step));
    const done = await write(plan(step));
    for (const [index, resource] of step.entries()) {
      out(`${resource.kind} ${resourceId(resource)} ${done[index] ?? ''}\n`);
    }
  });
  const hasHosts = resources.some(({ kind }) => kind === 'HostEndpoint');
  const stored = hasHosts ? await look((all) => [...all.list('HostEndpoint')]) : [];
  const hostNotes = hostEndpointNotes(resources, {
    node: nodeName(settings()),
    stored: new Map(stored.map(([id, { value }]) => [id, value])),
    interfaces: ownInterfaces,
  });
  const ofNamespaces = await look((all) => namespaceNotes(all, resources));
  const ofDomains = await look((all) => appliedDomainNotes(all, resources));
  for (const note of [...unenforcedNotes(resources), ...hostNotes, ...ofNamespaces, ...ofDomains]) {
    out(`note: ${note}\n`);
  }
  throwFailed(failed, resources.length, (resource) => [resource.kind, resourceId(resource)]);
}

/** Runs a plan for some resources; returns what it does to BGP sessions. */
function restartsOf(
  draft: Draft,
  some: readonly { readonly kind: ResourceKind }[],
  plan: (draft: Draft) => unknown,
): readonly string[] {
  if (some.some(({ kind }) => concernsSessions(kind))) return sessionRestartNotes(draft, plan);
  plan(draft);
  return [];
}

/** A resource to delete. */
interface Target {
  readonly kind: ResourceKind;
  readonly id: string;
}

/** Returns the keys under which they may be stored. */
function keysOf(targets: readonly Target[]): readonly Target[] {
  return targets.flatMap(({ kind, id }) =>
    resourceTypeOf[kind].storedIds(id).map((stored) => ({ kind, id: stored })),
  );
}

/** Like `applyAll`. Returns the resources that do not exist. */
async function deleteAll(
  store: Store,
  targets: readonly Target[],
  context: CliContext,
): Promise<readonly Target[]> {
  const { readAhead, writeAll, rehearse } = store;
  const { out } = context;
  const isThere = (draft: Draft, { kind, id }: Target) =>
    resourceTypeOf[kind].protection(id) !== undefined || idsInDraft(draft, kind, id).length > 0;
  const plan = (some: readonly Target[]) => (draft: Draft) => {
    // A resource that is missing now existed in the rehearsal: an earlier step deleted it.
    const left = some.filter((target) => isThere(draft, target));
    const all = left.map(({ kind, id }) => deleteResource(draft, kind, id));
    return all.includes('more') ? 'more' : 'done';
  };
  await readAhead(keysOf(targets));
  const { present, restarts } = await rehearse((draft) => {
    const found = targets.filter((target) => isThere(draft, target));
    const remove = () => found.map(({ kind, id }) => deleteResource(draft, kind, id));
    return { present: found, restarts: restartsOf(draft, found, remove) };
  });
  for (const note of restarts) out(`warning: ${note}\n`);
  // A Node goes with everything that belongs to it, as with calicoctl.
  const nodes = present.flatMap(({ kind, id }) => (kind === 'Node' ? [id] : []));
  await deleteNodes(context, store, { names: nodes, isForced: false });
  const others = present.filter(({ kind }) => kind !== 'Node');
  const failed = await writeInSteps(others, async (step) => {
    await readAhead(keysOf(step));
    await writeAll(plan(step));
    for (const { kind, id } of step) out(`${kind} ${id} deleted\n`);
  });
  throwFailed(failed, others.length, ({ kind, id }) => [kind, id]);
  return targets.filter((target) => !present.includes(target));
}

/** Throws `datastore/not-found` with all missing resources on one line. */
function throwMissing(missing: readonly Target[]): void {
  const [first, ...others] = missing;
  if (first === undefined) return;
  const names = others.map(({ kind, id }) => (kind === first.kind ? id : `${kind} ${id}`));
  const name = [first.id, ...names].join(', ');
  throw new CalicoError('datastore/not-found', { kind: first.kind, name });
}

/** Throws `cli/partly-written` with the items that were not written, or the error of a single item. */
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
  readonly output: Format;
}

interface SkipOption {
  readonly skipNotExists: boolean;
}

interface FileOption {
  readonly filename: string;
}

interface NamespaceOption {
  readonly namespace?: string | undefined;
}

/** `-n` of calicoctl; without it, resources of all namespaces are shown, because containers have one of their own. */
function namespaceOption(meaning = 'only resources of this namespace'): Option {
  return new Option('-n, --namespace <namespace>', meaning);
}

type Format = (typeof formats)[number];

/** Formats resources; JSON and YAML have the form of calicoctl. */
function formatted(
  format: Format,
  kind: ResourceKind,
  shown: {
    readonly view: View;
    readonly resources: readonly Resource[];
    /** Whether they are all of their kind, not requested by name. */
    readonly isList: boolean;
  },
): string {
  const { view, resources, isList } = shown;
  if (format === 'table' || format === 'ps' || format === 'wide') {
    return formatResources(kind, resources, { view, isWide: format === 'wide' });
  }
  const document = isList ? listOf(kind, resources) : oneOrSeveral(resources.map(ordered));
  return format === 'json' ? `${JSON.stringify(document, null, 2)}\n` : stringify(document);
}

function listOf(kind: ResourceKind, resources: readonly Resource[]): object {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: `${kind}List`,
    metadata: {},
    items: resources.map(ordered),
  };
}

function oneOrSeveral(items: readonly object[]): object {
  return items.length === 1 && items[0] !== undefined ? items[0] : items;
}

/** Returns the resources with these names (also Docker's) and the names not found; without names all resources. */
function selected(
  view: View,
  kind: ResourceKind,
  { names, namespace }: NamespaceOption & { readonly names: readonly string[] },
): { readonly resources: readonly Resource[]; readonly missing: readonly string[] } {
  if (names.length === 0) {
    return { resources: readResources(view, kind).filter(isIn(kind, namespace)), missing: [] };
  }
  const found = names.map((name) => ({ name, resources: named(view, kind, { name, namespace }) }));
  const all = found.flatMap(({ resources }) => resources);
  return {
    resources: [...new Map(all.map((resource) => [resourceId(resource), resource])).values()],
    missing: found
      .filter(({ resources }) => resources.length === 0)
      .map(({ name }) => typedId(kind, name, namespace)),
  };
}

/** Returns a check for resources in a namespace; true without one, and for kinds that have none. */
function isIn(kind: ResourceKind, namespace: string | undefined): (one: Resource) => boolean {
  if (namespace === undefined || !resourceTypeOf[kind].isNamespaced) return () => true;
  return ({ metadata }) => metadata.namespace === namespace;
}

/** Returns the ID that a name of no resource stands for: never one in another namespace. */
function typedId(kind: ResourceKind, name: string, namespace: string | undefined): string {
  const isInOne = namespace !== undefined && resourceTypeOf[kind].isNamespaced;
  return isInOne ? `${namespace}/${name}` : name;
}

/**
 * Returns the resources with a name, in their usual order: the one with that name or Docker's name, with its namespace
 * or in the given or every namespace, or all endpoints of a container.
 */
function named(
  view: View,
  kind: ResourceKind,
  { name, namespace }: NamespaceOption & { readonly name: string },
): readonly Resource[] {
  const exact = readResource(view, kind, name) ?? readResource(view, kind, resourceNameFor(name));
  if (exact !== undefined) return [exact].filter(isIn(kind, namespace));
  if (!resourceTypeOf[kind].isNamespaced) return [];
  const resources = readResources(view, kind).filter(isIn(kind, namespace));
  const inNamespaces = [name, resourceNameFor(name)]
    .map((one) => resources.filter(({ metadata }) => metadata.name === one))
    .find((found) => found.length > 0);
  if (inNamespaces !== undefined) return inNamespaces;
  return resources.filter((one) => one.kind === 'WorkloadEndpoint' && isEndpointNamed(one, name));
}

async function deletionTargets(
  context: CliContext,
  request: {
    readonly word: string | undefined;
    readonly names: readonly string[];
    readonly filename: string | undefined;
    readonly namespace: string | undefined;
  },
): Promise<readonly Target[]> {
  const { word, names, filename, namespace } = request;
  if (filename !== undefined) {
    const resources = parseResources(await readText(filename, context), namespace);
    return resources.map((resource) => ({ kind: resource.kind, id: resourceId(resource) }));
  }
  const kind = resourceKind(word ?? '');
  return context.withStore(({ look }) =>
    look((view) => {
      const ids = names.flatMap((name) => {
        const found = named(view, kind, { name, namespace }).map(resourceId);
        if (new Set(found.map((id) => id.split('/')[0])).size > 1) {
          const why = `ambiguous; use one of ${found.join(', ')}`;
          throw new CalicoError('cli/bad-argument', { what: `${kind} ${name}`, why });
        }
        // Missing resources are reported later, together and with their kind.
        return found.length === 0 ? [typedId(kind, name, namespace)] : found;
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
