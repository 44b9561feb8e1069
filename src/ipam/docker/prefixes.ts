import { endpointOf } from '../../cache/endpoint-lookup.ts';
import type { Draft } from '../../datastore/writer.ts';
import { CalicoError } from '../../errors/error.ts';
import { cidrsOverlap, type Cidr } from '../../ip/cidr.ts';
import { endpointTitle } from '../../model/kinds/workload-endpoint.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import { prefixReservation, type IpReservation } from '../../model/kinds/ip-reservation.ts';
import type { UsedRange } from '../pools/default-pools.ts';
import type { Stamp } from '../../model/stamp.ts';
import { removeGivenBack } from './extra-addresses.ts';
import { poolOverlapping, rejectSpecialSubnet } from '../pools/pools.ts';

const newReservation: IpReservation = {
  kind: 'IPReservation',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: prefixReservation },
  spec: {},
};

/** A request for prefixes behind an endpoint. */
export interface PrefixRequest {
  readonly node: string;
  readonly network: Pick<DockerNetwork, 'ipam'>;
  readonly endpointId: string;
  readonly prefixes: readonly Cidr[];
  /** The networks of this host. */
  readonly used: readonly UsedRange[];
}

/**
 * Reserves prefixes behind an endpoint. Throws `ipam/special-subnet`; `ipam/extra-address-needs-ipam`;
 * `ipam/prefix-in-use` if a prefix overlaps an IP pool, a network of this host, or a prefix behind another endpoint of
 * any host.
 */
export function claimPrefixes(
  draft: Draft,
  request: PrefixRequest & { readonly stamp: Stamp },
): void {
  const { network, prefixes, used, stamp } = request;
  for (const prefix of prefixes) {
    rejectSpecialSubnet(prefix);
    // For networks with its own IPAM, Docker does not report which endpoints it has dropped.
    if (network.ipam !== 'calico')
      throw new CalicoError('ipam/extra-address-needs-ipam', { what: `prefix ${prefix}` });
    const pool = poolOverlapping(draft, prefix);
    const range = used.find(({ cidr }) => cidrsOverlap(cidr, prefix));
    const what =
      pool === undefined
        ? ((range && `${range.what} (${range.cidr})`) ?? prefixOfOther(draft, request, prefix))
        : `IP pool ${pool.metadata.name} (${pool.spec.cidr})`;
    if (what !== undefined) throw new CalicoError('ipam/prefix-in-use', { prefix, what });
  }
  const reservation = draft.get('IPReservation', prefixReservation) ?? stamp(newReservation);
  const reservedCIDRs = [...new Set([...allPrefixes(draft), ...prefixes])].toSorted();
  draft.put('IPReservation', prefixReservation, { ...reservation, spec: { reservedCIDRs } });
}

/** Releases the reservation of prefixes whose endpoint was removed in the draft. */
export function releasePrefixes(draft: Draft, prefixes: readonly Cidr[]): void {
  if (prefixes.length === 0) return;
  const reservation = draft.get('IPReservation', prefixReservation);
  if (reservation === undefined) return;
  const reservedCIDRs = allPrefixes(draft);
  if (reservedCIDRs.length === 0) draft.remove('IPReservation', prefixReservation);
  else draft.put('IPReservation', prefixReservation, { ...reservation, spec: { reservedCIDRs } });
}

/**
 * Returns the prefixes behind endpoints of all hosts that overlap the subnet of a new IP pool. The commit holds only if
 * no prefix was claimed or released in the meantime.
 */
export function prefixesInside(draft: Draft, subnet: Cidr): readonly UsedRange[] {
  draft.get('IPReservation', prefixReservation);
  draft.expect('IPReservation', prefixReservation);
  return overlappingPrefixes(draft, subnet).map(({ id, prefix }) => ({
    cidr: prefix,
    what: `the prefix behind container ${titleOf(draft, id)}`,
  }));
}

function allPrefixes(draft: Draft): Cidr[] {
  const all = new Set<Cidr>();
  for (const [, { prefixes }] of draft.briefs('WorkloadEndpoint')) {
    for (const prefix of prefixes) all.add(prefix);
  }
  return [...all].toSorted();
}

function prefixOfOther(
  draft: Draft,
  { node, endpointId }: PrefixRequest,
  requested: Cidr,
): string | undefined {
  const own = endpointOf(draft, node, endpointId)?.id;
  for (const { id, prefix } of overlappingPrefixes(draft, requested)) {
    if (id === own) continue;
    // After a crash, dockerd starts a container again without removing its former endpoint.
    const endpoint = draft.get('WorkloadEndpoint', id);
    if (endpoint?.spec.node === node && removeGivenBack(draft, endpoint)) continue;
    return `prefix ${prefix} behind container ${titleOf(draft, id)}`;
  }
  return undefined;
}

/** Returns the prefixes of all hosts that overlap a network, with the id of their endpoint. */
function overlappingPrefixes(
  draft: Draft,
  network: Cidr,
): readonly { readonly id: string; readonly prefix: Cidr }[] {
  const found: { readonly id: string; readonly prefix: Cidr }[] = [];
  for (const [id, { prefixes }] of draft.briefs('WorkloadEndpoint')) {
    for (const prefix of prefixes) if (cidrsOverlap(prefix, network)) found.push({ id, prefix });
  }
  return found;
}

function titleOf(draft: Draft, id: string): string {
  const endpoint = draft.get('WorkloadEndpoint', id);
  return endpoint === undefined ? id : endpointTitle(endpoint);
}
