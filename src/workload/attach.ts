import type { Draft, Writer } from '../datastore/writer.ts';
import { familyOf } from '../ip/address.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { hostInterfaceName, macFor, temporaryInterfaceName } from './interfaces.ts';
import type { Links } from './links.ts';

/** What links a workload to its host, or takes the link away. */
export interface WorkloadDeps {
  readonly writer: Writer;
  readonly links: Links;
  /** Resolves when the kernel has what the datastore said of the endpoint at that revision. */
  readonly programmed: (endpointId: string, revision: bigint, signal: AbortSignal) => Promise<void>;
}

/** A workload that is to be linked to its host. */
export interface Attachment<Facts, Result> {
  /** The endpoint as it is known so far; with its addresses. */
  readonly endpoint: WorkloadEndpoint;
  readonly mtuBytes: number;
  /** What somebody is asked of the workload while its link is made, as neither needs the other. Never rejects. */
  readonly facts: Promise<Facts>;
  /** The plan that writes the endpoint as the facts say it is. */
  readonly write: (draft: Draft, facts: Facts) => Result;
}

/**
 * Makes the veth, writes the endpoint, and resolves when the kernel holds its policy and its routes: so the first
 * packet of a workload already meets its policy. It may be repeated. Throws `kernel/refused`,
 * `kernel/not-programmed`, and what the plan or the datastore throws.
 */
export async function attach<Facts, Result>(
  { links, writer, programmed }: WorkloadDeps,
  { endpoint, mtuBytes, facts, write }: Attachment<Facts, Result>,
  signal: AbortSignal,
): Promise<{ readonly facts: Facts; readonly result: Result }> {
  const { endpoint: endpointId, mac } = endpoint.spec;
  await links.createVeth({
    hostName: hostInterfaceName(endpointId),
    peerName: temporaryInterfaceName(endpointId),
    peerMac: mac ?? macFor(endpointId),
    mtuBytes,
    hasIpv6: endpointAddresses(endpoint).some((address) => familyOf(address) === 6),
  });
  const known = await facts;
  const { result, revision } = await writer.write((draft) => write(draft, known), signal);
  await programmed(endpointId, revision, signal);
  return { facts: known, result };
}

/**
 * Takes a workload's link away and removes its endpoint by a plan. It may be repeated, and the veth may have gone
 * with the network namespace. Throws what the plan or the datastore throws.
 */
export async function detach<Result>(
  { links, writer }: Pick<WorkloadDeps, 'links' | 'writer'>,
  { endpointId, write }: { readonly endpointId: string; readonly write: (draft: Draft) => Result },
  signal: AbortSignal,
): Promise<Result> {
  links.removeVeth(hostInterfaceName(endpointId));
  const { result } = await writer.write(write, signal);
  return result;
}
