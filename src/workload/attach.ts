import type { Draft, Writer } from '../datastore/writer.ts';
import { familyOf } from '../ip/address.ts';
import { endpointAddresses, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { hostInterfaceName, macFor, temporaryInterfaceName } from './interfaces.ts';
import type { Links } from './links.ts';

/** Links a workload to its host, or removes the link. */
export interface WorkloadDeps {
  readonly writer: Writer;
  readonly links: Links;
  /** Resolves when the endpoint is programmed as of that datastore revision. */
  readonly programmed: (endpointId: string, revision: bigint, signal: AbortSignal) => Promise<void>;
}

/** A workload to be linked to its host. */
export interface Attachment<Facts, Result> {
  /** The endpoint as known so far; with its addresses. */
  readonly endpoint: WorkloadEndpoint;
  readonly mtuBytes: number;
  /** Collects facts about the workload while its link is created; the two are independent. Never rejects. */
  readonly facts: Promise<Facts>;
  /** The plan that writes the endpoint according to the facts. */
  readonly write: (draft: Draft, facts: Facts) => Result;
}

/**
 * Creates the veth, writes the endpoint, and resolves when its policy and its routes are programmed: the first packet
 * of a workload already meets its policy. Idempotent. Throws `kernel/refused`, `kernel/not-programmed`, and the errors
 * of the plan and of the datastore.
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
 * Removes a workload's link and its endpoint by a plan. Idempotent; the veth may have disappeared with the network
 * namespace. Throws the errors of the plan and of the datastore.
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
