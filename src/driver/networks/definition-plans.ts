import { isDeepStrictEqual } from 'node:util';
import { expectUser } from '../../datastore/expect-user.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { namespaceOfNetwork, type DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { NetworkDefinition } from '../../model/kinds/network-definition.ts';
import type { NetworkReport } from '../../model/kinds/network-report.ts';
import { annotation, endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import { namespaceOfOptions } from './network-options.ts';
import { networkEntryId } from './networks.ts';

/** Plans about network definitions: of the commands, of the daemon of each host, and of new endpoints. */

/**
 * Writes a new definition; a repeated one changes nothing and ends a removal in progress. Returns the stored one.
 * Throws `driver/definition-differs`.
 */
export function defineNetwork(draft: Draft, wanted: NetworkDefinition): NetworkDefinition {
  const { name } = wanted;
  // The last host that it waited for may be gone for good.
  finishRemoval(draft, name);
  const present = draft.get('NetworkDefinition', name);
  if (present === undefined) {
    draft.put('NetworkDefinition', name, wanted);
    return wanted;
  }
  const { isRemoving, ...kept } = present;
  if (!isDeepStrictEqual(facts(present), facts(wanted))) {
    throw isRemoving === true
      ? new CalicoError('driver/definition-removing', { name, hosts: hostsOf(draft, name) })
      : new CalicoError('driver/definition-differs', { name });
  }
  if (isRemoving === true) draft.put('NetworkDefinition', name, kept);
  return kept;
}

/** What makes two definitions the same one. */
function facts(definition: NetworkDefinition) {
  const { internal, ipv6, subnets, ipPools = [], options, labels } = definition;
  const inOrder = subnets.toSorted((a, b) => (a.cidr < b.cidr ? -1 : 1));
  return { internal, ipv6, subnets: inOrder, ipPools: ipPools.toSorted(), options, labels };
}

/**
 * Marks a definition as removed: the hosts remove their networks. Throws `driver/definition-in-use` with the containers
 * of all hosts on the network. An endpoint created meanwhile either is seen here, because the commit holds only if there
 * is no new one, or sees the mark (`checkNotRemoving`).
 */
export function removeDefinition(draft: Draft, name: string): void {
  const definition = draft.get('NetworkDefinition', name);
  if (definition === undefined) {
    throw new CalicoError('datastore/not-found', { kind: 'network definition', name });
  }
  const networks = networksOf(draft, name);
  // A host without its network yet creates it as defined.
  const namespaces = new Set([
    namespaceOfOptions(definition.options),
    ...Array.from(networks.values(), namespaceOfNetwork),
  ]);
  for (const one of namespaces) draft.expectNoNew('WorkloadEndpoint', `${one}/`);
  const users = usersOf(draft, networks);
  if (users.length > 0) {
    throw new CalicoError('driver/definition-in-use', { name, users: users.join(', ') });
  }
  draft.put('NetworkDefinition', name, { ...definition, isRemoving: true });
  finishRemoval(draft, name);
}

/** Returns the networks of a name on all hosts, by ID. */
function networksOf(draft: Draft, name: string): ReadonlyMap<string, DockerNetwork> {
  const found = new Map<string, DockerNetwork>();
  for (const [id, network] of draft.entries('DockerNetwork')) {
    if (network.name === name) found.set(id, network);
  }
  return found;
}

/** Returns the containers of all hosts on the networks, as `app on host-1`. */
function usersOf(draft: Draft, networks: ReadonlyMap<string, DockerNetwork>): readonly string[] {
  const users: string[] = [];
  for (const [, endpoint] of draft.entries('WorkloadEndpoint')) {
    const { node } = endpoint.spec;
    if (networks.has(networkEntryId(node, annotation(endpoint, 'network') ?? ''))) {
      users.push(`${endpointTitle(endpoint)} on ${node}`);
    }
  }
  return users.toSorted();
}

/**
 * Removes a definition that no host may have a network of any more. Hosts whose Node was deleted do not count; their
 * reports stay, because no node of a cluster can write those of another one, and `node delete` has removed them anyway.
 * A report written or removed meanwhile makes the commit fail. `own`: the host that has removed its report.
 */
function finishRemoval(draft: Draft, name: string, own = ''): void {
  const definition = draft.get('NetworkDefinition', name);
  if (definition?.isRemoving !== true) return;
  const reports = reportsOf(draft, name);
  const waiting = reports.filter(({ node }) => draft.get('Node', node) !== undefined);
  if (waiting.length > 0) {
    const users = waiting.map(({ node }) => `${node}/${name}`);
    expectUser(draft, 'NetworkReport', { own: `${own}/${name}`, users });
    return;
  }
  draft.remove('NetworkDefinition', name);
}

function reportsOf(draft: Draft, name: string): readonly NetworkReport[] {
  const reports: NetworkReport[] = [];
  for (const [, report] of draft.entries('NetworkReport')) {
    if (report.name === name) reports.push(report);
  }
  return reports;
}

function hostsOf(draft: Draft, name: string): string {
  return reportsOf(draft, name)
    .map(({ node }) => node)
    .join(', ');
}

/** The state of a definition on a host. */
export type HostState = Pick<NetworkReport, 'state'> & { readonly why?: string };

/**
 * Writes the report of a host if it changed; `creating` only if there is none. Returns `stale`, and writes nothing, if the
 * definition is another one now, or in removal.
 */
export function reportNetwork(
  draft: Draft,
  definition: NetworkDefinition,
  report: { readonly node: string; readonly now: Date } & HostState,
): 'written' | 'unchanged' | 'stale' {
  const { name, uid, isRemoving } = definition;
  const { node, state, why, now } = report;
  const present = draft.get('NetworkDefinition', name);
  if (present?.uid !== uid || present.isRemoving !== isRemoving) return 'stale';
  const id = `${node}/${name}`;
  const before = draft.get('NetworkReport', id);
  const isReported = before?.uid === uid;
  if (isReported && (state === 'creating' || (before.state === state && before.why === why)))
    return 'unchanged';
  draft.expect('NetworkDefinition', name);
  const facts = { node, name, uid, state, since: now.toISOString() };
  draft.put('NetworkReport', id, why === undefined ? facts : { ...facts, why });
  return 'written';
}

/** Removes the report of a host that has no network of a removed definition, and with the last one the definition. */
export function networkIsGone(draft: Draft, { name, uid }: NetworkDefinition, node: string): void {
  const present = draft.get('NetworkDefinition', name);
  if (present?.uid !== uid || present.isRemoving !== true) return;
  draft.remove('NetworkReport', `${node}/${name}`);
  finishRemoval(draft, name, node);
}

/**
 * For a new endpoint: throws `driver/network-removing` if its network is being removed on all hosts. The commit holds
 * only if that has not changed since.
 */
export function checkNotRemoving(draft: Draft, name: string | undefined): void {
  if (name === undefined) return;
  if (draft.get('NetworkDefinition', name)?.isRemoving === true) {
    throw new CalicoError('driver/network-removing', { name });
  }
  draft.expect('NetworkDefinition', name);
}
